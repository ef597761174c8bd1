"""The document's rule for the next step, and the checklist before production."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol

from core.rules.allocation import INITIAL_LIMIT, STEPS
from core.rules.approval import Quorums
from core.rules.freezes import Window
from core.rules.metrics import METRICS, MINIMUM_SAMPLES, Metric

Verdict = Literal["wait", "rollback", "increase"]
Rule = Literal["calibrated", "document"]

MINIMUM_DAYS: Mapping[Decimal, int] = {Decimal("0.10"): 3, Decimal("0.25"): 5, Decimal("0.50"): 7}
"""Days that each allocation must last (model-promotion.md, 4.2)."""


def minimum_days(allocation: Decimal | float | None, least: Mapping[Decimal, int] = MINIMUM_DAYS) -> int:
    """Days a candidate must have stayed at `allocation` (a share of 1); the shortest period where it is None."""
    reached = [share for share in least if allocation is not None and allocation >= share]
    return least[max(reached)] if reached else min(least.values())


@dataclass(frozen=True)
class Terms:
    """The terms on which a rollout is judged and decided on; the document's by default."""

    steps: tuple[Decimal, ...] = STEPS
    minimum_samples: int = MINIMUM_SAMPLES
    price_per_1000_tokens: Decimal | None = None
    minimum_days: Mapping[Decimal, int] = field(default_factory=lambda: MINIMUM_DAYS)
    """By share: the days from there on to the next share of these."""
    metrics: tuple[Metric, ...] = METRICS
    """The document's six, in their order, and after them a team's own."""
    rule: Rule = "calibrated"
    quorums: Quorums = field(default_factory=Quorums)
    freezes: tuple[Window, ...] = ()
    """When nothing may move on."""

    @property
    def fixed(self) -> tuple[Metric, ...]:
        """Those of the document's six that decide; its fixed thresholds know no others."""
        return tuple(metric for metric in self.metrics if metric.name in _SIX and metric.is_guardrail)

    def days_at(self, allocation: Decimal | float | None) -> int:
        """Days a candidate must stay at a share; the shortest period where it is None."""
        return minimum_days(allocation, self.minimum_days)

    def of(self, experiment: str) -> Terms:
        """The same for every experiment."""
        return self


_SIX = frozenset(metric.name for metric in METRICS)
DOCUMENT = Terms()
"""The document's own."""


class AllTerms(Protocol):
    """The terms of every experiment: the rulebook of an installation, or `Terms` that hold for all.

    What is done about one experiment takes its `Terms`; whatever finds the experiment first takes these.
    """

    @property
    def price_per_1000_tokens(self) -> Decimal | None: ...
    @property
    def freezes(self) -> tuple[Window, ...]: ...
    def of(self, experiment: str) -> Terms:
        """The terms of one experiment."""
        ...


@dataclass(frozen=True)
class Rulebook:
    """The terms of an installation: the usual ones, and those of the experiments, by name, that have their own."""

    usual: Terms = field(default_factory=Terms)
    own: Mapping[str, Terms] = field(default_factory=dict)

    @property
    def price_per_1000_tokens(self) -> Decimal | None:
        """What tokens cost; the same for all experiments."""
        return self.usual.price_per_1000_tokens

    @property
    def freezes(self) -> tuple[Window, ...]:
        """When nothing may move on; each window says in which experiments."""
        return self.usual.freezes

    def of(self, experiment: str) -> Terms:
        """The terms of one experiment."""
        return self.own.get(experiment, self.usual)


class Measured(Protocol):
    """Anything with the attributes of `metrics.VariantMetrics`; an absent attribute counts as not logged."""

    @property
    def sample_size(self) -> int: ...


def _value(measured: Measured, metric: Metric) -> float | None:
    """The number that was measured; None where nothing was logged, or what was logged is no finite number."""
    value = getattr(measured, metric.name, None)
    return None if value is None or not math.isfinite(value) else float(value)


def _is_missing(measured: Measured, metric: Metric) -> bool:
    """True where a required metric has no value, or an optional one is there and is not a finite number."""
    is_absent = getattr(measured, metric.name, None) is None
    return metric.required if is_absent else _value(measured, metric) is None


def beyond_tolerance(variant: Measured, baseline: Measured, metrics: Sequence[Metric] = METRICS) -> list[Metric]:
    """The metrics in which the variant is worse than they accept."""
    return [
        metric
        for metric in metrics
        if (value := _value(variant, metric)) is not None and metric.is_beyond(value, _value(baseline, metric))
    ]


def not_measured(variant: Measured, baseline: Measured, metrics: Sequence[Metric] = METRICS) -> list[Metric]:
    """The metrics that cannot be judged: a required one without a value, or one whose value is not a finite number.

    A metric with an absolute limit is judged without the baseline.
    """
    return [
        metric
        for metric in metrics
        if _is_missing(variant, metric) or (metric.limit is None and _is_missing(baseline, metric))
    ]


@dataclass(frozen=True)
class Judgement:
    """What the document's rule says on one set of numbers, and why, as one sentence for people."""

    verdict: Verdict
    why: str


def judge(
    variant: Measured,
    baseline: Measured,
    duration_days: float,
    allocation: Decimal | float | None = None,
    *,
    terms: Terms = DOCUMENT,
) -> Judgement:
    """The document's criteria in its order; `should_increase_allocation` says what they are.

    Comparisons are written so that a value that is not a number never lets anything pass.
    """
    samples, needed, shortest = variant.sample_size, terms.days_at(allocation), terms.days_at(None)
    if not samples >= terms.minimum_samples:
        return Judgement("wait", f"{samples:,} of the {terms.minimum_samples:,} plans needed have been served.")
    if not duration_days >= shortest:
        return Judgement("wait", f"{duration_days:.1f} of the {shortest} days needed have passed.")
    if beyond := beyond_tolerance(variant, baseline, terms.fixed):
        return Judgement("rollback", f"Beyond tolerance: {_titles(beyond)}.")
    if missing := not_measured(variant, baseline, terms.fixed):
        return Judgement("wait", f"Not measured: {_titles(missing)}. That is no good news.")
    if duration_days < needed:
        return Judgement("wait", f"{duration_days:.1f} of the {needed} days needed at this share have passed.")
    return Judgement("increase", "Enough plans and days, and no metric is beyond its tolerance.")


def _titles(metrics: Sequence[Metric]) -> str:
    return ", ".join(metric.title for metric in metrics)


def should_increase_allocation(
    variant_metrics: Measured,
    baseline_metrics: Measured,
    duration_days: float,
    allocation: Decimal | float | None = None,
    *,
    minimum_samples: int = MINIMUM_SAMPLES,
) -> Verdict:
    """The document's criteria (model-promotion.md, 4.1 to 4.3) on point estimates.

    Latencies are in milliseconds, rates are shares of 1, `duration_days` counts from the start of the present
    step and `allocation` is the candidate's present share. p99 latency, cost and allocation are skipped where
    absent. A required metric that is missing on either side, and any that is not a finite number, gives "wait": no
    evidence is not good news. Harm is acted on from day 3 whatever the allocation; only an increase has to wait for
    the allocation's own minimum.
    """
    terms = Terms(minimum_samples=minimum_samples)
    return judge(variant_metrics, baseline_metrics, duration_days, allocation, terms=terms).verdict


def why(
    variant: Measured,
    baseline: Measured,
    duration_days: float,
    allocation: Decimal | float | None = None,
    *,
    minimum_samples: int = MINIMUM_SAMPLES,
) -> str:
    """The reason behind `should_increase_allocation` on the same numbers, as one sentence for people."""
    return judge(variant, baseline, duration_days, allocation, terms=Terms(minimum_samples=minimum_samples)).why


@dataclass(frozen=True)
class CheckRow:
    """One row of the checklist: `passed` is None where there is nothing to judge by, and that is not a pass."""

    title: str
    passed: bool | None
    detail: str
    waits: bool = False
    """True where it has not passed because plans or days are missing that only have to come."""


@dataclass(frozen=True)
class Held:
    """How long the candidate has been at one step of the plan."""

    share: Decimal
    days: float


@dataclass(frozen=True)
class Evidence:
    """What the checklist is evaluated on, read by the caller in one transaction."""

    evaluation_passed: bool | None
    evaluation_detail: str
    is_linked: bool
    link_detail: str
    initial_share: Decimal | None
    held: Sequence[Held]
    candidate: Measured
    baseline: Measured
    judged: Mapping[str, tuple[bool | None, str]] | None = None
    """By metric: whether it passes, and its numbers. Where there is none, point estimates are compared."""
    terms: Terms = DOCUMENT


Periods = Sequence[tuple[Decimal, float]]
"""Shares with the days they lasted, in the order they happened."""


def present_run(periods: Periods) -> Periods:
    """The periods since the candidate last joined: whatever came before a period at 0 % is void."""
    starts = [n for n, (share, _) in enumerate(periods, 1) if share == 0]
    return periods[max(starts, default=0) :]


def held(periods: Periods, steps: Sequence[Decimal]) -> tuple[Held, ...]:
    """Days spent at each step below full traffic in the present run; a share between two steps counts for the lower."""
    below = [step for step in steps if step < 1]
    days = dict.fromkeys(below, 0.0)
    for share, lasted in present_run(periods):
        if share < 1:
            days[max((step for step in below if step <= share), default=below[0])] += lasted
    return tuple(Held(step, lasted) for step, lasted in days.items())


_METRIC_ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Acceptance", ("acceptance_rate",)),
    ("Edits per plan", ("avg_edits",)),
    ("Validator interventions", ("validator_rate",)),
    ("Latency", ("p50_latency", "p99_latency")),
    ("Cost per plan", ("cost_per_plan",)),
)


METRIC_ROWS = tuple(title for title, _ in _METRIC_ROWS)
"""The titles of the rows that are about metrics."""


def format_value(metric: Metric, value: float | None) -> str:
    """A number as a person reads it: 71.3 %, 1.42, 412 ms, 0.0031."""
    if value is None:
        return "no data"
    written = {
        "share": f"{value:.1%}".replace("%", " %"),
        "count": f"{value:.2f}",
        "ms": f"{value:,.0f} ms",
        "number": f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}",
    }
    return written.get(metric.unit, f"{value:.4g}")


def _compared(metric: Metric, evidence: Evidence) -> tuple[bool | None, str]:
    passed, detail = _told(metric, evidence)
    return (passed, detail) if metric.is_guardrail else (True, f"{detail} (shown only)")


def _told(metric: Metric, evidence: Evidence) -> tuple[bool | None, str]:
    if evidence.judged is not None:
        return evidence.judged.get(metric.name, (None, "no data"))
    value, base = _value(evidence.candidate, metric), _value(evidence.baseline, metric)
    passed = None if value is None or (base is None and metric.limit is None) else not metric.is_beyond(value, base)
    return passed, f"{format_value(metric, value)} against {format_value(metric, base)}"


def _metric_row(title: str, names: Sequence[str], evidence: Evidence) -> CheckRow:
    chosen = [metric for metric in evidence.terms.metrics if metric.name in names]
    found = [(metric, *_compared(metric, evidence)) for metric in chosen]
    verdicts = [passed for _, passed, _ in found]
    passed = False if False in verdicts else None if None in verdicts else True
    label = {metric.name: f"{metric.title.removeprefix(f'{title} ')} " if len(chosen) > 1 else "" for metric in chosen}
    detail = "; ".join(f"{label[metric.name]}{text}" for metric, _, text in found)
    if evidence.candidate.sample_size < evidence.terms.minimum_samples:
        return CheckRow(title, None, f"{detail} (too early to judge)", waits=True)
    return CheckRow(title, passed, detail)


def _duration_row(held: Sequence[Held], terms: Terms) -> CheckRow:
    """The days at each step. A step that was left too early has failed; one that still lasts or is to come waits."""
    least = [terms.days_at(step.share) for step in held]
    enough = [step.days >= days for step, days in zip(held, least, strict=True)]
    reached = max((n for n, step in enumerate(held) if step.days > 0), default=0)
    detail = ", ".join(f"{percent(h.share)}: {_days_so_far(h, days)}" for h, days in zip(held, least, strict=True))
    is_enough = bool(held) and all(enough)
    return CheckRow(
        "Minimum duration", is_enough, detail or "no step held yet", waits=not is_enough and all(enough[:reached])
    )


def _days_so_far(held: Held, least: int) -> str:
    return f"{held.days:.1f} d, {least} needed" if held.days >= least else f"{held.days:.1f} of {least} d"


def _plans_so_far(plans: int, least: int) -> str:
    return f"{plans:,} plans, {least:,} needed" if plans >= least else f"{plans:,} of {least:,} plans"


def checklist(evidence: Evidence) -> tuple[CheckRow, ...]:
    """The ten rows of model-promotion.md, section 7, in its order, each with the numbers behind it."""
    initial, samples, terms = evidence.initial_share, evidence.candidate.sample_size, evidence.terms
    return (
        CheckRow("Offline evaluation", evidence.evaluation_passed, evidence.evaluation_detail),
        CheckRow("Policy version", evidence.is_linked, evidence.link_detail),
        CheckRow(
            "Experiment variant",
            None if initial is None else initial <= INITIAL_LIMIT,
            "no record of its first share" if initial is None else f"joined at {percent(initial)}",
        ),
        _duration_row(evidence.held, terms),
        CheckRow(
            "Sample size",
            samples >= terms.minimum_samples,
            _plans_so_far(samples, terms.minimum_samples),
            waits=samples < terms.minimum_samples,
        ),
        *(_metric_row(title, names, evidence) for title, names in _METRIC_ROWS),
    )


def percent(share: Decimal | float) -> str:
    """A share as people read it: `10 %`, `12.5 %`, `33.33 %`."""
    return f"{float(share) * 100:.2f}".rstrip("0").rstrip(".") + " %"
