"""What the configuration file says of metrics: how the six are judged, and a team's own."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from core.rules import metrics
from core.rules.metrics import Collected, Metric, Quantile
from core.rules.samples import LATENCY
from core.written import Event, EventField, Limit, MetricName, Ratio, Section, Tolerance

BOTH: Final = "give a tolerance against the baseline or an absolute limit, not both"
SHOWN_ONLY: Final = "what is only shown (guardrail = false) cannot be required; leave one of the two out"
BOUNDLESS: Final = "a guardrail needs a tolerance or a limit; guardrail = false only shows the metric"
NO_QUANTILE_BELOW_0: Final = "the limit of a quantile has to be more than 0"


class MetricSection(Section):
    """How a metric is judged where that differs from what is usual; what is left out stays as it is."""

    tolerance: Tolerance | None = None
    """How much worse than the baseline is accepted: 0.10 is 10 %. It takes the place of a limit."""
    limit: Limit | None = None
    """The worst value that is accepted whatever the baseline is, in the metric's own unit. It takes the place of a
    tolerance."""
    guardrail: bool | None = None
    """false: the metric is shown and never decides."""
    required: bool | None = None
    """true: without this metric nothing is concluded; false: it is skipped where nobody logs it."""

    @model_validator(mode="after")
    def _agrees(self) -> MetricSection:
        if self.tolerance is not None and self.limit is not None:
            raise ValueError(BOTH)
        if self.required and self.guardrail is False:
            raise ValueError(SHOWN_ONLY)
        return self

    def contradiction(self, usual: Metric) -> str | None:
        """Why a metric that is usually so cannot be judged like this; None where it can."""
        made = self.applied(usual)
        if made.is_guardrail and made.tolerance is None and made.limit is None:
            return BOUNDLESS
        if made.limit == 0 and isinstance(made.source, Quantile):
            return NO_QUANTILE_BELOW_0
        return SHOWN_ONLY if self.required and not made.is_guardrail else None

    def applied(self, usual: Metric) -> Metric:
        """The metric, judged like this."""
        has_bound = self.tolerance is not None or self.limit is not None
        is_guardrail = usual.is_guardrail if self.guardrail is None else self.guardrail
        return replace(
            usual,
            tolerance=self.tolerance if has_bound else usual.tolerance,
            limit=self.limit if has_bound else usual.limit,
            is_guardrail=is_guardrail,
            required=(usual.required if self.required is None else self.required) and is_guardrail,
        )


class CustomMetric(Section):
    """A metric of a team's own, in one line: what is collected, and how much worse than the baseline is too much."""

    share: Event | None = None
    """Plans with at least one event of this type, as a share of all plans."""
    count: Event | None = None
    """Events of this type per plan."""
    ratio: Ratio | None = None
    """Events of one type over events of another, each `EVENT`, or `EVENT.FIELD` for the sum of a number that they log
    in `metrics`."""
    mean: EventField | None = None
    """`EVENT.FIELD`: the number that events of this type log in `metrics`, per plan that has it."""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The value that this share of plans does not exceed, for example 0.9: of their latency, or of what `of` names."""
    of: EventField | None = None
    """`EVENT.FIELD`: of which number the quantile is, instead of the latency; from 0 on."""
    title: str | None = None
    """What people are shown; the name where it is left out."""
    higher_is_better: bool = False
    """true where more is better: then the tolerance is downwards, and the limit is the least that is accepted."""
    tolerance: Tolerance | None = None
    """How much worse than the baseline is accepted: 0.10 is 10 %."""
    limit: Limit | None = None
    """The worst value that is accepted whatever the baseline is, in the metric's own unit."""
    guardrail: bool = True
    """false: the metric is shown and never decides."""
    required: bool = False
    """true: the metric must be measurable before an increase."""

    @model_validator(mode="after")
    def _is_one_metric(self) -> CustomMetric:
        if sum(kind is not None for kind in (self.share, self.count, self.ratio, self.mean, self.quantile)) != 1:
            raise ValueError(
                'give exactly one of share, count, ratio, mean, quantile, for example count = "meal_swapped"'
            )
        if self.of is not None and self.quantile is None:
            raise ValueError('of is for a quantile, like quantile = 0.95; the mean of a field is mean = "EVENT.FIELD"')
        if self.tolerance is not None and self.limit is not None:
            raise ValueError(BOTH)
        if self.guardrail and self.tolerance is None and self.limit is None:
            raise ValueError(BOUNDLESS)
        if self.required and not self.guardrail:
            raise ValueError(SHOWN_ONLY)
        if self.quantile is not None and self.limit == 0:
            raise ValueError(NO_QUANTILE_BELOW_0)
        return self

    def collected(self, name: str) -> Collected | None:
        """What the roll-up has to collect for it; None for a quantile of what is collected anyway."""
        if self.ratio is not None:
            (event, field), over = map(_parts, self.ratio)
            return Collected(name, "ratio", event, field, over)
        if self.quantile is not None:
            return None if self.of is None else Collected(name, "quantile", *_parts(self.of))
        if self.mean is not None:
            return Collected(name, "mean", *_parts(self.mean))
        return Collected(name, "count", self.count) if self.count else Collected(name, "share", self.share or "")

    def _source(self, collected: Collected | None) -> metrics.Ratio | Quantile:
        if self.quantile is not None:
            return Quantile(self.quantile, collected.key if collected else LATENCY)
        if collected is None:
            raise AssertionError("only quantiles of the latency are collected anyway")
        return collected.ratio

    def metric(self, name: str) -> Metric:
        """The line of the table that it adds."""
        collected = self.collected(name)
        return Metric(
            name,
            self.title or name.replace("_", " ").capitalize(),
            _unit(collected),
            self._source(collected),
            higher_is_better=self.higher_is_better,
            tolerance=self.tolerance,
            limit=self.limit,
            required=self.required,
            is_guardrail=self.guardrail,
        )


def _parts(written: str) -> tuple[str, str | None]:
    """The event, and the field where one is named."""
    event, _, field = written.partition(".")
    return event, field or None


def _unit(collected: Collected | None) -> metrics.Unit:
    """How its numbers are written: what a field logs may be of any size."""
    if collected is None:
        return "ms"
    if collected.kind == "share":
        return "share"
    is_counted = collected.field is None and (collected.over is None or collected.over[1] is None)
    return "count" if is_counted else "number"


class MetricsSection(Section):
    """How the document's six metrics are judged, how costs are read where teams log tokens instead of money, and
    metrics beyond the six."""

    acceptance_rate: MetricSection = MetricSection()
    """Accepted plans, as a share of all; usually 5 % less than the baseline are accepted."""
    avg_edits: MetricSection = MetricSection()
    """Edits per plan; usually 10 % more."""
    validator_rate: MetricSection = MetricSection()
    """Plans in which the validator intervened, as a share of all; usually 5 % more."""
    p50_latency: MetricSection = MetricSection()
    """The median of the latency in milliseconds; usually 20 % more."""
    p99_latency: MetricSection = MetricSection()
    """Its 99th percentile; usually a limit of 2000."""
    cost_per_plan: MetricSection = MetricSection()
    """Cost per plan that logs one, in the currency that is logged; usually 10 % more."""
    price_per_1000_tokens: Annotated[Decimal, Field(gt=0)] | None = None
    """What 1,000 tokens cost where events log token_count instead of cost."""
    custom: dict[MetricName, CustomMetric] = Field(default_factory=dict)
    """A team's own metrics, by their names."""

    @field_validator("custom")
    @classmethod
    def _are_new(cls, value: dict[str, CustomMetric]) -> dict[str, CustomMetric]:
        if taken := value.keys() & {metric.name for metric in metrics.METRICS}:
            raise ValueError(f"{', '.join(sorted(taken))} is one of the six that are there; choose another name")
        return value

    @property
    def judged(self) -> tuple[Metric, ...]:
        """All metrics as they are usually judged: the six, then a team's own."""
        six = (getattr(self, metric.name).applied(metric) for metric in metrics.METRICS)
        return (*six, *(custom.metric(name) for name, custom in self.custom.items()))

    @property
    def collected(self) -> tuple[Collected, ...]:
        """What is collected from events beyond what the document's six metrics need."""
        found = (custom.collected(name) for name, custom in self.custom.items())
        return tuple(collected for collected in found if collected)
