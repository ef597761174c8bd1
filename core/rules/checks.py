"""Can the data be trusted? Asked before anything is concluded from them; each answer is None or a concern in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

import scipy  # type: ignore[import-untyped]  # its parts are loaded when they are used

from core.rules.estimates import COVERAGE_GAP, SURELY_SOME, Comparison, Step, compare
from core.rules.metrics import Metric, Quantile, counts_plans, value_of
from core.rules.samples import Sample

MISMATCH_CHANCE: Final = 0.001
MISMATCH_DEVIATION: Final = 0.05
SILENT_MINUTES: Final = 60.0
BEHIND_MINUTES: Final = 30.0
QUIET_HOURS: Final = 0.1
"""In the first week nobody knows the nights yet: an hour of theirs is taken for a tenth of the average one."""
SCARCE: Final = 0.3
"""Fewer than this part of the same hour a week ago is "much fewer"."""
UPSET_TOLERANCES: Final = 5.0
"""A baseline worse than its own past week by this many tolerances is not itself."""
UPSET_Z: Final = 5.0

Kind = Literal["constraints", "sample ratio", "freshness", "baseline", "both arms"]


@dataclass(frozen=True)
class Concern:
    """One reason not to trust the data, as a sentence for people."""

    kind: Kind
    why: str


@dataclass(frozen=True)
class Traffic:
    """How events arrive; `last_hour_a_week_ago` is the same hour last week, None where there was no experiment yet."""

    minutes_since_last: float | None
    last_hour: int
    last_hour_a_week_ago: int | None = None
    measured_minutes_ago: float | None = 0.0
    """How long ago all events that had come by then had been read; None before the first time."""
    plans_an_hour: float | None = None
    """On average since the first plan, of the last week at most; None where there was no plan."""


@dataclass(frozen=True)
class History:
    """The last day of both arms and the seven days of the baseline before it, in parts, whatever the steps were."""

    baseline_week: Sequence[Sample]
    baseline_day: Sequence[Sample]
    candidate_day: Sequence[Sample]
    baseline_lately: Sequence[Sample] = ()
    candidate_lately: Sequence[Sample] = ()
    """What of the last day was in the present step: only there did both arms see the same hours."""


def sample_ratio(units: Mapping[str, int], shares: Mapping[str, Decimal | float]) -> Concern | None:
    """Whether units reached the variants as configured, by chi-squared.

    `units` are those first assigned (or first seen) within the present step: assignments are kept when shares
    change, so units from before say nothing about the present shares. Variants without a share are left out.
    """
    weights = {name: float(share) for name, share in shares.items() if share > 0}
    total, whole = sum(units.get(name, 0) for name in weights), sum(weights.values())
    if len(weights) < 2 or min(weights.values()) / whole * total < 5:
        return None
    expected = {name: weight / whole * total for name, weight in weights.items()}
    chi2 = sum((units.get(name, 0) - due) ** 2 / due for name, due in expected.items())
    off = {name: units.get(name, 0) / due - 1 for name, due in expected.items()}
    name = max(off, key=lambda key: (abs(off[key]), key))
    if not (scipy.special.chdtrc(len(weights) - 1, chi2) < MISMATCH_CHANCE and abs(off[name]) > MISMATCH_DEVIATION):
        return None
    return Concern(
        "sample ratio",
        f"{name} got {units.get(name, 0):,} units where its share gives {expected[name]:,.0f}: units are not assigned "
        "as configured, so the arms are not comparable.",
    )


FELL_SILENT: Final = "No events for an hour. What is missing may be exactly what went wrong."
NEVER_SPOKE: Final = (
    "No plan came yet. They are read from exp.events: event_type plan_generated, with the ids of this experiment and "
    "of a variant in its `experiments`."
)


def freshness(traffic: Traffic) -> Concern | None:
    """Whether events still arrive as they did a week ago."""
    if traffic.measured_minutes_ago is None:
        return Concern("freshness", "Traffic is being measured for the first time. Look again in a minute.")
    if traffic.measured_minutes_ago >= BEHIND_MINUTES:
        behind = f"{traffic.measured_minutes_ago:,.0f} minutes"
        return Concern("freshness", f"Traffic was last measured {behind} ago; what came since is not known yet.")
    if _is_silent(traffic):
        return Concern("freshness", FELL_SILENT if _ever_spoke(traffic) else NEVER_SPOKE)
    due = traffic.last_hour_a_week_ago
    if due is None or traffic.last_hour >= SCARCE * due:
        return None
    if scipy.special.pdtr(traffic.last_hour, due) >= MISMATCH_CHANCE:
        return None
    return Concern("freshness", f"{traffic.last_hour:,} events in the last hour, {due:,} in the same hour a week ago.")


def _ever_spoke(traffic: Traffic) -> bool:
    return traffic.last_hour > 0 or traffic.plans_an_hour is not None or traffic.last_hour_a_week_ago is not None


def _is_silent(traffic: Traffic) -> bool:
    """True where no plan came for an hour or more though the hour a week ago, or in the first week the average so far,
    makes that beyond chance; where there was never a plan, after the hour."""
    minutes, due = traffic.minutes_since_last, traffic.last_hour_a_week_ago
    if minutes is None or minutes < SILENT_MINUTES:
        return minutes is None
    if due is not None:
        return math.exp(-due) < MISMATCH_CHANCE
    if traffic.plans_an_hour is None:
        return True
    return math.exp(-QUIET_HOURS * traffic.plans_an_hour * minutes / 60) < MISMATCH_CHANCE


def _upset(metrics: Sequence[Metric], week: Sequence[Sample], day: Sequence[Sample]) -> list[Metric]:
    """The metrics in which one day is far worse than the week before it, beyond chance."""
    moved = [metric for metric in metrics if _has_moved(metric, week, day)]
    if not moved:
        return []
    arms = Step(baseline=Sample.total(week), candidate=Sample.total(day))
    return [found.metric for found in compare([arms], moved) if _is_upset(found)]


def _has_moved(metric: Metric, week: Sequence[Sample], day: Sequence[Sample]) -> bool:
    """False on nearly every day, at a small part of what it costs to ask about chance; true at half of what counts."""
    before, now = (value_of(metric, *parts) for parts in (week, day))
    if not before or now is None:
        return False
    return abs(now / before - 1) > _upset_change(metric) / 2


def _upset_change(metric: Metric) -> float:
    return UPSET_TOLERANCES * (metric.tolerance or 0.2)


def _is_upset(found: Comparison) -> bool:
    if not found.is_measurable or found.z < UPSET_Z or found.ratio is None:
        return False
    allowed = _upset_change(found.metric)
    return found.ratio < 1 - allowed if found.metric.higher_is_better else found.ratio > 1 + allowed


def baseline_upset(history: History, metrics: Sequence[Metric]) -> Concern | None:
    """Whether the baseline is far from its own past week; then a comparison with it says little about the candidate."""
    week = history.baseline_week
    upset = _upset(metrics, week, history.baseline_day)
    if not upset:
        return None
    titles = ", ".join(metric.title for metric in upset)
    if _upset(upset, week, history.candidate_day):
        why = f"Both arms are far worse than the baseline's past week in: {titles}. This is not the candidate."
        return Concern("both arms", why)
    return Concern("baseline", f"The baseline is far worse than its own past week in: {titles}. It is no measure now.")


def _has_stopped(metric: Metric, before: Sequence[Sample], day: Sequence[Sample]) -> bool:
    """True where a metric that was logged before has no trace in a day that should have some."""
    source = metric.source

    def each(kept: Callable[[Sample], int]) -> list[int]:
        return [sum(map(kept, parts)) for parts in (before, day)]

    plans = each(lambda sample: sample.plans)
    if not all(plans):
        return False
    if isinstance(source, Quantile):
        over = each(lambda sample: sample.counts_of(source.histogram).many)
    else:
        over = each(lambda sample: sample.total_of(source.denominator))
    if counts_plans(metric) and over[0] / plans[0] - over[1] / plans[1] > COVERAGE_GAP:
        return True
    if isinstance(source, Quantile):
        return False
    total = each(lambda sample: sample.total_of(source.numerator))
    events = total[0] if source.scale == 1 else over[0] * source.denominator_scale
    return total[0] > 0 and total[1] == 0 and over[0] > 0 and events / over[0] * over[1] >= SURELY_SOME


def stopped(metric: Metric, history: History) -> str | None:
    """Why a metric cannot be judged now though it could before; None where it is logged as it was."""
    base = _has_stopped(metric, history.baseline_week, history.baseline_day)
    mine = _has_stopped(metric, history.baseline_week, history.candidate_day)
    if base:
        return "logged until a day ago, not since" if mine else "the baseline stopped logging it within the last day"
    # Nobody accepting anything is what a broken model looks like; nobody intervening is what broken logging looks like.
    return "the candidate does not log it any more" if mine and not metric.higher_is_better else None


def aggregates(hours_behind: float, bucket_hours: float) -> Concern | None:
    """Whether the platform still aggregates: a bucket more than one behind is missing."""
    if hours_behind <= 2 * bucket_hours:
        return None
    return Concern(
        "freshness", f"The newest aggregates end {hours_behind:,.0f} hours ago; what came since is not known."
    )


def constraints(candidate: float | None, baseline: float | None) -> Concern | None:
    """Whether constraints were violated where both arms did; what the candidate does alone, or twice as often as the
    baseline, is harm and no doubt."""
    if candidate is None or candidate >= 1 or baseline is None or baseline >= 1:
        return None
    if 1 - candidate > 2 * (1 - baseline):
        return None
    return Concern("constraints", f"Constraint respect is below 1 in both arms ({candidate:.4f} and {baseline:.4f}).")
