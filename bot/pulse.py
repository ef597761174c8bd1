"""What a process knows of itself: what it counts, which of its threads must live, and where it looks for the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Literal

from bot.meters import Meters
from core import db, vitals
from core.db import Engine
from core.probe import Probe
from core.settings import Settings
from core.vitals import Readiness, Vitals

STUCK_S: Final = 900.0
"""A thread that beats and has been silent for so long will not go on by itself. Nothing that it does takes as long."""
READY: Final = {"within_s": 0.6, "fresh_s": 1.0}
COUNTED: Final = {"within_s": 2.0, "fresh_s": 3.0}

Phase = Literal["starting", "running", "stopping"]


class Pulse:
    """Filled in by the parts as they start; asked by whoever watches over the process, at any time."""

    def __init__(self, *, stuck_s: float = STUCK_S) -> None:
        self._stuck_s = stuck_s
        self.meters = Meters()
        self.phase: Phase = "starting"
        self.is_connected: Callable[[], bool] | None = None
        """Whether there is a connection to Slack; None where Slack comes to us."""
        self.leads: Callable[[], bool] = bool
        self.has_registry: Callable[[], bool] = bool
        """Whether MLflow is loaded."""
        self.connections: Callable[[], int] = int
        """To the database, taken from the pool."""
        self.differing: tuple[str, ...] = ()
        """The settings of which the process that started last has other values."""
        self.readiness: Probe[Readiness] | None = None
        self.vitals: Probe[Vitals] | None = None
        self._threads: dict[threading.Thread, float | None] = {}

    @contextmanager
    def of(self, engine: Engine, settings: Settings) -> Iterator[None]:
        """Looks at this database until the end of the block."""
        ready = Probe(engine, vitals.readiness, **READY)
        counted = Probe(engine, partial(vitals.vitals, schedule_of=settings.schedule_of), **COUNTED)
        self.connections, self.readiness, self.vitals = partial(db.in_use, engine), ready, counted
        try:
            yield
        finally:
            self.readiness = self.vitals = None
            ready.close()
            counted.close()

    def needs(self, thread: threading.Thread) -> None:
        """From now on this thread has to live."""
        self._threads[thread] = None

    def beat(self) -> None:
        """The calling thread goes on; from now on it has to say so again and again."""
        self._threads[threading.current_thread()] = time.monotonic()

    @property
    def faults(self) -> tuple[str, ...]:
        """The threads that have ended or hang; none once the process is told to stop."""
        if self.phase == "stopping":
            return ()
        now, found = time.monotonic(), list(self._threads.items())
        ended = (f"{thread.name} has ended" for thread, _ in found if not thread.is_alive())
        stuck = (f"{thread.name} hangs" for thread, beat in found if beat is not None and now - beat > self._stuck_s)
        return (*ended, *stuck)
