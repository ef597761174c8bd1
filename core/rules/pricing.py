"""What waiting costs: how many plans and days until what is open would be decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from core.rules.decision import Terms
from core.rules.estimates import Comparison

CLEAR: Final = 1.645
USUAL_BOUNDARY: Final = 2.5
_HOPELESS: Final = 10_000.0  # more than this many times the plans so far is "never"


@dataclass(frozen=True)
class Price:
    """Further plans of the candidate, and days at its present and its next share, until every open metric is decided.

    None is: not at this size of effect. `metric` names the one that takes longest; `minimum_days` is what the
    plans and days that the terms ask for still demand.
    """

    plans: int | None
    days: float | None
    days_at_next_share: float | None
    metric: str | None
    minimum_days: float
    is_early: bool = False
    """True where the days rest on less than one day of traffic, whose rate says little of a day's."""


def _times(found: Comparison, boundary: float) -> float:
    """How many times the plans so far would decide one metric: at the present estimate or at no effect, the harder."""
    no_effect = CLEAR / found.tolerance_z if found.tolerance_z > 0 else math.inf
    if found.is_beyond:
        estimate = boundary / found.z if found.z > 0 else math.inf
    else:
        estimate = CLEAR / found.room_z if found.room_z > 0 else math.inf
    return max(no_effect, estimate, 1.0) ** 2


def price(
    open_ones: Sequence[Comparison],
    *,
    plans: int,
    plans_in_step: int,
    days_in_step: float,
    share: Decimal,
    next_share: Decimal | None,
    boundary: float | None,
    terms: Terms,
) -> Price:
    """The price of waiting on, from standard errors falling as one over the root of plans.

    `plans` are the candidate's over all steps. At another share the information per day changes as s (1 - s).
    """
    times = {c.metric.title: _times(c, boundary or USUAL_BOUNDARY) for c in open_ones}
    hardest = max(times, key=lambda title: times[title], default=None)
    most = times[hardest] if hardest is not None else 1.0
    rate = plans_in_step / days_in_step if days_in_step > 0 else 0.0
    missing = max(terms.minimum_samples - plans_in_step, 0)
    at_least = max(terms.days_at(share) - days_in_step, missing / rate if rate > 0 else 0.0, 0.0)
    if most > _HOPELESS:
        return Price(None, None, None, hardest, at_least)
    more = max(math.ceil(plans * (most - 1)), missing)
    days = more / rate if rate > 0 else None
    gain = _gain(share, next_share)
    at_next = days / gain if days is not None and gain else None
    return Price(more, days, at_next, hardest, at_least, is_early=days_in_step < 1)


def _gain(share: Decimal, next_share: Decimal | None) -> float | None:
    """How many times faster information comes at the next share; None where there is none to compare at."""
    if next_share is None or next_share >= 1 or share <= 0:
        return None
    return float(next_share * (1 - next_share) / (share * (1 - share)))
