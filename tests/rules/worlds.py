"""Small made-up traffic for the tests of the engine."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from core.rules import samples
from core.rules.decision import Terms
from core.rules.estimates import Step
from core.rules.samples import BUCKETS, Counts, Sample, bin_of
from core.rules.sequential import Memory
from core.rules.verdict import Decision, Finding, Look, decide

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def traffic(
    plans: int,
    seed: int,
    *,
    acceptance: float = 0.7,
    edits: float = 1.5,
    validator: float = 0.05,
    p50_ms: float = 500.0,
    cost: float | None = 0.01,
    latency: bool = True,
    users: int = 2000,
    whale: float = 0.0,
    slow: float = 1.0,
) -> Sample:
    """One arm's traffic; `whale` is the share of plans of one single user, who accepts nothing and edits a lot."""
    rng = np.random.default_rng(seed)
    bucket_of = rng.integers(BUCKETS, size=users)
    bucket = bucket_of[rng.integers(users, size=plans)]
    is_whale = rng.random(plans) < whale
    bucket[is_whale] = 7
    accepted = (rng.random(plans) < acceptance) & ~is_whale
    edited = rng.poisson(edits * np.where(is_whale, 4, 1))
    intervened = rng.random(plans) < np.where(is_whale, 0.5, validator)
    sums = {
        samples.PLANS: np.ones(plans),
        samples.ACCEPTED: accepted,
        samples.EDITS: edited,
        samples.INTERVENTIONS: intervened,
    }
    if cost is not None:
        sums |= {
            samples.COST_PLANS: np.ones(plans),
            samples.COST_NANO: np.round(rng.gamma(4, cost / 4, plans) * samples.NANO),
        }
    tail = np.where(rng.random(plans) < 0.03, slow * 1.5, 1.0)
    times = np.exp(rng.normal(np.log(p50_ms), 0.3, plans)) * tail * np.where(is_whale, 3, 1)
    return Sample.of(
        {name: np.bincount(bucket, values, BUCKETS) for name, values in sums.items()},
        {samples.LATENCY: Counts.of(bucket, bin_of(times))} if latency else {},
    )


def look(*steps: Step, share: str = "0.10", days: float = 4.0, in_step: float = 4.0, **more: Any) -> Look:
    """A look on the fourth day at 10 %, unless said otherwise."""
    return Look(steps=steps, share=Decimal(share), days=days, days_in_step=in_step, seen_until=NOW, **more)


def verdict(*steps: Step, memory: Memory | None = None, **more: Any) -> Decision:
    """The decision of one look."""
    return decide(look(*steps, **more), memory or Memory(), Terms())[0]


def finding(found: Decision, name: str) -> Finding:
    """What a decision says about one metric."""
    return next(f for f in found.findings if f.metric.name == name)
