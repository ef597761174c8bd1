"""What one look finds in each metric: its state, the comparison that tells it, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from core.rules import checks, sequential
from core.rules.checks import History
from core.rules.decision import Judgement
from core.rules.estimates import Comparison, Step, compare, compare_since
from core.rules.metrics import METRICS, Metric, VariantMetrics, value_of
from core.rules.samples import Sample
from core.rules.sequential import Memory
from core.rules.wording import change, compared

State = Literal["worse", "tolerable", "fine", "inconclusive", "not measurable", "no interval", "informative"]

SURE_ENOUGH: Final = 1.645
"""The deviate, in evidence that harm stays below the tolerance, for calling a metric fine (non-inferiority)."""


@dataclass(frozen=True, eq=False)
class Finding:
    """What one look says about one metric: over all steps, and on the present step alone.

    `evidence` is the logarithm of the likelihood ratio for harm, which alarms at any look from `evidence_limit` on;
    `boundary` is the deviate that a daily look demands, None between daily looks or where nothing may be spent.
    """

    metric: Metric
    state: State
    overall: Comparison
    present: Comparison
    telling: Comparison
    """The one of the two that shows the harm, or that of the last day alone; else the first."""
    sudden: bool
    """True where only the last day shows it: weeks of good days would hide for days what went wrong today."""
    evidence: float
    evidence_limit: float
    boundary: float | None

    @property
    def where(self) -> str:
        """What shows the harm, where that is not all steps together."""
        return "" if self.telling is self.overall else " within the last day" if self.sudden else " in the present step"


def _stopped(found: Comparison, history: History | None) -> Comparison:
    """The comparison, not measurable where its metric stopped being logged."""
    problem = found.problem or (checks.stopped(found.metric, history) if history else None)
    if problem == found.problem:
        return found
    return Comparison(found.metric, problem, candidate=found.candidate, baseline=found.baseline, bound=found.bound)


def findings(
    steps: Sequence[Step],
    history: History | None,
    metrics: Sequence[Metric],
    memory: Memory,
    *,
    days: float,
    is_daily: bool,
    is_last_look: bool,
) -> tuple[tuple[Finding, ...], Memory]:
    """What one look finds in each metric, and the memory for the next; only a daily look changes it."""
    periods = compare_since([0, len(steps) - 1] if len(steps) > 1 else [0], steps, metrics)
    checked = [[_stopped(found, history) for found in period] for period in periods]
    overall, present = checked[0], checked[-1]
    cumulative = {c.metric.name: c for c in overall if c.is_measurable and c.metric.is_guardrail}
    # A new step is a new test: its name carries the step's number, so that it starts without a past.
    alone = {f"{c.metric.name}/{len(steps)}": c for c in present if c.is_measurable and c.metric.is_guardrail}
    boundary, after = None, memory
    if is_daily:
        now = alone if len(steps) > 1 else {}
        at, after = sequential.daily_boundary(cumulative, now, memory, days, is_last=is_last_look)
        boundary = at if math.isfinite(at) else None
    limit = sequential.any_look_limit(sum(m.is_guardrail for m in metrics))
    lately = _lately(history, metrics) if history else {}
    pairs = zip(overall, present, strict=True)
    return tuple(_finding(o, p, lately.get(o.metric.name), boundary, limit) for o, p in pairs), after


def _lately(history: History, metrics: Sequence[Metric]) -> dict[str, Comparison]:
    """The metrics in which the last day alone is evidence of harm, by name; each with that day's comparison."""
    arms = history.baseline_lately, history.candidate_lately
    if not all(arms):
        return {}
    guardrails = [metric for metric in metrics if metric.is_guardrail]
    moved = [metric for metric in guardrails if _is_worse(metric, *(value_of(metric, *arm) for arm in arms))]
    limit = sequential.sudden_limit(len(guardrails))
    return {
        found.metric.name: found
        for found in (compare([Step(*map(Sample.total, arms))], moved) if moved else ())
        if found.is_measurable
        and found.z > 0
        and sequential.likelihood_ratio(found.alarm_z, found.alarm_tolerance_z) >= limit
    }


def _is_worse(metric: Metric, baseline: float | None, candidate: float | None) -> bool:
    """Whether it is worth asking about chance: false on nearly every day, at a small part of what that costs."""
    return candidate is not None and metric.is_beyond(candidate, baseline)


def _finding(
    overall: Comparison, present: Comparison, lately: Comparison | None, boundary: float | None, limit: float
) -> Finding:
    evidence = sequential.likelihood_ratio(overall.alarm_z, overall.alarm_tolerance_z) if overall.is_measurable else 0.0
    shown = _worse(overall, present, boundary, is_sure=evidence >= limit)
    worse = (*shown, lately) if lately is not None else shown
    telling = next((found for found in worse if found.is_beyond), overall)
    is_sudden = lately is not None and telling is lately
    return Finding(
        overall.metric, _state(overall, worse), overall, present, telling, is_sudden, evidence, limit, boundary
    )


def _worse(
    overall: Comparison, present: Comparison, boundary: float | None, *, is_sure: bool
) -> tuple[Comparison, ...]:
    """Those of the two comparisons that are significantly worse."""
    by_all = overall.is_measurable and ((boundary is not None and overall.z > boundary) or (is_sure and overall.z > 0))
    by_step = present.is_measurable and boundary is not None and present.z > boundary + sequential.STEP_EXTRA
    return (overall,) * by_all + (present,) * by_step


def _state(overall: Comparison, worse: Sequence[Comparison]) -> State:
    if not overall.metric.is_guardrail:
        return "informative"
    if any(found.is_beyond for found in worse):
        return "worse"
    if not overall.is_measurable:
        return "not measurable"
    if overall in worse:
        return "tolerable"
    return "fine" if overall.room_z >= SURE_ENOUGH and not overall.is_beyond else "inconclusive"


NO_INTERVAL: Final = "no interval: only aggregates are there"


def from_aggregates(
    candidate: VariantMetrics, baseline: VariantMetrics, metrics: Sequence[Metric] = METRICS
) -> tuple[Finding, ...]:
    """The document's six as point estimates: aggregates know nothing of units, so nothing can be said about chance."""
    there = [metric for metric in metrics if hasattr(candidate, metric.name)]
    return tuple(_point(metric, getattr(candidate, metric.name), getattr(baseline, metric.name)) for metric in there)


def _point(metric: Metric, mine: float | None, base: float | None) -> Finding:
    is_there = mine is not None and base is not None
    found = Comparison(
        metric,
        NO_INTERVAL if is_there else "nobody logs it",
        candidate=mine,
        baseline=base,
        bound=None if base is None else metric.bound(base),
        ratio=mine / base if mine is not None and base else None,
        is_beyond=mine is not None and metric.is_beyond(mine, base),
    )
    state: State = "no interval" if is_there else "not measurable"
    if not metric.is_guardrail:
        state = "informative"
    return Finding(metric, state, found, found, found, False, 0.0, 0.0, None)


def reason(worse: Sequence[Finding]) -> str:
    """Why to roll back, the strongest evidence first."""
    first, *rest = sorted(worse, key=lambda finding: -finding.telling.z)
    others = f" Also: {', '.join(finding.metric.title for finding in rest)}." if rest else ""
    how = f"{first.metric.title} is worse{first.where}, beyond chance and beyond tolerance"
    return f"{how}: {compared(first.telling)}.{others}"


_SAYS: Final = {"increase": "increase", "wait": "wait", "rollback": "roll back"}


def difference(alone: Judgement, action: str, why: str, found: Sequence[Finding]) -> str:
    """Why the calibrated rule and the document's own rule part ways."""
    said = f'The fixed thresholds alone (rule "document") say {_SAYS[alone.verdict]}: {alone.why}'
    if action == "hold":
        return f"{said} They do not ask whether the data can be trusted: {why}"
    if action == "rollback":
        return f"{said} They look at the present step's point estimates only; over all evidence the harm is proven."
    if alone.verdict == "rollback":
        unproven = [f for f in found if f.present.is_beyond and f.state != "worse"]
        shown = "; ".join(f"{f.metric.title} {change(f.overall)}" for f in unproven if f.overall.is_measurable)
        return f"{said} That much can be chance{': ' + shown if shown else ''}."
    return f"{said} The calibrated rule asks for more: {why}"
