"""Days of traffic on one experiment, as event ingestion and assignment would have stored them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot.demo import planner
from bot.demo.assignment import Units, unit_name
from bot.demo.outcomes import AssignmentRow, EventRow, NewId, Place, events_of
from bot.demo.planner import Behaviour

PLANS_A_DAY = 2_000
PEOPLE = 4_000
_THERE_FROM_THE_START = 0.6
PAUSE_S = 45.0

_WEEKDAYS = np.array([1.06, 0.98, 0.96, 0.97, 0.93, 0.95, 1.15])
_NIGHT = [0.2, 0.1, 0.1, 0.1, 0.1, 0.3]
_MORNING = [0.8, 1.3, 1.3, 1.0, 1.1, 1.6]
_AFTERNOON = [1.5, 0.9, 0.8, 1.0, 1.6, 2.4]
_EVENING = [2.3, 1.7, 1.4, 1.1, 0.8, 0.5]
_HOURS = np.array(_NIGHT + _MORNING + _AFTERNOON + _EVENING)
_WEEKDAY_WEIGHTS = _WEEKDAYS / _WEEKDAYS.mean()
_HOUR_WEIGHTS = _HOURS / _HOURS.sum()

_LATE, _REPEATED, _MALFORMED = 0.002, 0.002, 0.001
_MOST_LATE_S = 7 * 86_400

Floats = NDArray[np.float64]


def id_maker(rng: np.random.Generator) -> NewId:
    """Random ids that the generator's seed determines."""

    def ids() -> Iterator[str]:
        while True:
            digits = rng.bytes(16 * 4096).hex()
            for at in range(0, len(digits), 32):
                h = digits[at : at + 32]
                yield f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    return ids().__next__


@dataclass(frozen=True)
class Served:
    """What one variant serves: where its events come from, how its model behaves, with which configuration."""

    where: Place
    behaviour: Behaviour
    config: dict[str, float]


@dataclass(frozen=True)
class Stretch:
    """A time of traffic on one experiment.

    `steps` say since when new units get which variant, oldest first; the shares of 1 are in the order in which the
    variants were created. `people` is how many units there are.
    """

    start: datetime
    end: datetime
    experiment_id: uuid.UUID
    unit_type: str
    arms: Mapping[uuid.UUID, Served]
    steps: Sequence[tuple[datetime, Sequence[tuple[uuid.UUID, Decimal]]]]
    plans_a_day: int = PLANS_A_DAY
    people: int = PEOPLE


class History:
    """The traffic of one stretch. Read `events` to the end before `assignments`."""

    def __init__(self, rng: np.random.Generator, stretch: Stretch) -> None:
        self._rng = rng
        self._stretch = stretch
        self._new_id = id_maker(rng)
        self._units = Units(stretch.experiment_id, stretch.unit_type, {}, next_number=1)
        self._first_seen: dict[str, datetime] = {}

    def events(self) -> Iterator[EventRow]:
        """The events that had come in by the end, plan by plan, with the flaws that the platform allows."""
        end = self._stretch.end
        for event in self._happened():
            for stored in flawed(self._rng, event, self._stretch.experiment_id, self._new_id):
                if stored.created_at <= end:
                    yield stored

    def assignments(self) -> Iterator[AssignmentRow]:
        """The first assignment of every unit seen."""
        here = self._stretch
        for unit_id, at in self._first_seen.items():
            variant_id = self._units.given[unit_id]
            yield AssignmentRow(self._new_id(), here.experiment_id, here.unit_type, unit_id, variant_id, at)

    def _happened(self) -> Iterator[EventRow]:
        here, rng = self._stretch, self._rng
        times = times_of_plans(rng, here.start, here.end, here.plans_a_day)
        for when, number in zip(times.tolist(), _visitors(rng, times, here).tolist(), strict=True):
            unit_id = unit_name(here.unit_type, number + 1)
            at = datetime.fromtimestamp(when, tz=UTC)
            variant_id, is_new = self._units.assign(unit_id, _shares(here, at))
            if variant_id is None:
                continue
            if is_new:
                self._first_seen[unit_id] = at
            arm = here.arms[variant_id]
            request = planner.Request(unit_id=unit_id, day=at.date().isoformat(), config=arm.config)
            planned = planner.plan(arm.behaviour, request)
            yield from events_of(planned, arm.where, unit_id, at, rng, self._new_id, pause_s=PAUSE_S)


def _shares(stretch: Stretch, at: datetime) -> Sequence[tuple[uuid.UUID, Decimal]]:
    return next((shares for since, shares in reversed(stretch.steps) if since <= at), ())


def times_of_plans(rng: np.random.Generator, start: datetime, end: datetime, plans_a_day: int) -> Floats:
    """When plans are asked for, in seconds since 1970, ascending: busy evenings, quiet nights, busy Sundays."""
    hour = start.replace(minute=0, second=0, microsecond=0)
    found: list[Floats] = []
    while hour < end:
        expected = plans_a_day * _WEEKDAY_WEIGHTS[hour.weekday()] * _HOUR_WEIGHTS[hour.hour]
        found.append(hour.timestamp() + np.sort(rng.random(rng.poisson(expected))) * 3600)
        hour += timedelta(hours=1)
    times = np.concatenate(found)
    return times[(times >= start.timestamp()) & (times < end.timestamp())]


def _visitors(rng: np.random.Generator, times: Floats, stretch: Stretch) -> NDArray[np.int64]:
    """Who asks at each time: a few people often, many seldom, and some join during the stretch."""
    whole = (stretch.end - stretch.start).total_seconds()
    joined = np.sort(
        np.maximum(0.0, (rng.random(stretch.people) - _THERE_FROM_THE_START) / (1 - _THERE_FROM_THE_START))
    )
    activity = np.cumsum(rng.lognormal(0.0, 0.8, stretch.people))
    there = np.searchsorted(stretch.start.timestamp() + joined * whole, times, side="right")
    return np.searchsorted(activity, rng.random(len(times)) * activity[there - 1])


def flawed(rng: np.random.Generator, event: EventRow, experiment_id: uuid.UUID, new_id: NewId) -> tuple[EventRow, ...]:
    """The event as it is stored: a few are late, come twice or are malformed."""
    luck = rng.random()
    if luck >= _LATE + _REPEATED + _MALFORMED:
        return (event,)
    if luck < _LATE:
        return (event._replace(created_at=event.timestamp + timedelta(seconds=rng.random() * _MOST_LATE_S)),)
    if luck < _LATE + _REPEATED:
        return event, event._replace(id=new_id(), created_at=event.created_at + timedelta(seconds=5))
    return (_malformed(event, int(rng.integers(5)), experiment_id, new_id),)


def _malformed(event: EventRow, flaw: int, experiment_id: uuid.UUID, new_id: NewId) -> EventRow:
    flaws: tuple[dict[str, Any], ...] = (
        {"metrics": '{"latency_ms": "431", "token_count": "1400"}'},
        {"metrics": '{"latency_ms": null, "token_count": null}'},
        {"experiments": "[]"},
        {"experiments": f'[{{"experiment_id": "{experiment_id}", "variant_id": "{new_id()}"}}]'},
        {"payload": "{}"},
    )
    possible = flaws if event.event_type == "plan_generated" else flaws[2:]
    return event._replace(**possible[flaw % len(possible)])
