"""The workspace's memory: one SQLite file, every change committed before anyone is told of it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE TABLE IF NOT EXISTS message (
    channel TEXT NOT NULL, ts TEXT NOT NULL, for_user TEXT, body TEXT NOT NULL,
    PRIMARY KEY (channel, ts)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob (id TEXT PRIMARY KEY, content BLOB NOT NULL);
"""


class Store:
    """Records by kind and id, messages by channel and ts, and file contents."""

    def __init__(self, path: Path | None) -> None:
        # Only one thread writes at a time: the maker before the start, the server's own thread after it.
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # enough for SIGKILL; only a power cut may lose the last writes
        self._db.executescript(SCHEMA)
        self._depth = 0

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All changes made inside are kept, or none."""
        if self._depth:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            self._depth = 0

    def get(self, kind: str, record_id: str) -> Json | None:
        """The record, or None."""
        row = self._db.execute("SELECT body FROM record WHERE kind = ? AND id = ?", (kind, record_id)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, record_id: str, body: Json) -> None:
        """Keep the record, replacing what was there."""
        self._db.execute(
            "INSERT INTO record (kind, id, body) VALUES (?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (kind, record_id, json.dumps(body)),
        )

    def all(self, kind: str) -> list[Json]:
        """Every record of the kind, oldest first."""
        rows = self._db.execute("SELECT body FROM record WHERE kind = ? ORDER BY number", (kind,))
        return [json.loads(row[0]) for row in rows]

    def put_message(self, message: Json) -> None:
        """Keep a message, replacing the one of the same channel and ts."""
        self._db.execute(
            "INSERT INTO message (channel, ts, for_user, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (channel, ts) DO UPDATE SET body = excluded.body",
            (message["channel"], message["ts"], message.get("for_user"), json.dumps(message)),
        )

    def message(self, channel: str, ts: str) -> Json | None:
        """The message, deleted or not, or None."""
        row = self._db.execute("SELECT body FROM message WHERE channel = ? AND ts = ?", (channel, ts)).fetchone()
        return json.loads(row[0]) if row else None

    def messages(self, channel: str, reader: str | None = None) -> list[Json]:
        """The channel's messages oldest first, with the ephemeral ones of `reader`."""
        rows = self._db.execute(
            "SELECT body FROM message WHERE channel = ? AND (for_user IS NULL OR for_user = ?) ORDER BY ts",
            (channel, reader),
        )
        found = [json.loads(row[0]) for row in rows]
        return [message for message in found if not message.get("deleted")]

    def put_blob(self, blob_id: str, content: bytes) -> None:
        """Keep the content of a file."""
        self._db.execute("INSERT OR REPLACE INTO blob (id, content) VALUES (?, ?)", (blob_id, content))

    def blob(self, blob_id: str) -> bytes | None:
        """The content of a file, or None."""
        row = self._db.execute("SELECT content FROM blob WHERE id = ?", (blob_id,)).fetchone()
        return bytes(row[0]) if row else None
