"""One look at a rollout: from what both arms did to an action with its reasons, and what the next look must know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

from core.rules import allocation, checks, decision, sequential
from core.rules.checks import Concern, History, Traffic
from core.rules.decision import Judgement, Rule, Terms, minimum_days
from core.rules.estimates import Comparison, Step, compare
from core.rules.metrics import METRICS, Metric, variant_metrics
from core.rules.pricing import Price, price
from core.rules.sequential import Memory
from core.rules.wording import compared, difference, reason

Action = Literal["increase", "promote", "wait", "rollback", "hold"]
State = Literal["worse", "tolerable", "fine", "inconclusive", "not measurable", "no interval", "informative"]

SURE_ENOUGH: Final = 1.645
"""Evidence that harm stays below the tolerance, for calling a metric fine."""
GATE = 1.0
LAST_GATE_DAYS: Final = 14
"""How much longer the step before full traffic may last while something looks worse than chance."""


@dataclass(frozen=True)
class Look:
    """All that one look sees. Days are counted from the start of the rollout and of the present step.

    `steps` are oldest first, the present one last; `share` is the candidate's present share of 1. `units`, `shares`,
    `traffic` and `history` feed the checks of the data (see `checks`); what is absent is not checked. Only a daily
    look spends budget and changes the memory; looks in between raise the alarm for disasters only.
    """

    steps: Sequence[Step]
    share: Decimal
    days: float
    days_in_step: float
    seen_until: datetime
    is_daily: bool = True
    units: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Decimal] = field(default_factory=dict)
    traffic: Traffic | None = None
    history: History | None = None
    constraint_respect: float | None = None
    baseline_constraint_respect: float | None = None


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
    evidence: float
    evidence_limit: float
    boundary: float | None


@dataclass(frozen=True, eq=False)
class Decision:
    """The action, why in one sentence, and everything behind it."""

    action: Action
    why: str
    rule: Rule
    findings: tuple[Finding, ...]
    concerns: tuple[Concern, ...]
    alerts: tuple[str, ...]
    calibrated: Action
    document: Judgement
    difference: str | None
    price: Price | None
    seen_until: datetime


def decide(
    look: Look, memory: Memory, terms: Terms, *, rule: Rule = "calibrated", metrics: Sequence[Metric] = METRICS
) -> tuple[Decision, Memory]:
    """The verdict of one look and the memory for the next; the same arguments always give the same answer.

    Where the data are not trusted, or between daily looks, the memory comes back unchanged.
    """
    concerns = _concerns(look, metrics)
    last = allocation.next_step(look.share, terms.steps) == 1
    findings, after = _findings(look, memory, metrics, is_last_look=last and not _may_wait(look))
    alone = decision.judge(
        variant_metrics(look.steps[-1].candidate),
        variant_metrics(look.steps[-1].baseline),
        look.days_in_step,
        look.share,
        minimum_samples=terms.minimum_samples,
    )
    calibrated, why = _calibrated(look, findings, concerns, terms, is_last=last)
    by_document: Action = "promote" if alone.verdict == "increase" and last else alone.verdict
    action = calibrated if rule == "calibrated" else by_document
    found = Decision(
        action=action,
        why=why if rule == "calibrated" else alone.why,
        rule=rule,
        findings=findings,
        concerns=concerns,
        alerts=_alerts(look, findings),
        calibrated=calibrated,
        document=alone,
        difference=None if by_document == calibrated else difference(alone, calibrated, why, findings),
        price=_price(look, findings, terms) if action == "wait" else None,
        seen_until=look.seen_until,
    )
    return found, memory if concerns else after


def _concerns(look: Look, metrics: Sequence[Metric]) -> tuple[Concern, ...]:
    found = (
        checks.constraints(look.constraint_respect, look.baseline_constraint_respect),
        checks.sample_ratio(look.units, look.shares),
        checks.freshness(look.traffic) if look.traffic else None,
        checks.baseline_upset(look.history, [m for m in metrics if m.is_guardrail]) if look.history else None,
    )
    return tuple(concern for concern in found if concern)


def _stopped(found: Comparison, history: History | None) -> Comparison:
    """The comparison, not measurable where its metric stopped being logged."""
    problem = found.problem or (checks.stopped(found.metric, history) if history else None)
    if problem == found.problem:
        return found
    return Comparison(found.metric, problem, candidate=found.candidate, baseline=found.baseline, bound=found.bound)


def _findings(
    look: Look, memory: Memory, metrics: Sequence[Metric], *, is_last_look: bool
) -> tuple[tuple[Finding, ...], Memory]:
    overall = [_stopped(found, look.history) for found in compare(look.steps, metrics)]
    present = (
        overall if len(look.steps) == 1 else [_stopped(c, look.history) for c in compare(look.steps[-1:], metrics)]
    )
    cumulative = {c.metric.name: c for c in overall if c.is_measurable and c.metric.is_guardrail}
    # A new step is a new test: its name carries the step's number, so that it starts without a past.
    alone = {f"{c.metric.name}/{len(look.steps)}": c for c in present if c.is_measurable and c.metric.is_guardrail}
    boundary, after = None, memory
    if look.is_daily:
        now = alone if len(look.steps) > 1 else {}
        at, after = sequential.daily_boundary(cumulative, now, memory, look.days, is_last=is_last_look)
        boundary = at if math.isfinite(at) else None
    limit = sequential.any_look_limit(sum(m.is_guardrail for m in metrics))
    return tuple(_finding(o, p, boundary, limit) for o, p in zip(overall, present, strict=True)), after


def _finding(overall: Comparison, present: Comparison, boundary: float | None, limit: float) -> Finding:
    evidence = sequential.likelihood_ratio(overall.alarm_z, overall.alarm_tolerance_z) if overall.is_measurable else 0.0
    return Finding(
        overall.metric,
        _state(overall, present, boundary, is_sure=evidence >= limit),
        overall,
        present,
        evidence,
        limit,
        boundary,
    )


def _state(overall: Comparison, present: Comparison, boundary: float | None, *, is_sure: bool) -> State:
    if not overall.metric.is_guardrail:
        return "informative"
    worse = []
    if overall.is_measurable and ((boundary is not None and overall.z > boundary) or (is_sure and overall.z > 0)):
        worse.append(overall)
    if present.is_measurable and boundary is not None and present.z > boundary + sequential.STEP_EXTRA:
        worse.append(present)
    if any(found.is_beyond for found in worse):
        return "worse"
    if not overall.is_measurable:
        return "not measurable"
    if overall in worse:
        return "tolerable"
    return "fine" if overall.room_z >= SURE_ENOUGH and not overall.is_beyond else "inconclusive"


def _calibrated(
    look: Look, findings: Sequence[Finding], concerns: Sequence[Concern], terms: Terms, *, is_last: bool
) -> tuple[Action, str]:
    """The calibrated rule's action and its reason; the first that applies."""
    if look.constraint_respect is not None and look.constraint_respect < 1 and not _is_shared(concerns):
        return "rollback", f"Constraints are violated in production: respect is {look.constraint_respect:.4f}, not 1."
    if concerns:
        return "hold", concerns[0].why
    if worse := [finding for finding in findings if finding.state == "worse"]:
        return "rollback", reason(worse)
    if blocked := _blocked(look, findings, terms, is_last=is_last):
        return "wait", blocked
    if allocation.next_step(look.share, terms.steps) is None:
        return "wait", "The candidate serves all traffic; there is nothing left to compare it with."
    return ("promote" if is_last else "increase"), "Enough plans and days, and no metric is worse than it may be."


def _is_shared(concerns: Sequence[Concern]) -> bool:
    return any(concern.kind == "constraints" for concern in concerns)


def _blocked(look: Look, findings: Sequence[Finding], terms: Terms, *, is_last: bool) -> str | None:
    """Why the share may not grow yet, though nothing is worse; None where it may."""
    plans, needed = look.steps[-1].candidate.plans, minimum_days(look.share)
    if plans < terms.minimum_samples:
        return f"{plans:,} of the {terms.minimum_samples:,} plans needed have been served."
    if look.days_in_step < needed:
        return f"{look.days_in_step:.1f} of the {needed} days needed at this share have passed."
    required = [f for f in findings if f.metric.required and f.metric.is_guardrail]
    for problem, title in ((f.overall.problem or f.present.problem, f.metric.title) for f in required):
        if problem:
            return f"{title} cannot be measured: {problem}. That is no pass."
    if over := [f for f in findings if _is_over_limit(f)]:
        limits = ", ".join(f"{f.metric.title} above {decision.format_value(f.metric, f.metric.limit)}" for f in over)
        return f"Beyond an absolute limit, whatever the baseline does: {limits}."
    doubtful = [f for f in findings if f.overall.is_measurable and f.metric.is_guardrail and _is_doubtful(f.overall)]
    if is_last and doubtful and _may_wait(look):
        titles = ", ".join(f.metric.title for f in doubtful)
        return f"Before full traffic it has to be clearer that these are not worse: {titles}."
    return None


def judged(found: Decision) -> dict[str, tuple[bool | None, str]]:
    """For the checklist: whether each metric is not significantly worse, and its numbers.

    None where nothing is known, and where a harm that is not proven is not ruled out either, until the last gate
    has waited as long as it may.
    """
    is_clear = found.action in ("increase", "promote")
    return {f.metric.name: (_passes(f, is_clear=is_clear), compared(f.overall)) for f in found.findings}


def _passes(finding: Finding, *, is_clear: bool) -> bool | None:
    if finding.state == "worse" or _is_over_limit(finding):
        return False
    if not finding.overall.is_measurable:
        return None
    return True if is_clear or not _is_doubtful(finding.overall) else None


def _may_wait(look: Look) -> bool:
    """True while the last gate may still ask for more time."""
    return look.days_in_step < minimum_days(look.share) + LAST_GATE_DAYS


def _is_doubtful(found: Comparison) -> bool:
    return found.z > max(GATE, found.tolerance_z - 1)


def _is_over_limit(finding: Finding) -> bool:
    """True where the candidate is beyond an absolute limit that the baseline keeps, with its whole interval."""
    found, limit = finding.overall, finding.metric.limit
    if limit is None or not finding.metric.is_guardrail or not found.is_measurable or found.baseline is None:
        return False
    return found.is_beyond and found.baseline <= limit and found.low is not None and found.low * found.baseline > limit


def _alerts(look: Look, findings: Sequence[Finding]) -> tuple[str, ...]:
    """The platform's absolute limits, said at once and whatever the action is."""
    alerts = [
        f"{arm}: constraint respect is {value:.4f}, not 1."
        for arm, value in (("Candidate", look.constraint_respect), ("Baseline", look.baseline_constraint_respect))
        if value is not None and value < 1
    ]
    for finding in findings:
        for arm, value in (("Candidate", finding.present.candidate), ("Baseline", finding.present.baseline)):
            if finding.metric.limit is not None and value is not None and finding.metric.is_beyond(value, None):
                shown, limit = (decision.format_value(finding.metric, v) for v in (value, finding.metric.limit))
                alerts.append(f"{arm}: {finding.metric.title} is {shown}, the limit is {limit}.")
    return tuple(alerts)


def _price(look: Look, findings: Sequence[Finding], terms: Terms) -> Price:
    open_ones = [f.overall for f in findings if f.state == "inconclusive"]
    return price(
        open_ones,
        plans=sum(step.candidate.plans for step in look.steps),
        plans_in_step=look.steps[-1].candidate.plans,
        days_in_step=look.days_in_step,
        share=look.share,
        next_share=allocation.next_step(look.share, terms.steps),
        boundary=next((f.boundary for f in findings if f.boundary is not None), None),
        minimum_samples=terms.minimum_samples,
    )
