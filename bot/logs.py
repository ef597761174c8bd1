"""The log: one object or one line for each event, on stderr, in the same form whoever it comes from.

A page of standard library, and not a package: what is left to do is to leave out what must not be told.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from core import trace

Form = Literal["json", "text"]
OURS = ("bot", "core", "promotion-bot")
"""Our own loggers tell what was done; the others only what is wrong."""
LONGEST = 500
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _first_line(said: str) -> str:
    """What comes after it may be anything: the rows that PostgreSQL refused, the body of a request."""
    return next(iter(said.strip().splitlines()), "")[:LONGEST]


def _trace_of(error: BaseException) -> str:
    """Where an exception came from, with those behind it."""
    found = traceback.TracebackException.from_exception(error)
    return "\n".join(part.rstrip() if part.startswith("  ") else _first_line(part) for part in found.format())


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says: when, how bad, where, what, the id of what is under way, and what else is known of it."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": _first_line(record.getMessage()),
    }
    found |= trace.about()
    found |= {key: said for key, said in vars(record).items() if key not in _USUAL}
    if record.exc_info and record.exc_info[1] is not None:
        found["trace"] = _trace_of(record.exc_info[1])
    return found


class AsJson(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; what JSON does not know is written as Python shows it."""
        return json.dumps(fields(record), ensure_ascii=False, default=str)


class AsText(logging.Formatter):
    """A line for people, the trace of an exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The same as in JSON, in the same order."""
        found = fields(record)
        message = _printed(found.pop("message"))
        head = f"{found.pop('time')} {found.pop('level')} {found.pop('logger')}: {message}"
        below = found.pop("trace", None)
        more = "".join(f" {key}={_worded(said)}" for key, said in found.items())
        return head + more + (f"\n{below}" if below else "")


def _worded(said: object) -> str:
    """A value in a line of text; in quotes where it has blanks in it, so that one value never looks like two."""
    plain = str(said)
    return f'"{_printed(plain)}"' if " " in plain else _printed(plain)


def _printed(said: str) -> str:
    """Without what would move a terminal's cursor, or look like another line."""
    return said if said.isprintable() else said.encode("unicode_escape").decode()


FORMS: Mapping[Form, type[logging.Formatter]] = {"json": AsJson, "text": AsText}


class Stderr(logging.Handler):
    """Writes to whatever stderr is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, at once."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def set_up(form: Form | None, *, tells: bool) -> None:
    """From now on everything goes to stderr in this form: unless said, as text to a terminal, else as JSON.

    What is wrong is always told; what was done where it `tells`.
    """
    handler = Stderr()
    handler.setFormatter(FORMS[form or ("text" if sys.stderr.isatty() else "json")]())
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one, Stderr)]:
        root.removeHandler(before)
    root.addHandler(handler)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO if tells else logging.NOTSET)
    logging.captureWarnings(True)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _ended
    # Bolt reads SLACK_BOT_TOKEN by itself and warns that the client, made from the same one, goes first.
    logging.getLogger("slack_bolt.App").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "`token` will be unused" not in record.getMessage()


def _ended(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        error = what.exc_value
        logging.getLogger(__name__).error("a thread has ended", exc_info=(type(error), error, error.__traceback__))
