"""Looks at the database that end in time, whatever the database does: for whoever watches over the bot."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect

from core import db
from core.db import Session
from core.errors import Refused

FRESH_S = 3.0
"""How long what was seen is good for: however many ask, the database is asked no more often."""

T = TypeVar("T")


class NoAnswer(Exception):
    """Why nothing could be read: a sentence without an address, a name or a statement in it."""


class Probe(Generic[T]):
    """Reads something over a connection of its own, so that it has to wait for nobody, one look at a time."""

    def __init__(self, engine: Engine, read: Callable[[Session], T], *, within_s: float) -> None:
        self._engine = db.connect(engine.url.render_as_string(hide_password=False), pool_size=1)
        self._read = read
        self._within_s = within_s
        self._lock = threading.Lock()
        self._found: Future[T] | None = None
        self._began = 0.0
        self._wire: socket.socket | None = None
        event.listen(self._engine, "do_connect", self._connect)

    def look(self) -> T:
        """What is so, or was a moment ago.

        Raises:
            NoAnswer: where the database cannot be read, or not in time.
        """
        with self._lock:
            if self._found is None or self._is_stale(self._found):
                self._found, self._began = Future(), time.monotonic()
                threading.Thread(target=self._look, args=(self._found,), name="probe", daemon=True).start()
            found = self._found
        try:
            return found.result(self._within_s)
        except TimeoutError:
            self._cut()
            raise NoAnswer(f"The database did not answer within {self._within_s:g} s.") from None
        except Refused as refused:
            raise NoAnswer(str(refused).partition(". ")[0] + ".") from refused
        except Exception as error:
            raise NoAnswer(f"The database cannot be read ({type(error).__name__}).") from error

    def close(self) -> None:
        """Gives up the connection."""
        self._cut()
        self._engine.dispose()

    def _is_stale(self, found: Future[T]) -> bool:
        return found.done() and (found.exception() is not None or time.monotonic() - self._began > FRESH_S)

    def _look(self, found: Future[T]) -> None:
        try:
            patience_ms = int(self._within_s * 1000)
            with db.transaction(self._engine, patience_ms=patience_ms, only_reads=True) as session:
                seen = self._read(session)
        except BaseException as error:
            found.set_exception(error)
        else:
            found.set_result(seen)

    def _connect(self, dialect: Dialect, _: object, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        made = dialect.connect(*args, **keywords)
        # A handle of our own: the number of the connection's may be another's by the time that it is cut.
        handle = socket.socket(fileno=os.dup(made.fileno()))
        with self._lock:
            former, self._wire = self._wire, handle
        if former is not None:
            former.close()
        return made

    def _cut(self) -> None:
        """Ends the connection, since a server that is gone without a word would be waited for for ever."""
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()
