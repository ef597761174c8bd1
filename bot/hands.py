"""The bot's threads: some answer within Slack's 3 s, the others do afterwards what may take longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

from bot.pools import Pool

log = logging.getLogger(__name__)

LISTENERS = 10
READERS = 4
TELLERS = 6
"""Listeners, readers, the three deliverers and the three threads of jobs each hold at most one of the 24 connections
to the database, and catching up holds three more."""
FINISH_S = 4.0


class Hands:
    """Three sets of threads, so that a registry or a Slack that hangs never holds up an acknowledgement."""

    def __init__(self) -> None:
        self._listeners = Pool(LISTENERS, "listen")
        self._readers = Pool(READERS, "read")
        self._tellers = Pool(TELLERS, "tell")

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
        """Finishes what is held, in the order in which the one hands on to the other; what takes long is given up."""
        until = time.monotonic() + FINISH_S
        pools = self._listeners, self._readers, self._tellers
        left = sum(pool.finish(until) for pool in pools)
        if left:
            for pool in pools:
                pool.give_up()
            log.warning("what was decided stands, but not everybody was answered", extra={"left": left})


def _logged(work: Callable[[], object]) -> None:
    """Nobody waits for these threads, so what fails in them is told to the log."""
    try:
        work()
    except Exception:
        log.exception("something failed after it was acknowledged")
