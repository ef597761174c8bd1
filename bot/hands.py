"""The bot's threads: some answer within Slack's 3 s, the others do afterwards what may take longer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

log = logging.getLogger(__name__)

LISTENERS = 10
READERS = 4
TELLERS = 6
"""Listeners, readers, the three deliverers and the three threads of jobs each hold at most one of the 24 connections
to the database, and catching up holds three more."""


class Hands:
    """Three sets of threads, so that a registry or a Slack that hangs never holds up an acknowledgement."""

    def __init__(self) -> None:
        self._listeners = ThreadPoolExecutor(LISTENERS, "listen")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._tellers = ThreadPoolExecutor(TELLERS, "tell")

    @property
    def listeners(self) -> Executor:
        """What Bolt runs its listeners on."""
        return self._listeners

    def read(self, work: Callable[[], object]) -> None:
        """Does what measures traffic or asks the registry, after the acknowledgement."""
        self._readers.submit(_logged, work)

    def tell(self, work: Callable[[], object]) -> None:
        """Calls Slack, after the acknowledgement."""
        self._tellers.submit(_logged, work)

    def finish(self) -> None:
        """Waits for what is held, in the order in which the one hands on to the other."""
        for pool in (self._listeners, self._readers, self._tellers):
            pool.shutdown()


def _logged(work: Callable[[], object]) -> None:
    """Nobody waits for these threads, so what fails in them is told to the log."""
    try:
        work()
    except Exception:
        log.exception("something failed after it was acknowledged")
