"""Looks at the database that end in time, whatever the database does: for whoever watches over the bot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from core import db
from core.db import Engine, Session
from core.errors import Refused

T = TypeVar("T")


class NoAnswer(Exception):
    """Why nothing could be read: a sentence without an address, a name or a statement in it."""


class Probe(Generic[T]):
    """Reads something over a connection of its own, so that it has to wait for nobody, one look at a time.

    It answers `within_s` or not at all. What was seen is good for `fresh_s`: however many ask, it looks no more often.
    """

    def __init__(self, engine: Engine, read: Callable[[Session], T], *, within_s: float, fresh_s: float) -> None:
        self._engine = db.connect(engine.url.render_as_string(hide_password=False), pool_size=1)
        self._read = read
        self._within_s, self._fresh_s = within_s, fresh_s
        self._lock = threading.Lock()
        self._found: Future[T] | None = None
        self._began = 0.0

    def look(self) -> T:
        """What is so, or was a moment ago.

        Raises:
            NoAnswer: where the database cannot be read, or not in time.
        """
        with self._lock:
            if self._found is None or self._is_stale(self._found):
                self._found = self._begun()
            found = self._found
        try:
            return found.result(self._within_s)
        except TimeoutError:  # the look itself ends later: no connection waits for ever
            raise NoAnswer(f"The database did not answer within {self._within_s:g} s.") from None
        except Refused as refused:
            raise NoAnswer(str(refused).partition(". ")[0] + ".") from refused
        except Exception as error:
            raise NoAnswer(f"The database cannot be read ({type(error).__name__}).") from error

    def close(self) -> None:
        """Gives up the connection."""
        self._engine.dispose()

    def _begun(self) -> Future[T]:
        found: Future[T] = Future()
        self._began = time.monotonic()
        try:
            threading.Thread(target=self._look, args=(found,), name="probe", daemon=True).start()
        except RuntimeError as error:  # no thread is left; the next look tries again
            found.set_exception(error)
        return found

    def _is_stale(self, found: Future[T]) -> bool:
        return found.done() and (found.exception() is not None or time.monotonic() - self._began > self._fresh_s)

    def _look(self, found: Future[T]) -> None:
        try:
            patience_ms = int(self._within_s * 1_000)
            with db.transaction(self._engine, patience_ms=patience_ms, only_reads=True) as session:
                seen = self._read(session)
        except BaseException as error:
            found.set_exception(error)
        else:
            found.set_result(seen)
