"""The verdict where a team keeps aggregates instead of events: the document's rule on point estimates, and said so.

Aggregates know nothing of units, so nothing can be said about chance: there is no interval and no boundary.
"""

from __future__ import annotations

from typing import Final

from core.rules import allocation, decision
from core.rules.decision import Terms
from core.rules.estimates import Comparison
from core.rules.metrics import METRICS, Metric, VariantMetrics
from core.rules.verdict import Action, Decision, Finding, Look

NO_INTERVAL: Final = "no interval: only aggregates are there"


def decide(look: Look, candidate: VariantMetrics, baseline: VariantMetrics, terms: Terms) -> Decision:
    """The document's verdict on the numbers of the present step; whichever rule was chosen, there is no other."""
    alone = decision.judge(candidate, baseline, look.days_in_step, look.share, minimum_samples=terms.minimum_samples)
    is_last = allocation.next_step(look.share, terms.steps) == 1
    action: Action = "promote" if alone.verdict == "increase" and is_last else alone.verdict
    return Decision(
        action=action,
        why=f"{alone.why} Point estimates only: chance is not ruled out.",
        rule="document",
        findings=tuple(_finding(metric, candidate, baseline) for metric in METRICS),
        concerns=(),
        alerts=(),
        calibrated="wait",
        document=alone,
        difference=None,
        price=None,
        seen_until=look.seen_until,
    )


def _finding(metric: Metric, candidate: VariantMetrics, baseline: VariantMetrics) -> Finding:
    mine, base = getattr(candidate, metric.name), getattr(baseline, metric.name)
    compared = Comparison(
        metric,
        NO_INTERVAL if mine is not None and base is not None else "nobody logs it",
        candidate=mine,
        baseline=base,
        bound=None if base is None else metric.bound(base),
        ratio=mine / base if mine is not None and base else None,
        is_beyond=mine is not None and metric.is_beyond(mine, base),
    )
    is_there = mine is not None and base is not None
    return Finding(metric, "no interval" if is_there else "not measurable", compared, compared, 0.0, 0.0, None)
