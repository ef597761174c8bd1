"""Ctrl-C and SIGTERM: the first has the bot finish what it holds, within a time; the second ends it at once."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONCE_S = 1.0
"""How long a signal may go on coming in and is still the same one: some send it to the process and to its group."""
STOP_S = 9.0
"""A second less than what runs containers gives them at least. What is not finished by then, the next start does."""


class Told:
    """Whether the process was told to stop; `event` is set once it was, and then it ends in time whatever hangs."""

    def __init__(self, heard: socket.socket, ends_within_s: float | None) -> None:
        self.event = threading.Event()
        self._heard = heard
        self._ends_within_s = ends_within_s
        self._interrupts = False
        self._was_heard = False
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def hear(self, number: int, frame: FrameType | None = None) -> None:
        """Called by the main thread, as soon as it can; whoever listens knows of the signal before."""
        self._was_heard = True
        if self._interrupts:
            self._interrupts = False
            raise KeyboardInterrupt

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """In this block nothing is held yet: a signal ends at once what the main thread does or waits for.

        Raises:
            KeyboardInterrupt: on a signal, and where one came before.
        """
        self._interrupts = True
        try:
            if self._was_heard:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    def _listen(self) -> None:
        with self._heard:
            first = self._next_signal()
            if first is not None:
                self._stop(first)

    def _stop(self, first: str) -> None:
        self.event.set()
        log.info("told to stop", extra={"signal": first})
        if self._ends_within_s is not None:
            threading.Thread(target=self._end_in_time, args=(self._ends_within_s,), name="stop", daemon=True).start()
        heard_at = time.monotonic()
        while (again := self._next_signal()) is not None:
            if time.monotonic() - heard_at > ONCE_S:
                log.warning("ended at once, told a second time; the next start goes on", extra={"signal": again})
                _end(128 + signal.Signals[again])

    def _next_signal(self) -> str | None:
        """The name of the next signal; None once nobody listens any more."""
        while number := self._heard.recv(1):
            if number[0] in SIGNALS:
                return signal.Signals(number[0]).name
        return None

    def _end_in_time(self, within_s: float) -> None:
        time.sleep(within_s)
        log.warning("not everything ended in time; the next start goes on with the rest", extra={"busy": _busy()})
        _end(0)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    os._exit(code)


def _busy() -> list[str]:
    return sorted(one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread())


@contextmanager
def until_told(ends_within_s: float | None = None) -> Iterator[Told]:
    """What Ctrl-C or SIGTERM tells; after it the process ends within this time, even where something hangs."""
    # Written to where the signal arrives, whichever thread that is in, and whatever the main thread waits for.
    writes, reads = socket.socketpair()
    writes.setblocking(False)
    told = Told(reads, ends_within_s)
    before = {number: signal.signal(number, told.hear) for number in SIGNALS}
    woken = signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
    try:
        yield told
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        writes.close()


def leave() -> NoReturn:
    """Ends the process now: what could be finished is, and threads that were given up are not waited for."""
    log.info("stopped")
    _end(0)
