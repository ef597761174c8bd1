"""Other engines on the same rollouts: the document's rule, GrowthBook's `gbstats`, and `spotify-confidence`.

The libraries are no part of the project; they are used where they are installed (gbstats 0.8 wants numpy < 2, so
they need an environment of their own) and said to be missing elsewhere. A judge sees the present step at the end of
each day and says which metrics are worse; a statistical judge calls harm whatever is significantly worse, as shipped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from core.rules.decision import should_increase_allocation
from core.rules.estimates import Step
from core.rules.metrics import variant_metrics
from tests.benchmarks.simulate import Plans

SUMS = ("accepted", "edits", "intervened", "cost_nano")
BAD_WHEN_MORE = {"accepted": False, "edits": True, "intervened": True, "cost_nano": True}
FEWEST_PLANS = 150


class PresentStep:
    """All plans of the present step, day by day, for engines that need sums per unit."""

    def __init__(self) -> None:
        self.days: list[Plans] = []
        self.step: Step | None = None

    def arms(self, until: int | None = None) -> tuple[Plans, Plans]:
        days = self.days[:until]
        whole = Plans(**{name: np.concatenate([getattr(d, name) for d in days]) for name in Plans.__dataclass_fields__})
        return whole.part(~whole.candidate), whole.part(whole.candidate)


def per_unit(arm: Plans, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of plans of each unit that has any."""
    plans = np.bincount(arm.unit)
    return np.bincount(arm.unit, values)[plans > 0], plans[plans > 0].astype(float)


def document(present: PresentStep, days_in_step: int) -> bool:
    """The document's rule, looked at daily."""
    assert present.step is not None
    arms = (variant_metrics(present.step.candidate), variant_metrics(present.step.baseline))
    return should_increase_allocation(*arms, days_in_step) == "rollback"


def _moments(arm: Plans, name: str) -> dict[str, float]:
    y, n = per_unit(arm, getattr(arm, name).astype(float) * (1e-9 if name == "cost_nano" else 1.0))
    return {"units": len(n), "y": y.sum(), "yy": (y**2).sum(), "n": n.sum(), "nn": (n**2).sum(), "yn": (y * n).sum()}


def _quantile(arm: Plans, q: float) -> dict[str, float]:
    times = np.sort(np.exp(arm.log_latency))
    half = 1.96 * np.sqrt(q * (1 - q) / len(times))
    low, high = (times[int(np.clip(round((q + side) * len(times)), 0, len(times) - 1))] for side in (-half, half))
    found = float(np.quantile(times, q))
    y, n = per_unit(arm, (np.exp(arm.log_latency) <= found).astype(float))
    moments = {"main_sum": y.sum(), "main_sum_squares": (y**2).sum(), "denominator_sum": n.sum()}
    moments |= {"denominator_sum_squares": (n**2).sum(), "main_denominator_sum_product": (y * n).sum()}
    return {
        "n": len(times),
        "n_star": len(times),
        "nu": q,
        "quantile_hat": found,
        "quantile_lower": low,
        "quantile_upper": high,
        "n_clusters": len(n),
        **moments,
    }


def six_tests(present: PresentStep) -> Callable[[], object] | None:
    """GrowthBook's tests of the six metrics, ready to run on sums that are there already; None where not installed."""
    if not importlib.util.find_spec("gbstats"):
        return None
    from gbstats.frequentist import tests
    from gbstats.models import statistics

    config = tests.FrequentistConfig(difference_type="relative")
    pairs = [_ratios(present, name) for name in SUMS]
    pairs += [
        tuple(statistics.QuantileClusteredStatistic(**_quantile(arm, q)) for arm in present.arms()) for q in (0.5, 0.99)
    ]
    return lambda: [tests.TwoSidedTTest(*pair, config).compute_result() for pair in pairs]


def _ratios(present: PresentStep, name: str) -> tuple[object, ...]:
    return tuple(_ratio(_moments(arm, name)) for arm in present.arms())


def _ratio(m: Mapping[str, float]) -> object:
    from gbstats.models import statistics

    means = [
        statistics.SampleMeanStatistic(n=m["units"], sum=m[a], sum_squares=m[b]) for a, b in (("y", "yy"), ("n", "nn"))
    ]
    return statistics.RatioStatistic(m["units"], *means, m_d_sum_of_products=m["yn"])


def growthbook(kind: str) -> Callable[[PresentStep, int], bool]:
    """GrowthBook's frequentist engine as shipped: relative uplift, alpha 0.05, ratio and clustered quantile metrics."""
    from gbstats.frequentist import tests
    from gbstats.models import statistics

    test, config = {
        "default": (tests.TwoSidedTTest, tests.FrequentistConfig(difference_type="relative")),
        "sequential": (tests.SequentialTwoSidedTTest, tests.SequentialConfig(difference_type="relative")),
    }[kind]

    def is_worse(a: object, b: object, more_is_bad: bool) -> bool:
        found = test(a, b, config).compute_result()
        return found.p_value is not None and found.p_value < 0.05 and (found.expected > 0) == more_is_bad

    def judge(present: PresentStep, days_in_step: int) -> bool:
        base, mine = present.arms()
        if len(mine.unit) < FEWEST_PLANS:
            return False
        sums = (is_worse(*(_ratio(_moments(arm, name)) for arm in (base, mine)), BAD_WHEN_MORE[name]) for name in SUMS)
        quantiles = (
            is_worse(*(statistics.QuantileClusteredStatistic(**_quantile(arm, q)) for arm in (base, mine)), True)
            for q in (0.5, 0.99)
        )
        return any(sums) or any(quantiles)

    return judge


def spotify(present: PresentStep, days_in_step: int) -> bool:
    """spotify-confidence's sequential z-test of each unit's own mean, one look a day, over the days of the step.

    It tests means only, so p50 is judged by the mean of the log latency and p99 not at all.
    """
    import pandas as pd
    from spotify_confidence import ZTest

    planned = {1: 3, 2: 5, 3: 7}.get(days_in_step, 7)
    for name in (*SUMS, "log_latency"):
        rows = []
        for day in range(1, days_in_step + 1):
            for arm, plans in zip(("a", "b"), present.arms(day), strict=True):
                y, n = per_unit(plans, getattr(plans, name).astype(float))
                rate = y / n
                rows.append({"arm": arm, "day": day, "sum": rate.sum(), "squares": (rate**2).sum(), "units": len(n)})
        frame = pd.DataFrame(rows)
        frame["final"] = frame.groupby("day")["units"].sum().max() * max(planned / days_in_step, 1.0)
        found = ZTest(
            frame,
            numerator_column="sum",
            numerator_sum_squares_column="squares",
            denominator_column="units",
            categorical_group_columns=["arm"],
            ordinal_group_column="day",
        ).difference("a", "b", groupby="day", final_expected_sample_size_column="final")
        last = found[found["day"] == days_in_step].iloc[0]
        worse_when_more = BAD_WHEN_MORE.get(name, True)
        low, high = last["ci_lower"], last["ci_upper"]
        if (worse_when_more and low > 0) or (not worse_when_more and high < 0):
            return True
    return False


def judges() -> tuple[dict[str, Callable[[PresentStep, int], bool]], Sequence[str]]:
    """Every judge that can be asked here, and the names of those that are not installed."""
    found: dict[str, Callable[[PresentStep, int], bool]] = {"document, daily": document}
    missing = []
    if importlib.util.find_spec("gbstats"):
        found |= {f"gbstats, {kind}": growthbook(kind) for kind in ("default", "sequential")}
    else:
        missing.append("gbstats: not installed")
    if importlib.util.find_spec("spotify_confidence"):
        found["spotify-confidence, sequential"] = spotify
    else:
        missing.append("spotify-confidence: not installed")
    return found, missing
