"""Ctrl-C and SIGTERM: the first has the bot finish what it holds, within a time; the second ends it at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_S = 9.0
"""A second less than what runs containers gives them at least. What is not finished by then, the next start does."""


class Told:
    """Whether the process was told to stop; `event` is set once it was, and then it ends in time whatever hangs."""

    def __init__(self, ends_within_s: float | None) -> None:
        self.event = threading.Event()
        # An event must not be set where the signal arrives, which may be where somebody is about to wait for it.
        self._heard: SimpleQueue[int] = SimpleQueue()
        self._ends_within_s = ends_within_s
        self._interrupts = False
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def hear(self, number: int, frame: FrameType | None = None) -> None:
        """Called with the first signal; the next one is left to the system, which ends the process."""
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._heard.put(number)
        if self._interrupts:
            raise KeyboardInterrupt

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """In this block nothing is held yet: a signal ends at once what the main thread does or waits for.

        Raises:
            KeyboardInterrupt: on a signal, and where one came before.
        """
        self._interrupts = True
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    def _listen(self) -> None:
        name = signal.Signals(self._heard.get()).name
        self.event.set()
        log.info("told to stop", extra={"signal": name})
        if self._ends_within_s is not None:
            time.sleep(self._ends_within_s)
            log.warning("not everything ended in time; the next start goes on with the rest", extra={"busy": _busy()})
            sys.stdout.flush()
            os._exit(0)


def _busy() -> list[str]:
    return sorted(one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread())


@contextmanager
def until_told(ends_within_s: float | None = None) -> Iterator[Told]:
    """What Ctrl-C or SIGTERM tells; after it the process ends within this time, even where something hangs."""
    told = Told(ends_within_s)
    before = {number: signal.signal(number, told.hear) for number in SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave() -> NoReturn:
    """Ends the process now: what could be finished is, and threads that were given up are not waited for."""
    log.info("stopped")
    sys.stdout.flush()
    os._exit(0)
