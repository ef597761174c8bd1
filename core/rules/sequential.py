"""Looking often without crying wolf: the boundaries that a metric's deviate has to cross, whatever the number of looks.

One family-wise budget covers the whole rollout and all metrics. A small part is for looks at any time (a mixture
likelihood ratio, for disasters); the rest is spent by daily looks on a group-sequential boundary that counts only
false alarms which could also lead to a rollback: those beyond the document's limit.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy  # type: ignore[import-untyped]  # its parts are loaded when they are used

from core.rules.estimates import Comparison
from core.rules.samples import Floats

BUDGET: Final = 0.065
"""Alpha, nominally: the chance of a false rollback over a whole rollout and all metrics.

Chosen by simulation, not derived: of some ten settings tried on seeds used again and again, about the lowest at which
+20 % interventions are rolled back by day 16 in the median at 2,000 plans a day, and by day 2 at 20,000.
`python -m tests.benchmarks.decisions --seed N` says on any new seed what it is worth.
"""
LAST_LOOK_BUDGET: Final = 0.02
"""The part of it kept for the very last look: the day on which waiting before full traffic ends."""
ANY_LOOK_BUDGET: Final = 0.01
"""The part of it for looks between the daily ones."""
SUDDEN_BUDGET: Final = 0.005
"""Beside it, for harm that begins in the middle of a rollout: looks at the last day alone, at any time."""
LONGEST_DAYS: Final = 40
STEP_EXTRA: Final = 0.5
"""The present step alone must be this much clearer than all steps together: they share the budget, unequally."""
LOWEST_BOUNDARY: Final = 1.645
NEVER: Final = math.inf
_EFFECTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # multiples of the tolerance that the any-look test is sharp against
_CERTAIN: Final = 8.0  # P(Z > 8) is below 1e-15
_LEAST_TOLERANCE_Z, _FULL_TOLERANCE_Z = 0.45, 0.92
"""The standard errors that the smallest tolerance is worth when information releases the first of alpha, and all of
it. Chosen with BUDGET: spent before, it hardly finds anything; much later, a busy experiment waits for the calendar."""


@dataclass(frozen=True, eq=False)
class Past:
    """One test at the last daily look: the deviate it had to exceed, and its direction over the buckets."""

    exceed: float
    influence: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Memory:
    """What a daily look must know of the ones before it; days count from the start of the rollout."""

    days: float = 0.0
    released: float = 0.0
    left: float = 0.0
    tests: Mapping[str, Past] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For a row: numbers, and each influence as base64 of little-endian float32."""
        return {
            "days": self.days,
            "released": self.released,
            "left": self.left,
            "tests": {
                name: {
                    "exceed": past.exceed if math.isfinite(past.exceed) else None,
                    "influence": base64.b64encode(past.influence.astype("<f4").tobytes()).decode(),
                }
                for name, past in self.tests.items()
            },
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Memory:
        """What `to_json` gave, to the last bit."""
        return Memory(
            stored["days"],
            stored["released"],
            stored["left"],
            {
                name: Past(
                    NEVER if past["exceed"] is None else past["exceed"],
                    np.frombuffer(base64.b64decode(past["influence"]), "<f4").astype(np.float32),
                )
                for name, past in stored["tests"].items()
            },
        )


def likelihood_ratio(z: float, tolerance_z: float) -> float:
    """The logarithm of the evidence for harm against none, valid whenever it is looked at."""
    logs = [(c * tolerance_z) * z - (c * tolerance_z) ** 2 / 2 for c in _EFFECTS]
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs))


def any_look_limit(tests: int) -> float:
    """What `likelihood_ratio` must reach where that many metrics are tested."""
    return math.log(tests / ANY_LOOK_BUDGET)


def sudden_limit(tests: int) -> float:
    """What `likelihood_ratio` must reach on the last day alone: each day of a long rollout is a test of its own."""
    return math.log(tests * LONGEST_DAYS / SUDDEN_BUDGET)


def released(days: float, smallest_tolerance_z: float, *, is_last: bool = False) -> float:
    """The part of the budget that daily looks may have spent by now."""
    calendar = 0.8 * math.pow(min(max(days, 0.0) / 16, 1.0), 1.5) + 0.2 * min(max((days - 16) / 15, 0.0), 1.0)
    scale = math.log(_FULL_TOLERANCE_Z / _LEAST_TOLERANCE_Z)
    information = math.log(max(smallest_tolerance_z, _LEAST_TOLERANCE_Z) / _LEAST_TOLERANCE_Z) / scale
    spread = BUDGET - ANY_LOOK_BUDGET - LAST_LOOK_BUDGET
    return spread * max(calendar, min(information, 1.0)) + LAST_LOOK_BUDGET * is_last


def _newly(above: Floats, before: Floats, correlation: Floats) -> Floats:
    """P(Z > above, Z_before <= before) of standard bivariate normals, all thresholds positive (Owen 1956)."""
    ndtr, owens_t = scipy.special.ndtr, scipy.special.owens_t
    chance: Floats = ndtr(-above)
    # What never was looked at before, or never could be crossed, needs no joint distribution, which costs most.
    if (known := np.isfinite(before)).any():
        h, k, r = above[..., known], before[known], correlation[known]
        root = np.sqrt(1 - r**2)
        both = (ndtr(-h) + ndtr(-k)) / 2 - owens_t(h, (k - r * h) / (h * root)) - owens_t(k, (h - r * k) / (k * root))
        chance[..., known] = np.clip(ndtr(-h) - both, 0.0, 1.0)
    return chance


@dataclass(frozen=True, eq=False)
class _Spending:
    """The chance of a new false alarm as a function of the boundary; arrays over tests."""

    floors: Floats
    extra: Floats
    before: Floats
    correlations: Floats

    def at(self, boundaries: Floats) -> Floats:
        # Beyond a floor this high there is nothing to spend, to the last digit.
        open_ = self.floors < _CERTAIN
        above = np.maximum(boundaries[:, None] + self.extra[open_], self.floors[open_])
        chances: Floats = _newly(above, self.before[open_], self.correlations[open_]).sum(axis=1)
        return chances

    def solve(self, amount: float) -> float:
        """The lowest boundary, at least LOWEST_BOUNDARY, that spends no more than `amount`."""
        low, high = LOWEST_BOUNDARY, 9.0
        for _ in range(4):
            grid = np.linspace(low, high, 11)
            spent = self.at(grid)
            if spent[0] <= amount:
                return low
            if spent[-1] > amount:
                return NEVER
            first = int(np.argmax(spent <= amount))
            low, high = float(grid[first - 1]), float(grid[first])
        return high


def _correlation(now: Comparison, past: Past) -> float:
    if now.influence is None:
        return 0.0
    found = float(np.dot(now.influence.astype(np.float64), past.influence.astype(np.float64)))
    return min(max(found, 0.0), 0.99999)


def daily_boundary(
    overall: Mapping[str, Comparison],
    present: Mapping[str, Comparison],
    memory: Memory,
    days: float,
    *,
    is_last: bool = False,
) -> tuple[float, Memory]:
    """The deviate that a test must exceed at today's look, and what the next look must know.

    `overall` are the measurable comparisons over all steps, `present` those of the present step alone (none at the
    first), by names that last as long as the test does; the latter must exceed the deviate by STEP_EXTRA. `days` count
    from the start of the rollout; `is_last` is true for the look after which there is no more waiting.
    """
    tests = {**overall, **present}
    smallest = min((test.tolerance_z for test in overall.values()), default=0.0)
    so_far = max(memory.released, released(days, smallest, is_last=is_last))
    amount = memory.left + so_far - memory.released
    pasts = [memory.tests.get(name) for name in tests]
    spending = _Spending(
        floors=np.array([test.floor_z for test in tests.values()]),
        extra=np.array([0.0] * len(overall) + [STEP_EXTRA] * len(present)),
        before=np.array([NEVER if past is None else past.exceed for past in pasts]),
        correlations=np.array(
            [0.0 if past is None else _correlation(t, past) for t, past in zip(tests.values(), pasts, strict=True)]
        ),
    )
    boundary = spending.solve(amount) if tests and amount > 0 else NEVER
    spent = float(spending.at(np.array([boundary]))[0]) if math.isfinite(boundary) else 0.0
    now = {
        name: Past(max(boundary + extra, test.floor_z), test.influence)
        for (name, test), extra in zip(tests.items(), spending.extra.tolist(), strict=True)
        if test.influence is not None
    }
    return boundary, Memory(days, so_far, max(amount - spent, 0.0), now)
