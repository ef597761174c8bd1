"""The six metrics that a rollout is judged by, with the document's tolerances (model-promotion.md, 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.rules import samples
from core.rules.samples import EDGES_MS, LATENCY, NANO, PLANS, Floats, Sample, edges_of

MINIMUM_SAMPLES = 1000
"""Plans a candidate must have served before anything is concluded."""

_LOG_RATIO = math.log(1.02)
Unit = Literal["share", "count", "ms", "money", "number"]


@dataclass(frozen=True)
class VariantMetrics:
    """What was measured of one variant over one period; None where nothing was logged.

    Units: `sample_size` plans; rates are shares of plans from 0 to 1; `avg_edits` per plan; latencies in
    milliseconds; `cost_per_plan` in the currency the team logs.
    """

    sample_size: int
    acceptance_rate: float | None = None
    avg_edits: float | None = None
    validator_rate: float | None = None
    p50_latency: float | None = None
    p99_latency: float | None = None
    cost_per_plan: float | None = None


@dataclass(frozen=True)
class Ratio:
    """One sum over another: a mean per plan, a share of plans, cost per plan that logged a cost."""

    numerator: str
    denominator: str = PLANS
    scale: float = 1.0
    """What one unit of the numerator's sum is worth in the metric's own unit."""
    denominator_scale: float = 1.0
    """The same of the denominator's."""
    counts_plans: bool = True
    """False where the denominator is something that happens to plans, so that it does not tell who logs the metric."""


@dataclass(frozen=True)
class Quantile:
    """The value that a share `q` of the plans with a value does not exceed."""

    q: float
    histogram: str = LATENCY


@dataclass(frozen=True)
class Collected:
    """What is collected of events for a metric beyond the six, by its plan; sums `extra:<name>` over
    `extra:<name>:plans`, or over `extra:<name>:over`, or the histogram `extra:<name>`.

    `share`: the plan is named by at least one event of this type. `count`: by how many different ones; the same time
    and payload is the same event. `ratio`: how many there are of one type, or what they log in `metrics.<field>`, over
    the same of another, `over`. These three over plans generated while the metric was collected. `mean`: the number
    `metrics.<field>` of the first event of this type that has one, in billionths, over plans that have it. `quantile`:
    the histogram of these.
    """

    name: str
    kind: Literal["share", "count", "mean", "quantile", "ratio"]
    event: str
    field: str | None = None
    over: tuple[str, str | None] | None = None
    """Of a ratio: the event, and the field or None."""

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(f"a metric's name must not be empty nor contain a colon: {self.name!r}")
        if self.kind != "ratio" and (self.kind in ("mean", "quantile")) != (self.field is not None):
            raise ValueError(f"{self.name}: a mean needs a field of metrics to read, and nothing else has one")
        if (self.kind == "ratio") != (self.over is not None):
            raise ValueError(f"{self.name}: a ratio needs something to divide by, and nothing else has it")

    @property
    def key(self) -> str:
        """The name of its sum, or of its histogram, in samples."""
        return f"extra:{self.name}"

    @property
    def events(self) -> tuple[str, ...]:
        """The types of events that are read."""
        return (self.event,) if self.over is None else (self.event, self.over[0])

    @property
    def ratio(self) -> Ratio:
        """Where a sample keeps it; a quantile is kept under `key`."""
        scale = 1.0 if self.field is None else 1 / NANO
        if self.over is None:
            return Ratio(self.key, f"{self.key}:plans", scale)
        over_scale = 1.0 if self.over[1] is None else 1 / NANO
        return Ratio(self.key, f"{self.key}:over", scale, over_scale, counts_plans=False)


@dataclass(frozen=True)
class Metric:
    """One line of the table: which attribute, which direction is good, how much worse is too much."""

    name: str
    title: str
    unit: Unit
    source: Ratio | Quantile
    """Which sums of a `Sample` it is made of."""
    higher_is_better: bool = False
    tolerance: float | None = None
    """Relative change against the baseline that is still accepted."""
    limit: float | None = None
    """Absolute bound, in the metric's own unit: the largest value that is accepted, or the smallest where more is
    better."""
    required: bool = True
    """Without a required metric nothing is concluded; an optional one is skipped where it is absent."""
    is_guardrail: bool = True
    """Only a guardrail decides; an informative metric is shown and never acted upon."""

    def bound(self, baseline: float) -> float | None:
        """The worst value that is still accepted against `baseline`; None where the metric has no limit at all."""
        if self.limit is not None:
            return self.limit
        if self.tolerance is None:
            return None
        return baseline * (1 - self.tolerance if self.higher_is_better else 1 + self.tolerance)

    def is_beyond(self, value: float, baseline: float | None) -> bool:
        """True where `value` is worse than the tolerance against `baseline`, or than the absolute limit, allows."""
        if self.limit is None and baseline is None:
            return False
        bound = self.bound(baseline or 0.0)
        return bound is not None and self._is_worse(value, bound)

    def breaks_limit(self, value: float) -> bool:
        """True where `value` is beyond the absolute limit; False where there is none."""
        return self.limit is not None and self._is_worse(value, self.limit)

    def _is_worse(self, value: float, bound: float) -> bool:
        return value < bound if self.higher_is_better else value > bound


def counts_plans(metric: Metric) -> bool:
    """True where what a metric is divided by tells for how many plans it was logged."""
    return isinstance(metric.source, Quantile) or metric.source.counts_plans


METRICS: tuple[Metric, ...] = (
    Metric("acceptance_rate", "Acceptance", "share", Ratio(samples.ACCEPTED), higher_is_better=True, tolerance=0.05),
    Metric("avg_edits", "Edits per plan", "count", Ratio(samples.EDITS), tolerance=0.10),
    Metric("validator_rate", "Validator interventions", "share", Ratio(samples.INTERVENTIONS), tolerance=0.05),
    Metric("p50_latency", "Latency p50", "ms", Quantile(0.5), tolerance=0.20),
    Metric("p99_latency", "Latency p99", "ms", Quantile(0.99), limit=2000.0, required=False),
    Metric(
        "cost_per_plan",
        "Cost per plan",
        "money",
        Ratio(samples.COST_NANO, samples.COST_PLANS, 1 / NANO),
        tolerance=0.10,
        required=False,
    ),
)


def value_at(upper_share: float, by_bin: Floats, edges: Floats = EDGES_MS) -> float | None:
    """The value that a share `upper_share` of a histogram exceeds, in milliseconds or what the edges are in; None where
    it is empty.

    `by_bin` has one place more than `edges`, in plans or in weights. Within a bin values are taken as evenly spread on
    the logarithm.
    """
    total = float(by_bin.sum())
    if total <= 0:
        return None
    below = by_bin.cumsum()
    wanted = min(max((1 - upper_share) * total, 0.0), total)
    k = min(int(below.searchsorted(wanted)), len(edges))
    if k == 0 or k == len(edges):
        return float(edges[0] if k == 0 else edges[-1])
    inside = float(by_bin[k])
    part = (wanted - float(below[k - 1])) / inside if inside > 0 else 0.0
    return float(edges[k - 1] * (edges[k] / edges[k - 1]) ** part)


def edge_at(value: float, edges: Floats) -> int:
    """The index of the bin edge nearest to a value."""
    at = round(math.log(max(value, 1e-9) / edges[0]) / _LOG_RATIO)
    return min(max(at, 0), len(edges) - 1)


def share_above(edge: int, by_bin: Floats) -> float:
    """The share of a normalised histogram above an edge, by its index."""
    return float(by_bin[edge + 1 :].sum())


def share_over(value: float, by_bin: Floats, edges: Floats) -> float:
    """The share of a normalised histogram above any value, values spread evenly on the logarithm within a bin."""
    at = math.log(max(value, 1e-9) / edges[0]) / _LOG_RATIO
    edge = min(max(math.floor(at), 0), len(edges) - 1)
    inside = min(max(at - edge, 0.0), 1.0) * float(by_bin[edge + 1])
    return share_above(edge, by_bin) - inside


def value_of(metric: Metric, *samples: Sample) -> float | None:
    """The metric's point estimate over samples together; None where there is nothing to divide by."""
    source = metric.source
    if isinstance(source, Quantile):
        by_bins, edges = (sample.counts_of(source.histogram).by_bin for sample in samples), edges_of(source.histogram)
        return value_at(1 - source.q, sum(by_bins, start=np.zeros(len(edges) + 1)), edges)
    value, over = (sum(sample.total_of(name) for sample in samples) for name in (source.numerator, source.denominator))
    return value / over * (source.scale / source.denominator_scale) if over > 0 else None


def variant_metrics(sample: Sample) -> VariantMetrics:
    """The document's six numbers over one sample."""
    return VariantMetrics(sample.plans, **{metric.name: value_of(metric, sample) for metric in METRICS})
