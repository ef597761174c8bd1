"""One look at a rollout: from what both arms did to an action with its reasons, and what the next look must know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np

from core.rules import allocation, chain, checks, decision
from core.rules.checks import Concern, History, Traffic
from core.rules.decision import Judgement, Rule, Terms
from core.rules.estimates import Comparison, Step
from core.rules.findings import Finding, difference, findings, from_aggregates, reason
from core.rules.metrics import Metric, VariantMetrics, variant_metrics
from core.rules.pricing import Price, price
from core.rules.sequential import Memory
from core.rules.wording import compared

Action = Literal["increase", "promote", "wait", "rollback", "hold"]

GATE: Final = 1.0
"""The deviate of harm above which the last gate still waits, where the tolerance is worth less than two."""
LAST_GATE_DAYS: Final = 14
"""How much longer the step before full traffic may last while something looks worse than chance."""


@dataclass(frozen=True)
class Aggregates:
    """What is known of both arms where a team keeps aggregates instead of events: numbers without an interval."""

    candidate: VariantMetrics
    baseline: VariantMetrics
    hours_behind: float
    """How long ago the newest bucket ended."""
    bucket_hours: float
    """How long the shortest buckets are."""


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
    aggregated: Aggregates | None = None
    """Takes the place of the steps' samples where there are none."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The action, why in one sentence, and everything behind it."""

    action: Action
    why: str
    rule: Rule
    findings: tuple[Finding, ...]
    concerns: tuple[Concern, ...]
    alerts: tuple[str, ...]
    calibrated: Action | None
    """None where there is no interval, so that no such rule can be applied."""
    document: Judgement
    difference: str | None
    price: Price | None
    seen_until: datetime


def decide(look: Look, memory: Memory, terms: Terms) -> tuple[Decision, Memory]:
    """The verdict of one look and the memory for the next; the same arguments always give the same answer.

    Where the data are not trusted, or between daily looks, the memory comes back unchanged.
    """
    concerns = _concerns(look, terms.metrics)
    if look.aggregated is not None:
        return _pointwise(look, look.aggregated, concerns, terms), memory
    last = _is_last(look, terms)
    found, after = findings(
        look.steps,
        look.history,
        terms.metrics,
        memory,
        days=look.days,
        is_daily=look.is_daily,
        is_last_look=last and not _may_wait(look, terms),
    )
    arms = look.steps[-1]
    alone, by_document = _by_document(look, variant_metrics(arms.candidate), variant_metrics(arms.baseline), terms)
    calibrated, why = _calibrated(look, found, concerns, terms, is_last=last)
    is_calibrated = terms.rule == "calibrated"
    action = calibrated if is_calibrated else by_document
    decided = Decision(
        action=action,
        why=why if is_calibrated else alone.why,
        rule=terms.rule,
        findings=found,
        concerns=concerns,
        alerts=_alerts(look, found),
        calibrated=calibrated,
        document=alone,
        difference=None if by_document == calibrated else difference(alone, calibrated, why, found),
        price=_price(look, found, terms) if action == "wait" else None,
        seen_until=look.seen_until,
    )
    return decided, memory if concerns else after


def as_text(found: Decision) -> str:
    """A whole verdict as canonical JSON: two that differ in one bit differ here."""
    return chain.canonical(_plain(found))


def _plain(value: Any) -> Any:
    """Values as JSON has them: metrics by name, arrays by the hash of their bytes."""
    if isinstance(value, Metric):
        return value.name
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _is_last(look: Look, terms: Terms) -> bool:
    """True at the share from which the next step is full traffic."""
    return allocation.next_step(look.share, terms.steps) == 1


def _by_document(
    look: Look, candidate: VariantMetrics, baseline: VariantMetrics, terms: Terms
) -> tuple[Judgement, Action]:
    """The document's rule on the numbers of the present step."""
    alone = decision.judge(candidate, baseline, look.days_in_step, look.share, terms=terms)
    return alone, "promote" if alone.verdict == "increase" and _is_last(look, terms) else alone.verdict


def _pointwise(look: Look, given: Aggregates, concerns: Sequence[Concern], terms: Terms) -> Decision:
    """The document's verdict, whichever rule was chosen: without an interval there is no other."""
    alone, by_document = _by_document(look, given.candidate, given.baseline, terms)
    found = from_aggregates(given.candidate, given.baseline, terms.metrics)
    action, why = _forced(look, concerns) or (by_document, f"{alone.why} Point estimates only: it may be chance.")
    return Decision(
        action=action,
        why=why,
        rule="document",
        findings=found,
        concerns=tuple(concerns),
        alerts=_alerts(look, found),
        calibrated=None,
        document=alone,
        difference=None,
        price=None,
        seen_until=look.seen_until,
    )


def _concerns(look: Look, metrics: Sequence[Metric]) -> tuple[Concern, ...]:
    found = (
        checks.constraints(look.constraint_respect, look.baseline_constraint_respect),
        checks.sample_ratio(look.units, look.shares),
        checks.freshness(look.traffic) if look.traffic else None,
        checks.aggregates(look.aggregated.hours_behind, look.aggregated.bucket_hours) if look.aggregated else None,
        checks.baseline_upset(look.history, [m for m in metrics if m.is_guardrail]) if look.history else None,
    )
    return tuple(concern for concern in found if concern)


def _calibrated(
    look: Look, findings: Sequence[Finding], concerns: Sequence[Concern], terms: Terms, *, is_last: bool
) -> tuple[Action, str]:
    """The calibrated rule's action and its reason; the first that applies."""
    if forced := _forced(look, concerns):
        return forced
    if worse := [finding for finding in findings if finding.state == "worse"]:
        return "rollback", reason(worse)
    if blocked := _blocked(look, findings, terms, is_last=is_last):
        return "wait", blocked
    if allocation.next_step(look.share, terms.steps) is None:
        return "wait", "The candidate serves all traffic; there is nothing left to compare it with."
    return ("promote" if is_last else "increase"), "Enough plans and days, and no metric is worse than it may be."


def _forced(look: Look, concerns: Sequence[Concern]) -> tuple[Action, str] | None:
    """What goes before any statistics: violated constraints, then data that are not trusted."""
    if look.constraint_respect is not None and look.constraint_respect < 1 and not _is_shared(concerns):
        return "rollback", f"Constraints are violated in production: respect is {look.constraint_respect:.4f}, not 1."
    return ("hold", concerns[0].why) if concerns else None


def _is_shared(concerns: Sequence[Concern]) -> bool:
    return any(concern.kind == "constraints" for concern in concerns)


def _blocked(look: Look, findings: Sequence[Finding], terms: Terms, *, is_last: bool) -> str | None:
    """Why the share may not grow yet, though nothing is worse; None where it may."""
    plans, needed = look.steps[-1].candidate.plans, terms.days_at(look.share)
    if plans < terms.minimum_samples:
        return f"{plans:,} of the {terms.minimum_samples:,} plans needed have been served."
    if look.days_in_step < needed:
        return f"{look.days_in_step:.1f} of the {needed} days needed at this share have passed."
    required = [f for f in findings if f.metric.required and f.metric.is_guardrail]
    for problem, title in ((f.overall.problem or f.present.problem, f.metric.title) for f in required):
        if problem:
            return f"{title} cannot be measured: {problem}. That is no pass."
    if over := [f for f in findings if _is_over_limit(f)]:
        limits = ", ".join(_beyond_limit(f.metric) for f in over)
        return f"Beyond an absolute limit, whatever the baseline does: {limits}."
    doubtful = [f for f in findings if f.overall.is_measurable and f.metric.is_guardrail and _is_doubtful(f.overall)]
    if is_last and doubtful and _may_wait(look, terms):
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


def _may_wait(look: Look, terms: Terms) -> bool:
    """True while the last gate may still ask for more time."""
    return look.days_in_step < terms.days_at(look.share) + LAST_GATE_DAYS


def _is_doubtful(found: Comparison) -> bool:
    return found.z > max(GATE, found.tolerance_z - 1)


def _is_over_limit(finding: Finding) -> bool:
    """True where the candidate is beyond an absolute limit that the baseline keeps, with its whole interval."""
    found, metric = finding.overall, finding.metric
    is_kept = found.baseline is not None and not metric.breaks_limit(found.baseline)
    return is_kept and metric.is_guardrail and found.surely_breaks_limit


def _beyond_limit(metric: Metric) -> str:
    side = "below" if metric.higher_is_better else "above"
    return f"{metric.title} {side} {decision.format_value(metric, metric.limit)}"


def _alerts(look: Look, findings: Sequence[Finding]) -> tuple[str, ...]:
    """The platform's absolute limits, said at once and whatever the action is."""
    alerts = [
        f"{arm}: constraint respect is {value:.4f}, not 1."
        for arm, value in (("Candidate", look.constraint_respect), ("Baseline", look.baseline_constraint_respect))
        if value is not None and value < 1
    ]
    for finding in findings:
        for arm, value in (("Candidate", finding.present.candidate), ("Baseline", finding.present.baseline)):
            if value is not None and finding.metric.breaks_limit(value):
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
        terms=terms,
    )
