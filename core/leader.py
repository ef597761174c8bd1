"""Who leads: of all processes at one database, one does the scheduled jobs; the database says which.

Three things hold together. An advisory lock, held by a session of its own, goes to one process at most. The server
ends that session where no heartbeat comes, so a process that is frozen loses the lock as surely as one that died. And
every transaction of a job passes a fence: it checks that the lock is still held, and whoever takes over first ends
what passed the check before; so no job of a former leader commits once the next one has begun.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from core import connections, db

HEARTBEAT_S = 1.0
HELD_MS = 6_000
"""How long the lock outlives the last heartbeat."""
LOCK_MS = HELD_MS // 2
_CLASS = 7_203_442
_LEAD, _FENCE = 1, 2

_OURS = """
    l.locktype = 'advisory' AND l.classid = :class AND l.objid = :key AND l.objsubid = 2 AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_MINE = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_STILL = text(f"""
    SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE {_OURS} AND l.pid = :pid AND a.backend_start = :since)""")
_END_OTHERS = text(f"SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE {_OURS}")
_ANYBODY = text(f"SELECT EXISTS (SELECT FROM pg_locks l WHERE {_OURS})")


class NotLeading(Exception):
    """This process does not lead, or not any more: its job ends here, and the one who leads does the rest."""


def is_led(session: Session) -> bool:
    """True while some process leads, whichever."""
    return bool(session.execute(_ANYBODY, {"class": _CLASS, "key": _LEAD}).scalar_one())


class Leadership:
    """One process's hold on the lead; kept by calling `beat` every HEARTBEAT_S."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._seat: tuple[int, datetime] | None = None

    @property
    def is_held(self) -> bool:
        """What was so at the last heartbeat; what matters is decided by `fence`."""
        return self._seat is not None

    def beat(self) -> None:
        """Holds on to the lead, or takes it where nobody has it.

        Raises:
            DBAPIError: where the database does not answer or has ended the session; the lead is lost then.
        """
        try:
            if self._connection is None:
                self._connection = self._connected()
            if self._seat is None:
                self._seat = self._taken(self._connection)
            else:
                self._connection.execute(text("SELECT 1"))
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Gives up the lead at once, where it is held."""
        self._seat = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # it is nobody else's, and is never given back
        connections.bound(connection, (LOCK_MS + db.SILENT_MS) / 1_000)
        connection.execute(text(f"SET idle_session_timeout = {HELD_MS}"))
        connection.execute(text(f"SET lock_timeout = {LOCK_MS}"))
        return connection

    def _taken(self, connection: Connection) -> tuple[int, datetime] | None:
        keys = {"class": _CLASS, "key": _LEAD}
        if not connection.execute(text("SELECT pg_try_advisory_lock(:class, :key)"), keys).scalar_one():
            return None
        keys["key"] = _FENCE
        connection.execute(_END_OTHERS, keys)
        connection.execute(text("SELECT pg_advisory_lock(:class, :key)"), keys)  # until they have ended
        connection.execute(text("SELECT pg_advisory_unlock(:class, :key)"), keys)
        pid, since = connection.execute(_MINE).one()
        return pid, since

    def fence(self, session: Session) -> None:
        """Lets a transaction pass only while this process leads, and has the next leader end it before it begins.

        Raises:
            NotLeading: where it does not lead.
        """
        seat = self._seat
        if seat is None:
            raise NotLeading
        session.execute(text("SELECT pg_advisory_xact_lock_shared(:class, :key)"), {"class": _CLASS, "key": _FENCE})
        keys = {"class": _CLASS, "key": _LEAD, "pid": seat[0], "since": seat[1]}
        if not session.execute(_STILL, keys).scalar_one():
            raise NotLeading
