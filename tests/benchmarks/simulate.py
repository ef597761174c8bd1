"""A world to try decisions on: users who return and differ, weeks, drift, heavy tails, and shares that change.

`World` draws plans day by day, straight into samples (`Arms`) or as real events (`events`). Outcomes are drawn for
each plan before its arm is known, so one seed is the same world for every model and engine.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from core.rules import samples
from core.rules.estimates import Step
from core.rules.samples import BINS, BUCKETS, EDGES_MS, Counts, Sample

WEEK = np.array([1.05, 1.0, 0.95, 1.0, 1.1, 1.25, 0.65])
"""Traffic by day of the week, around its mean."""
WEEK_MOOD = np.array([0.0, 0.01, 0.01, 0.0, -0.02, -0.05, -0.03])
"""How acceptance moves with the day, on the logistic scale; edits and interventions move against it."""


@dataclass(frozen=True)
class Model:
    """How the candidate differs from the baseline: factors on the metrics; `p99` lengthens the tail only."""

    acceptance: float = 1.0
    edits: float = 1.0
    validator: float = 1.0
    latency: float = 1.0
    p99: float = 1.0
    cost: float = 1.0


SAME = Model()
MODELS: Mapping[str, Model] = {
    "identical": SAME,
    "better": Model(acceptance=1.04, edits=0.9, validator=0.85, latency=0.9, cost=0.95),
    "acceptance -8 %": Model(acceptance=0.92),
    "edits +15 %": Model(edits=1.15),
    "validator +20 %": Model(validator=1.2),
    "p50 +30 %": Model(latency=1.3),
    "p99 doubled": Model(p99=2.0),
    "cost +20 %": Model(cost=1.2),
}
THREEFOLD: Mapping[str, Model] = {
    "validator x 3": Model(validator=3.0),
    "p50 doubled": Model(latency=2.0),
    "acceptance -30 %": Model(acceptance=0.7),
}


@dataclass(frozen=True)
class Setting:
    """The world's constants; units come back, a few of them very often."""

    plans_a_day: int = 2000
    units_per_daily_plan: float = 2.0
    activity_shape: float = 0.5
    acceptance: float = 0.7
    acceptance_spread: float = 0.6
    edits: float = 1.5
    edits_spread: float = 0.5
    validator: float = 0.05
    validator_spread: float = 0.8
    p50_ms: float = 600.0
    latency_sigma: float = 0.3
    latency_spread: float = 0.15
    slow_share: float = 0.03
    slow_factor: float = 1.6
    cost: float = 0.01
    cost_spread: float = 0.3
    drift: float = 0.01
    """By how much the world moves a day, on the logarithmic scale; both arms alike."""
    rhythm: float = 1.0
    """How much stronger than `WEEK` and `WEEK_MOOD` the week is."""
    sticky: bool = False
    """True: a unit keeps the arm of its first plan, as the platform's assignment service does."""


WORLDS: Mapping[str, Mapping[str, Any]] = {
    "as above": {},
    "units do not differ": {
        "activity_shape": 50.0,
        "acceptance_spread": 0.01,
        "edits_spread": 0.01,
        "validator_spread": 0.01,
        "latency_spread": 0.001,
        "cost_spread": 0.01,
    },
    "units differ twice as much": {
        "activity_shape": 0.25,
        "acceptance_spread": 1.2,
        "edits_spread": 1.0,
        "validator_spread": 1.6,
        "latency_spread": 0.3,
        "cost_spread": 0.6,
    },
    "validator rate 8 %": {"validator": 0.08},
    "validator rate 1 %": {"validator": 0.01},
    "drift of 5 % a day": {"drift": 0.05},
    "p99 just below 2,000 ms": {"slow_factor": 2.15},
    "500 plans a day": {"plans_a_day": 500},
    "three times the weekly rhythm": {"rhythm": 3.0},
}
"""Other worlds, in which an identical model must not be rolled back either."""


@dataclass(frozen=True)
class Plans:
    """The plans of one stretch of time: parallel arrays, one entry per plan."""

    unit: np.ndarray
    candidate: np.ndarray
    accepted: np.ndarray
    edits: np.ndarray
    intervened: np.ndarray
    log_latency: np.ndarray
    cost_nano: np.ndarray

    def part(self, chosen: np.ndarray | slice) -> Plans:
        return Plans(**{name: values[chosen] for name, values in self.__dict__.items()})


class World:
    """One population under one model; `day` draws the plans of a day at a share."""

    def __init__(self, setting: Setting, model: Model, seed: int) -> None:
        self.setting, self.model = setting, model
        self.rng = rng = np.random.default_rng(seed)
        units = int(setting.plans_a_day * setting.units_per_daily_plan)
        activity = rng.gamma(setting.activity_shape, size=units) + 0.02
        self.pool = rng.choice(units, size=20 * units, p=activity / activity.sum())
        self.hash = rng.random(units)
        self.bucket = rng.integers(BUCKETS, size=units)
        self.joined = np.full(units, np.nan)
        self.mood = rng.normal(0, setting.acceptance_spread, units)
        self.edits = rng.gamma(1 / setting.edits_spread**2, setting.edits_spread**2, units)
        self.trouble = rng.gamma(1 / setting.validator_spread**2, setting.validator_spread**2, units)
        self.slow = rng.normal(0, setting.latency_spread, units)
        self.dear = np.exp(rng.normal(-(setting.cost_spread**2) / 2, setting.cost_spread, units))
        self.drifts = np.zeros(4)
        self.phase = int(rng.integers(7))
        self.offset = _logit(setting.acceptance) + 0.15 * setting.acceptance_spread**2

    def _arms(self, unit: np.ndarray, share: float) -> np.ndarray:
        if not self.setting.sticky:
            return self.hash[unit] < share
        fresh = unit[np.isnan(self.joined[unit])]
        self.joined[fresh] = self.hash[fresh] < share
        return self.joined[unit] == 1.0

    def plans(self, day: int, share: float, part: float = 1.0) -> Plans:
        """The plans of `part` of a day (counted from 0)."""
        s, rng, model = self.setting, self.rng, self.model
        self.drifts += rng.normal(0, s.drift * np.sqrt(part), 4)
        weekday = (day + self.phase) % 7
        n = int(rng.poisson(s.plans_a_day * WEEK[weekday] ** s.rhythm * part))
        unit = self.pool[rng.integers(len(self.pool), size=n)]
        mine = self._arms(unit, share)
        mood = s.rhythm * WEEK_MOOD[weekday]
        chance = _logistic(self.offset + self.mood[unit] + mood + self.drifts[0])
        accepted = rng.random(n) < chance * np.where(mine, model.acceptance, 1.0)
        mean = s.edits * self.edits[unit] * np.exp(self.drifts[1] - mood) * rng.standard_gamma(2.0, n) / 2
        edits = rng.poisson(mean * np.where(mine, model.edits, 1.0))
        trouble = s.validator * self.trouble[unit] * np.exp(self.drifts[2] - 2 * mood)
        intervened = rng.random(n) < trouble * np.where(mine, model.validator, 1.0)
        tail = (rng.random(n) < s.slow_share) * (np.log(s.slow_factor) + rng.exponential(0.25, n))
        longer = np.where(mine & (tail > 0), np.log(model.p99), 0.0) + np.where(mine, np.log(model.latency), 0.0)
        log_latency = np.log(s.p50_ms) + self.slow[unit] + self.drifts[3] + tail + longer
        log_latency += s.latency_sigma * rng.standard_normal(n)
        cost = s.cost * self.dear[unit] * rng.standard_gamma(4.0, n) / 4 * np.where(mine, model.cost, 1.0)
        return Plans(unit, mine, accepted, edits, intervened, log_latency, (cost * samples.NANO).astype(np.int64))


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


_LOG_EDGE, _LOG_RATIO = np.log(EDGES_MS[0]), np.log(EDGES_MS[1] / EDGES_MS[0])


def _bins(log_latency: np.ndarray) -> np.ndarray:
    return np.clip(np.floor((log_latency - _LOG_EDGE) / _LOG_RATIO).astype(np.int64) + 1, 0, BINS - 1)


SUMS = (samples.PLANS, samples.ACCEPTED, samples.EDITS, samples.INTERVENTIONS, samples.COST_NANO, samples.COST_PLANS)


def _values(plans: Plans) -> tuple[np.ndarray, ...]:
    """What each plan adds to each of the sums."""
    ones = np.ones(len(plans.unit))
    return ones, plans.accepted, plans.edits, plans.intervened, plans.cost_nano, ones


@dataclass
class Arms:
    """Running sums of one step, dense so that adding a day is cheap; two arms, baseline first."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, len(SUMS), BUCKETS), dtype=np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS * BUCKETS), dtype=np.int64))

    def add(self, plans: Plans, bucket: np.ndarray) -> None:
        arm = plans.candidate.astype(np.int64)
        where = bucket[plans.unit]
        cell = arm * BUCKETS + where
        for row, value in enumerate(_values(plans)):
            self.sums[:, row] += np.bincount(cell, value, 2 * BUCKETS).reshape(2, BUCKETS).astype(np.int64)
        at = _bins(plans.log_latency) * BUCKETS + where
        for a in (0, 1):
            self.counts[a] += np.bincount(at[arm == a], minlength=BINS * BUCKETS)

    def until(self, plans: Plans, bucket: np.ndarray, ends: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """What the sums, and the counts per bin, will be once the first `ends` (ascending) plans are added.

        Shapes (ends, 2, sums, BUCKETS) and (ends, 2, BINS). Nothing is added yet.
        """
        arm, looks = plans.candidate.astype(np.int64), len(ends)
        slot = np.searchsorted(ends, np.arange(len(arm)), side="right")
        row = slot * 2 + arm
        cell = row * BUCKETS + bucket[plans.unit]
        new = np.empty((looks, 2, len(SUMS), BUCKETS), dtype=np.int64)
        for k, value in enumerate(_values(plans)):
            new[:, :, k] = np.bincount(cell, value, looks * 2 * BUCKETS).reshape(looks, 2, BUCKETS)
        bins = np.bincount(row * BINS + _bins(plans.log_latency), minlength=looks * 2 * BINS).reshape(looks, 2, BINS)
        counts = self.counts.reshape(2, BINS, BUCKETS).sum(axis=-1)
        return self.sums + new.cumsum(axis=0), counts + bins.cumsum(axis=0)

    def step(self) -> Step:
        return Step(*(self._sample(a) for a in (0, 1)))

    def _sample(self, a: int) -> Sample:
        sums = dict(zip(SUMS, self.sums[a], strict=True))
        return Sample.of(sums, {samples.LATENCY: Counts.of_dense(self.counts[a])})


def events(
    plans: Plans, *, experiment_id: uuid.UUID, variants: tuple[uuid.UUID, uuid.UUID], start: datetime, seed: int
) -> Iterator[dict[str, Any]]:
    """The same plans as rows of `exp.events` over the day from `start`; variants are baseline and candidate."""
    rng = np.random.default_rng(seed)
    moments = np.sort(rng.random(len(plans.unit))) * 86_400
    for n, seconds in enumerate(moments):
        arm = variants[int(plans.candidate[n])]
        common = {
            "unit_type": "user",
            "unit_id": f"u{int(plans.unit[n])}",
            "experiments": [{"experiment_id": str(experiment_id), "variant_id": str(arm)}],
            "payload": {"plan_id": str(uuid.UUID(bytes=rng.bytes(16)))},
        }
        at = start + timedelta(seconds=float(seconds))
        metrics = {
            "latency_ms": round(float(np.exp(plans.log_latency[n])), 3),
            "cost": int(plans.cost_nano[n]) / samples.NANO,
        }
        yield common | {"event_type": "plan_generated", "metrics": metrics, "timestamp": at}
        later = ["validator_intervention"] * bool(plans.intervened[n]) + ["edit_applied"] * int(plans.edits[n])
        later += ["plan_accepted" if plans.accepted[n] else "plan_rejected"]
        for k, name in enumerate(later, 1):
            yield common | {"event_type": name, "metrics": {}, "timestamp": at + timedelta(seconds=k)}
