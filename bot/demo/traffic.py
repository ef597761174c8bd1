"""Live traffic: units ask, the assignment service picks a variant, its model plans, people react."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from bot.demo import clock
from bot.demo.assignment import Units, read_units
from bot.demo.outcomes import (
    AssignmentRow,
    EventRow,
    Place,
    Planned,
    checked,
    events_of,
    place,
    worsened,
    write_assignments,
    write_events,
)
from core.db import transaction
from core.errors import Refused
from core.experiments import serving
from core.tables import Experiment
from core.variants import linked_version, variants

PLANS_A_SECOND = 3.0
_TICK_S = 0.2
_REFRESH_S = 1.0
_MODEL_RETRY_S = 30.0
_PAUSE_S = 3.0
_LONGEST_WAIT_S = 20.0
_PATIENCE_MS = 10_000

LoadModel = Callable[[str], Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """A variant as the serving back end sees it; without `model_uri` there is nothing to serve."""

    share: Decimal
    where: Place
    model_uri: str | None
    config: Mapping[str, float]


@dataclass(frozen=True)
class Running:
    """An active experiment, its arms in the order the variants were created."""

    experiment_id: uuid.UUID
    unit_type: str
    arms: Mapping[uuid.UUID, Arm]


def read_running(session: Session) -> list[Running]:
    """The active experiments as they stand now."""
    active = select(Experiment).where(Experiment.status == "active").order_by(Experiment.created_at, Experiment.id)
    return [Running(e.id, e.unit_type, _arms(session, e)) for e in session.scalars(active).all()]


def _arms(session: Session, experiment: Experiment) -> dict[uuid.UUID, Arm]:
    found = {}
    for variant in variants(session, experiment):
        version = linked_version(session, variant)
        where = place(experiment.unit_type, experiment.id, variant.id, version.id if version else None)
        model_uri, config = None, {}
        if version is not None:
            try:
                served = serving(session, policy_version=version, params=(variant.config or {}).get("params") or {})
                model_uri, config = served.model_uri, _numbers(served.config)
            except Refused:
                pass  # a policy version without a model: nothing to serve, like a variant without a policy version
        found[variant.id] = Arm(variant.allocation, where, model_uri, config)
    return found


def _numbers(config: Mapping[str, Any]) -> dict[str, float]:
    """What the demo's planner takes of a configuration; a team may keep other things in it."""
    return {key: float(value) for key, value in config.items() if isinstance(value, int | float)}


class Models:
    """The models that serve; one that fails is left alone for half a minute, and the others go on."""

    def __init__(self, load_model: LoadModel) -> None:
        self._load = load_model
        self._loaded: dict[str, Any] = {}
        self._retry_at: dict[str, float] = {}

    def plan(self, uri: str, unit_id: str, day: str, config: Mapping[str, float]) -> Planned | None:
        """The model's answer, or None while it cannot be loaded or cannot answer; the log says why, once a try."""
        if time.monotonic() < self._retry_at.get(uri, 0.0):
            return None
        try:
            if uri not in self._loaded:
                self._loaded[uri] = self._load(uri)
            return checked(self._loaded[uri].predict([{"unit_id": unit_id, "day": day, "config": dict(config)}])[0])
        except Exception as error:  # anybody may register any model here, and it may fail in any way
            self._retry_at[uri] = time.monotonic() + _MODEL_RETRY_S
            self._loaded.pop(uri, None)
            log.warning("traffic: %s does not serve: %s", uri, _one_line(error))
            return None


class Traffic:
    """A thread that plays live traffic until it is stopped; what the demo slept through stays a gap.

    It goes by the demo's clock. What the models in `worse` (variant ids) plan turns out worse than they say.
    """

    def __init__(
        self,
        engine: Engine,
        load_model: LoadModel,
        *,
        seed: int,
        rate: float = PLANS_A_SECOND,
        parts: Mapping[uuid.UUID, float] | None = None,
    ) -> None:
        """`rate` is plans a second of each active experiment; of those in `parts` it is that part of it."""
        self.worse: set[uuid.UUID] = set()
        self._engine = engine
        self._models = Models(load_model)
        self._rng = np.random.default_rng(seed)
        self._rate = rate
        self._parts = parts or {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-traffic", daemon=True)
        self._turn = threading.Lock()
        self._running: list[Running] = []
        self._units: dict[uuid.UUID, Units] = {}
        self._ahead = timedelta()
        self._read_at = -_REFRESH_S
        self._coming: list[tuple[datetime, int, EventRow]] = []
        self._order = itertools.count()
        self._is_down = False

    def start(self) -> None:
        """Begins at once; models are loaded as they are needed."""
        self._thread.start()

    def stop(self, patience_s: float = 1.0) -> None:
        """Ends within `patience_s`; what people were about to do is stored as done now where that is time enough."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=patience_s)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody asks meanwhile.

        Raises:
            Refused: where somebody else has paused it for long, or a model takes long to load.
        """
        if not self._turn.acquire(timeout=_LONGEST_WAIT_S):
            raise Refused("Something else is being simulated. Try again when that is done.")
        try:
            yield
        except BaseException:
            self._units.clear()  # some of them may never have been stored
            raise
        finally:
            self._read_at = -_REFRESH_S
            self._turn.release()

    # These are for whoever has paused it.

    def running(self) -> list[Running]:
        """The active experiments as they stand now."""
        self._refresh()
        return self._running

    def asked(
        self, here: Running, times: Iterable[datetime], *, pause_s: float = _PAUSE_S
    ) -> tuple[list[AssignmentRow], list[EventRow]]:
        """What happens when units ask at these times."""
        assigned: list[AssignmentRow] = []
        happening: list[EventRow] = []
        for at in times:
            self._plan(here, at, assigned, happening, pause_s)
        return assigned, happening

    def expect(self, rows: Iterable[EventRow]) -> None:
        """These events are stored as soon as it is their time."""
        for row in rows:
            heapq.heappush(self._coming, (row.timestamp, next(self._order), row))

    def overdue(self, now: datetime) -> list[EventRow]:
        """Events whose time has come and that nobody else will store any more."""
        found: list[EventRow] = []
        while self._coming and self._coming[0][0] <= now:
            found.append(heapq.heappop(self._coming)[2])
        return found

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(_TICK_S):
            with self._turn:
                elapsed, last = min(time.monotonic() - last, 2 * _REFRESH_S), time.monotonic()
                self._attempt(partial(self._step, elapsed))
        self._attempt(self._finish)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def _attempt(self, action: Callable[[], None]) -> None:
        """Runs `action`; while the database is away it says so once, and everything is read anew afterwards."""
        try:
            action()
        except (Refused, SQLAlchemyError, psycopg.Error) as error:
            if not self._is_down and not self._stopping.is_set():
                log.warning("traffic: waiting for the database: %s", _one_line(error))
            self._is_down = True
            self._running, self._units, self._read_at = [], {}, time.monotonic()
        else:
            if self._is_down and self._running:
                self._is_down = False
                log.info("traffic: going on")

    def _step(self, elapsed_s: float) -> None:
        if time.monotonic() - self._read_at >= _REFRESH_S:
            self._refresh()
        now = self._now()
        assigned: list[AssignmentRow] = []
        happening: list[EventRow] = []
        for here in self._running:
            expected = self._rate * self._parts.get(here.experiment_id, 1.0) * elapsed_s
            for _ in range(self._rng.poisson(expected)):
                self._plan(here, now, assigned, happening, _PAUSE_S)
        due = [row for when, _, row in self._coming if when <= now]
        self._store(assigned, [*(row for row in happening if row.timestamp <= now), *due])
        while self._coming and self._coming[0][0] <= now:
            heapq.heappop(self._coming)
        self.expect(row for row in happening if row.timestamp > now)

    def _refresh(self) -> None:
        with transaction(self._engine, patience_ms=_PATIENCE_MS) as session:
            running, self._ahead = read_running(session), clock.ahead(session)
            for each in running:
                if each.experiment_id not in self._units:
                    self._units[each.experiment_id] = read_units(session, each.experiment_id, each.unit_type)
        for each in running:
            self._units[each.experiment_id].forget_all_but(set(each.arms))
        self._running, self._read_at = running, time.monotonic()

    def _plan(
        self,
        here: Running,
        now: datetime,
        assigned: list[AssignmentRow],
        happening: list[EventRow],
        pause_s: float,
    ) -> None:
        """One unit asks one experiment's policy for a plan; rows are added to the two lists."""
        units = self._units[here.experiment_id]
        unit_id = units.visitor(self._rng)
        variant_id, is_new = units.assign(unit_id, [(key, arm.share) for key, arm in here.arms.items()])
        if variant_id is None:
            return
        if is_new:
            assigned.append(AssignmentRow(new_id(), here.experiment_id, here.unit_type, unit_id, variant_id, now))
        arm = here.arms[variant_id]
        if arm.model_uri is None:
            return
        planned = self._models.plan(arm.model_uri, unit_id, now.date().isoformat(), arm.config)
        if planned is not None:
            planned = worsened(planned) if variant_id in self.worse else planned
            happening += events_of(planned, arm.where, unit_id, now, self._rng, new_id, pause_s=pause_s)

    def _store(self, assigned: list[AssignmentRow], events: list[EventRow]) -> None:
        if not assigned and not events:
            return
        with transaction(self._engine, patience_ms=_PATIENCE_MS) as session:
            write_assignments(session, assigned)
            write_events(session, events)

    def _finish(self) -> None:
        """The last acts, each at a moment of its own, for two edits at one moment count as one."""
        now = self._now()
        rows = [row for _, _, row in sorted(self._coming)]
        moments = [now - timedelta(microseconds=len(rows) - at) for at in range(len(rows))]
        self._store([], [row._replace(timestamp=when) for row, when in zip(rows, moments, strict=True)])
        self._coming.clear()


def new_id() -> str:
    """An id that no seed determines: a second run of the same seed writes into the same tables."""
    return str(uuid.uuid4())


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
