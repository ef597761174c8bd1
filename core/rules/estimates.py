"""One candidate against the baseline over the steps of a rollout: how much worse, how sure, or why it cannot be said.

Contrasts are taken within each allocation step and then combined, because shares and seasons change together (pooling
them is Simpson's trap). Standard errors are clustered by bucket of units, because units return.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from core.rules.contrasts import Contrast, contrast, divided, weights
from core.rules.deviates import SUREST, deviate, gamma_deviate, sequence_z, student, unskewed
from core.rules.metrics import (
    METRICS,
    Metric,
    Quantile,
    Ratio,
    counts_plans,
    edge_at,
    share_above,
    share_over,
    value_at,
)
from core.rules.samples import BUCKETS, Floats, Sample, edges_of

FEWEST_PLANS: Final = 150
"""Plans of the candidate before anything is tested."""
FEWEST_BUCKETS: Final = 10
"""Buckets of units that must have traffic in each arm: fewer tell nothing about how units differ."""
COVERAGE_GAP: Final = 0.2
"""Where the arms log a metric for shares of their plans further apart than this, they are not comparable."""
SURELY_SOME: Final = 20.0
"""Where this many were to be expected and none came, the logging is in doubt, not the world."""
_UNBOUNDED: Final = 1e6


@dataclass(frozen=True)
class Step:
    """What both arms did during one period of constant allocations."""

    baseline: Sample
    candidate: Sample


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric of the candidate against the baseline; where `problem` is set nothing else may be relied on.

    `candidate`, `baseline` and `bound` (the worst still accepted) are in the metric's own unit, weighted over steps.
    `low` and `high` bound candidate / baseline at 95 % at all looks together; None is unbounded. `z` is the normal
    deviate of the harm (positive is worse); `tolerance_z` is what the tolerance is worth in standard errors; `floor_z`
    is the deviate that an unharmful candidate must exceed to be beyond the bound; `room_z` is the evidence that
    the harm is smaller than the tolerance. `alarm_z` and `alarm_tolerance_z` are `z` and `tolerance_z` with the error
    that an unharmful candidate would have, for looks between the daily ones. `influence` is each bucket's part in the
    contrast, of length one.
    """

    metric: Metric
    problem: str | None = None
    candidate: float | None = None
    baseline: float | None = None
    bound: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    is_beyond: bool = False
    z: float = 0.0
    tolerance_z: float = 0.0
    floor_z: float = 0.0
    room_z: float = 0.0
    alarm_z: float = 0.0
    alarm_tolerance_z: float = 0.0
    influence: npt.NDArray[np.float32] | None = None

    @property
    def is_measurable(self) -> bool:
        """True where there is evidence, in whichever direction."""
        return self.problem is None

    @property
    def surely_breaks_limit(self) -> bool:
        """True where the candidate's whole interval is beyond the metric's absolute limit."""
        best = self.high if self.metric.higher_is_better else self.low
        is_known = self.is_measurable and self.is_beyond and self.baseline is not None and best is not None
        return is_known and self.metric.breaks_limit((best or 0.0) * (self.baseline or 0.0))


@dataclass(frozen=True, eq=False)
class _Spread:
    """A quantile metric's two weighted histograms, each of sum one, and the edges its contrasts are taken at."""

    metric: Metric
    upper: float
    baseline: Floats
    candidate: Floats
    value_c: float
    value_v: float
    bound: float | None
    edges: Floats

    @property
    def edge(self) -> int:
        return edge_at(self.value_c, self.edges)

    @property
    def bound_edge(self) -> int:
        return self.edge if self.bound is None else edge_at(self.bound, self.edges)

    @property
    def tolerance(self) -> float:
        """How many more slow plans the document accepts, as a share of plans."""
        if self.bound is None:
            return 0.0
        factor = self.bound / self.value_c
        factor = min(factor, 1 / 1.05) if self.metric.higher_is_better else max(factor, 1.05)
        at_bound, at_value = (
            share_over(value, self.baseline, self.edges) for value in (self.value_c / factor, self.value_c)
        )
        return abs(at_bound - at_value)


def _mixed(histogram: str, steps: Sequence[Step]) -> Floats:
    """The weighted histogram of each arm, of sum one or empty; shape (2, bins)."""
    found = np.array([[arm.counts_of(histogram).by_bin for arm in (s.baseline, s.candidate)] for s in steps])
    plans = found.sum(axis=-1, keepdims=True)
    mixed: Floats = np.einsum("kr,kab->ab", weights(plans), divided(found, plans))
    return mixed


def _spread(metric: Metric, source: Quantile, mixed: Floats) -> _Spread | None:
    edges = edges_of(source.histogram)
    value_c, value_v = (value_at(1 - source.q, by_bin, edges) for by_bin in mixed)
    if value_c is None or value_v is None:
        return None
    return _Spread(metric, 1 - source.q, mixed[0], mixed[1], value_c, value_v, metric.bound(value_c), edges)


def _spreads(steps: Sequence[Step], metrics: Sequence[Metric]) -> list[_Spread | None]:
    mixed = {
        name: _mixed(name, steps) for name in {m.source.histogram for m in metrics if isinstance(m.source, Quantile)}
    }
    return [
        _spread(m, m.source, mixed[m.source.histogram]) if isinstance(m.source, Quantile) else None for m in metrics
    ]


@dataclass(frozen=True)
class _Row:
    """A metric from one step on; of a quantile metric what is in one bin or above."""

    metric: Metric
    first_step: int
    from_bin: int = 0


def _filled(steps: Sequence[Step], rows: Sequence[_Row]) -> tuple[Floats, Floats]:
    """Sums and plans per bucket, each of shape (steps, 2 arms, rows, BUCKETS); zero in steps before a row's first."""
    y = np.zeros((len(steps), 2, len(rows), BUCKETS))
    n = np.zeros_like(y)
    for r, row in enumerate(rows):
        source = row.metric.source
        for k, step in enumerate(steps[row.first_step :], row.first_step):
            for a, arm in enumerate((step.baseline, step.candidate)):
                if isinstance(source, Quantile):
                    counts = arm.counts_of(source.histogram)
                    y[k, a, r], n[k, a, r] = counts.slower(row.from_bin), counts.by_bucket
                else:
                    y[k, a, r], n[k, a, r] = arm.sum_of(source.numerator), arm.sum_of(source.denominator)
        if isinstance(source, Ratio):
            y[:, :, r] *= source.scale
            if not source.counts_plans:
                n[:, :, r] *= source.denominator_scale
    return y, n


def _scored(metric: Metric, found: Contrast, row: int) -> tuple[float, float] | None:
    """The deviate of a harm, and its standard error, as they are were both arms alike (a score test).

    Harm that shows as more events raises its own error: tripled interventions take twice the plans to be proven by it.
    So each arm's error is scaled from its own rate to the common one, by the variance of a count, or of a share. A
    share that should be high is turned into the share of the others. None where there is no harm, or no such scale.
    """
    is_share = metric.unit == "share" or isinstance(metric.source, Quantile)
    base, mine = float(found.baseline[row]), float(found.candidate[row])
    if metric.higher_is_better:
        base, mine = 1 - base, 1 - mine
    if not 0 <= base < mine or (metric.higher_is_better and not is_share) or (is_share and mine >= 1):
        return None
    mix = float(found.mix[row])
    both = base + mix * (mine - base)
    # How much larger each arm's variance would be at the common rate; nothing of a baseline at zero can be enlarged.
    of_base, of_mine, common = (rate * (1 - rate) if is_share else rate for rate in (base, mine, both))
    larger = (common / of_base if of_base > 0 else 0.0, common / of_mine)
    squares = [factor * float(arm) for factor, arm in zip(larger, found.squares[:, row], strict=True)]
    se = math.sqrt(squares[1] + (squares[0] or squares[1] * mix / (1 - mix)))
    se = max(se, (mine - base) / SUREST)
    third = larger[1] * float(found.cubes[1, row]) - larger[0] * float(found.cubes[0, row])
    skew = (-third if metric.higher_is_better else third) / se**3
    df = float((found.count_df if is_share and not metric.higher_is_better else found.df)[row])
    return deviate(gamma_deviate((mine - base) / se, skew), df), se


@dataclass(frozen=True, eq=False)
class _Logged:
    """How each arm logged each row, over all its steps: a pair of baseline and candidate for each row."""

    plans: Sequence[Sequence[float]]
    over: Sequence[Sequence[float]]
    total: Sequence[Sequence[float]]
    is_any: Sequence[Sequence[bool]]
    fewest: Sequence[int]
    """Buckets with traffic, in the arm that has fewer."""

    @staticmethod
    def of(steps: Sequence[Step], rows: Sequence[_Row], y: Floats, n: Floats) -> _Logged:
        served = np.array([(step.baseline.plans, step.candidate.plans) for step in steps], dtype=np.float64)
        plans = [served[row.first_step :].sum(axis=0).tolist() for row in rows]
        y, n = y.sum(axis=0), n.sum(axis=0)
        over, total, is_any = (values.T.tolist() for values in (n.sum(axis=-1), y.sum(axis=-1), (y != 0).any(axis=-1)))
        return _Logged(plans, over, total, is_any, (n > 0).sum(axis=-1).min(axis=0).tolist())

    def gap(self, metric: Metric, row: int) -> str | None:
        """Why the sums of a row cannot be compared, from how they were logged."""
        base, mine = self.over[row]
        if not base and not mine:
            return "nobody logs it"
        if not base or not mine:
            return f"{'the candidate' if base else 'the baseline'} does not log it"
        covered = [o / plans if plans > 0 else 0.0 for o, plans in zip((base, mine), self.plans[row], strict=True)]
        if counts_plans(metric) and abs(covered[0] - covered[1]) > COVERAGE_GAP:
            return f"logged for {covered[1]:.0%} of the candidate's plans and {covered[0]:.0%} of the baseline's"
        if not any(self.is_any[row]) and not isinstance(metric.source, Quantile):
            return "none was recorded in either arm"
        return "recorded for the baseline, never for the candidate" if self._has_fallen_silent(metric, row) else None

    def _has_fallen_silent(self, metric: Metric, row: int) -> bool:
        """True where the candidate's sum is zero though at the baseline's rate there had to be some."""
        if isinstance(metric.source, Quantile) or metric.higher_is_better or self.is_any[row][1]:
            return False
        base, mine = self.over[row]
        events = self.total[row][0] if metric.source.scale == 1 else base
        return events * mine / base >= SURELY_SOME

    def problem(self, metric: Metric, row: int, *, is_flat: bool) -> str | None:
        """Why a row is no evidence; None where it is."""
        if self.plans[row][1] < FEWEST_PLANS:
            return f"{int(self.plans[row][1])} of the {FEWEST_PLANS} plans needed for any test"
        if (gap := self.gap(metric, row)) is not None:
            return gap
        if self.fewest[row] < FEWEST_BUCKETS:
            return f"too few different units: they fill {self.fewest[row]} of {BUCKETS} buckets"
        if metric.higher_is_better and not self.is_any[row][0]:
            return "none was recorded for the baseline"
        return "all values are equal" if is_flat else None


@dataclass(frozen=True)
class _Harm:
    """One row of a contrast turned so that positive is worse, its tolerance beside it, in the row's own unit."""

    harm: float
    se: float
    df: float
    tolerance: float
    skew: float

    @staticmethod
    def of(found: Contrast, row: int, metric: Metric, tolerance: float) -> _Harm:
        difference = float(found.difference[row])
        # Two constants that differ have no spread within the arms, yet chance does not sort units like that.
        se = max(float(found.se[row]), abs(difference) / SUREST, 1e-300)
        sign = -1 if metric.higher_is_better else 1
        return _Harm(sign * difference, se, float(found.df[row]), tolerance, sign * float(found.skew[row]))

    def deviate(self, amount: float) -> float:
        """The normal deviate of an amount of harm."""
        return deviate(unskewed(min(amount / self.se, 1e6), self.skew), self.df)

    @property
    def room_z(self) -> float:
        """The normal deviate of the tolerance that is left."""
        return deviate(unskewed(min((self.tolerance - self.harm) / self.se, 1e6), -self.skew), self.df)

    @property
    def tolerance_z(self) -> float:
        return min(self.tolerance / self.se, SUREST)

    @property
    def half_width(self) -> float:
        """In standard errors: half the interval that holds at all looks together."""
        return student(sequence_z(self.tolerance_z), self.df)


def _ratio_compared(metric: Metric, found: Contrast, row: int) -> Comparison:
    value, base = float(found.candidate[row]), float(found.baseline[row])
    bound = metric.bound(base)
    tolerance = 0.0 if bound is None else abs(bound - base)
    # With a baseline of zero a relative tolerance is worth nothing; half of what was found stands in for it.
    harm = _Harm.of(found, row, metric, tolerance or (metric.tolerance or 0.0) * value / 2)
    ratio = value / base if base > 0 else None
    half = harm.half_width * float(found.ratio_se[row])
    z, tolerance_z = harm.deviate(harm.harm), harm.tolerance_z
    alarm_z, alarm_se = _scored(metric, found, row) or (z, harm.se)
    return Comparison(
        metric,
        candidate=value,
        baseline=base,
        bound=bound,
        ratio=ratio,
        low=None if ratio is None else max(ratio - half, 0.0),
        high=None if ratio is None or half > _UNBOUNDED else ratio + half,
        is_beyond=metric.is_beyond(value, base),
        z=z,
        tolerance_z=tolerance_z,
        floor_z=harm.deviate(tolerance),
        room_z=harm.room_z,
        alarm_z=alarm_z,
        alarm_tolerance_z=min(harm.tolerance / alarm_se, SUREST),
        influence=found.influence[row],
    )


def _spread_compared(spread: _Spread, found: Contrast, row: int, limit_row: int, plans: Sequence[float]) -> Comparison:
    metric = spread.metric
    harm = _Harm.of(found, row, metric, spread.tolerance)
    beyond_c = share_above(spread.bound_edge, spread.baseline)
    # Nobody beyond the bound so far is no proof that nobody ever is: one plan more than counted.
    at_least = math.sqrt(sum((p := (beyond_c * n + 1) / (n + 2)) * (1 - p) / n for n in plans))
    excess = (spread.upper - beyond_c) * (-1 if metric.higher_is_better else 1)
    floor = excess / max(float(found.se[limit_row]), at_least)
    half = harm.half_width * harm.se
    # Plans slower than a quantile are counted events, and at p99 few: the daily looks take the score test as well.
    z, se = _scored(metric, found, row) or (harm.deviate(harm.harm), harm.se)
    low = value_at(spread.upper + half, spread.candidate, spread.edges) if spread.upper + half < 1 else None
    high = value_at(spread.upper - half, spread.candidate, spread.edges) if spread.upper > half else None
    return Comparison(
        metric,
        candidate=spread.value_v,
        baseline=spread.value_c,
        bound=spread.bound,
        ratio=spread.value_v / spread.value_c,
        low=(low or 0.0) / spread.value_c,
        high=None if high is None else high / spread.value_c,
        is_beyond=metric.is_beyond(spread.value_v, spread.value_c),
        z=z,
        tolerance_z=harm.tolerance_z,
        floor_z=deviate(floor, float(found.df[limit_row])),
        room_z=harm.room_z,
        alarm_z=z,
        alarm_tolerance_z=min(harm.tolerance / se, SUREST),
        influence=found.influence[row],
    )


def compare(steps: Sequence[Step], metrics: Sequence[Metric] = METRICS) -> tuple[Comparison, ...]:
    """Every metric over all the steps given, one comparison each, in order; nothing in them is ever NaN or infinite."""
    return compare_since([0], steps, metrics)[0]


def compare_since(
    first_steps: Sequence[int], steps: Sequence[Step], metrics: Sequence[Metric] = METRICS
) -> list[tuple[Comparison, ...]]:
    """The same from each of some steps on, for hardly more than the price of one."""
    if not steps:
        return [tuple(Comparison(metric, "no traffic yet") for metric in metrics) for _ in first_steps]
    spreads = [spread for first in first_steps for spread in _spreads(steps[first:], metrics)]
    asked = [(metric, first) for first in first_steps for metric in metrics]
    rows = [_Row(*each, s.edge + 1 if s else 0) for each, s in zip(asked, spreads, strict=True)]
    limit_rows = {}
    for at, spread in enumerate(spreads):
        if spread:
            limit_rows[at] = len(rows)
            rows.append(_Row(*asked[at], spread.bound_edge + 1))
    y, n = _filled(steps, rows)
    found, logged = contrast(y, n), _Logged.of(steps, rows, y, n)
    compared = [
        _compared(metric, spread, found, row, limit_rows.get(row, row), logged)
        for row, ((metric, _), spread) in enumerate(zip(asked, spreads, strict=True))
    ]
    return [tuple(compared[n * len(metrics) : (n + 1) * len(metrics)]) for n in range(len(first_steps))]


def _compared(
    metric: Metric, spread: _Spread | None, found: Contrast, row: int, limit_row: int, logged: _Logged
) -> Comparison:
    small = 1e-9 * abs(float(found.baseline[row]))
    is_flat = bool(found.se[row] <= small and abs(found.difference[row]) <= small)
    problem, over = logged.problem(metric, row, is_flat=is_flat), logged.over[row]
    if not all(over):
        return Comparison(metric, problem)
    shown = _spread_compared(spread, found, row, limit_row, over) if spread else _ratio_compared(metric, found, row)
    if problem is None:
        return shown
    return Comparison(metric, problem, candidate=shown.candidate, baseline=shown.baseline, bound=shown.bound)
