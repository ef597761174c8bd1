"""The six metrics that a rollout is judged by, with the document's tolerances (model-promotion.md, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MINIMUM_SAMPLES = 1000
"""Plans a candidate must have served before anything is concluded."""

Unit = Literal["share", "count", "ms", "money"]


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
class Metric:
    """One line of the table: which attribute, which direction is good, how much worse is too much."""

    name: str
    title: str
    unit: Unit
    higher_is_better: bool = False
    tolerance: float | None = None
    """Relative change against the baseline that is still accepted."""
    limit: float | None = None
    """Absolute bound, in the metric's own unit."""
    required: bool = True
    """Without a required metric nothing is concluded; an optional one is skipped where it is absent."""

    def is_beyond(self, value: float, baseline: float | None) -> bool:
        """True where `value` is worse than the tolerance against `baseline`, or than the absolute limit, allows."""
        if self.limit is not None:
            return value > self.limit
        if self.tolerance is None or baseline is None:
            return False
        bound = baseline * (1 - self.tolerance if self.higher_is_better else 1 + self.tolerance)
        return value < bound if self.higher_is_better else value > bound


METRICS: tuple[Metric, ...] = (
    Metric("acceptance_rate", "Acceptance", "share", higher_is_better=True, tolerance=0.05),
    Metric("avg_edits", "Edits per plan", "count", tolerance=0.10),
    Metric("validator_rate", "Validator interventions", "share", tolerance=0.05),
    Metric("p50_latency", "Latency p50", "ms", tolerance=0.20),
    Metric("p99_latency", "Latency p99", "ms", limit=2000.0, required=False),
    Metric("cost_per_plan", "Cost per plan", "money", tolerance=0.10, required=False),
)
