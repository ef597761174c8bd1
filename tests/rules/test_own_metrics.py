"""Metrics of a team's own, and the six as a team judges them: ratios, quantiles of any field, limits on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from core.rules import samples, troubles
from core.rules.decision import MINIMUM_DAYS, Terms, format_value, judge
from core.rules.estimates import Comparison, Step, compare
from core.rules.metrics import METRICS, Metric, Quantile, Ratio, VariantMetrics, value_of
from core.rules.samples import BUCKETS, NANO, WIDE_EDGES, Counts, Sample, bin_of
from core.rules.sequential import Memory
from core.rules.verdict import Decision, decide, judged
from tests.rules.worlds import finding, look, traffic

SWAPS = Metric("swaps", "Swaps", "count", Ratio("swaps", "accepts", counts_plans=False), tolerance=0.1, required=False)
TOKENS = Metric("tokens", "Tokens", "number", Quantile(0.95, "extra:tokens"), tolerance=0.1, required=False)


def arm(plans: int, seed: int, *, accepts: float = 0.7, swaps: float = 0.5, tokens: float = 800.0) -> Sample:
    """Traffic whose plans are accepted, and of these some meals swapped; and what each took of some number."""
    rng, base = np.random.default_rng(seed), traffic(plans, seed)
    served = base.sum_of(samples.PLANS)
    accepted = rng.binomial(served, accepts)
    buckets = np.repeat(np.arange(BUCKETS), served)
    bins = bin_of(np.exp(rng.normal(np.log(tokens), 0.3, plans)), WIDE_EDGES)
    return Sample.of(
        {**base.sums, "accepts": accepted, "swaps": rng.poisson(accepted * swaps)},
        {**base.histograms, "extra:tokens": Counts.of(buckets, bins, edges=WIDE_EDGES)},
    )


def verdict(step: Step, *metrics: Metric) -> Decision:
    return decide(look(step), Memory(), Terms(metrics=(*METRICS, *metrics)))[0]


def test_harm_in_a_ratio_or_in_a_quantile_of_any_number_is_rolled_back() -> None:
    base = arm(18_000, 2)
    same = verdict(Step(base, arm(2_000, 3)), SWAPS, TOKENS)
    assert same.action == "increase"
    for metric, harmed in ((SWAPS, arm(2_000, 3, swaps=0.75)), (TOKENS, arm(2_000, 3, tokens=1_100))):
        found = verdict(Step(base, harmed), SWAPS, TOKENS)
        assert (found.action, [f.metric for f in found.findings if f.state == "worse"]) == ("rollback", [metric])
    overall = finding(same, "tokens").overall
    assert overall.baseline == pytest.approx(800 * np.exp(0.3 * 1.645), rel=0.03)
    assert overall.low is not None and overall.high is not None and overall.low < 1 < overall.high  # noqa: PT018


def test_what_a_ratio_is_divided_by_may_differ_between_the_arms() -> None:
    """Fewer accepted plans are no sign that somebody forgot to log them; of a mean over plans it would be one."""
    step = Step(arm(18_000, 2), arm(2_000, 3, accepts=0.4))
    of_plans = Metric("swaps", "Swaps", "count", Ratio("swaps", "accepts"), tolerance=0.1)
    assert [one.problem is None for one in compare([step], [SWAPS, of_plans])] == [True, False]


def test_amounts_over_amounts_are_in_their_own_units() -> None:
    amounts = Sample.of({samples.PLANS: np.ones(BUCKETS), "a": np.full(BUCKETS, 3 * NANO), "b": np.full(BUCKETS, 2)})
    per_event = Metric("x", "X", "number", Ratio("a", "b", 1 / NANO, counts_plans=False))
    per_second = Metric("y", "Y", "number", Ratio("b", "a", 1.0, 1 / NANO, counts_plans=False))
    assert [value_of(metric, amounts) for metric in (per_event, per_second)] == [1.5, pytest.approx(2 / 3)]


def test_a_stored_histogram_of_any_number_reads_back() -> None:
    kept = Sample.from_bytes(arm(500, 1).to_bytes())
    assert kept == arm(500, 1)
    assert kept + kept == Sample.total([arm(500, 1)] * 2)
    assert value_of(TOKENS, kept + Sample.empty()) == value_of(TOKENS, arm(500, 1))
    assert value_of(TOKENS, Sample.empty()) is None


@pytest.mark.parametrize("value", [0.0004, 0.07, 1.0, 12_345.0, 250_000_000.0])
def test_quantiles_of_numbers_of_any_size(value: float) -> None:
    sample = Sample.of({}, {"extra:tokens": Counts.of([0], bin_of([value], WIDE_EDGES), edges=WIDE_EDGES)})
    assert value_of(TOKENS, sample) == pytest.approx(value, rel=0.021)


def test_the_least_that_is_accepted_is_a_limit() -> None:
    """Where more is better a limit is the smallest value; whose trouble it is says the baseline."""
    kept = Metric("accepted", "Accepted", "share", Ratio("accepts"), higher_is_better=True, limit=0.6, required=False)
    step = Step(arm(18_000, 2), arm(2_000, 3, accepts=0.5))
    found = verdict(step, kept)
    assert (found.action, finding(found, "accepted").state) == ("rollback", "worse")
    assert "Candidate: Accepted is 5" in " ".join(found.alerts)
    assert judged(found)["accepted"][0] is False
    assert "accepted down to 60.0 %" in found.why

    low = Step(arm(18_000, 2, accepts=0.5), arm(2_000, 3, accepts=0.5))
    both = verdict(low, kept)
    assert both.action == "increase", "nothing is worse than the baseline"
    (trouble,) = troubles.of_candidate(look(low), both)
    assert (trouble.cause, trouble.whose) == ("limit", "both")
    assert "the limit is 60.0 %" in trouble.why


@pytest.mark.parametrize(
    ("higher", "low", "high", "is_sure"),
    [(True, 0.7, 0.8, True), (True, 0.7, 0.9, False), (False, 0.9, 1.2, True), (False, 0.8, 1.2, False),
     (True, 0.7, None, False), (False, None, 1.2, False)],
)  # fmt: skip
def test_a_limit_is_surely_broken_by_the_whole_interval(
    higher: bool, low: float | None, high: float | None, is_sure: bool
) -> None:
    kept = Metric("x", "X", "share", Ratio("x"), higher_is_better=higher, limit=0.6)
    found = Comparison(kept, candidate=0.5, baseline=0.7, low=low, high=high, is_beyond=True)
    assert found.surely_breaks_limit is is_sure


def test_a_metric_that_is_only_shown_decides_nothing() -> None:
    step = Step(arm(18_000, 2), traffic(2_000, 3, acceptance=0.5, edits=3.0))
    quiet = tuple(
        metric if metric.name == "p50_latency" else Metric(**vars(metric) | {"is_guardrail": False, "required": False})
        for metric in METRICS
    )
    for rule in ("calibrated", "document"):
        found, _ = decide(look(step), Memory(), Terms(metrics=quiet, rule=rule))
        assert found.action == "increase"
        assert decide(look(step), Memory(), Terms(rule=rule))[0].action == "rollback"


GOOD = VariantMetrics(1000, 0.80, 2.0, 0.04, 400.0, 1500.0, 0.01)


def test_the_fixed_thresholds_are_those_of_the_terms() -> None:
    """The document's six are judged by their own limits, the days by their own steps; a team's own are not asked."""
    six = tuple(Metric(**vars(m) | ({"tolerance": 0.02} if m.name == "avg_edits" else {})) for m in METRICS)
    own = Terms(metrics=(*six, SWAPS), minimum_samples=500, minimum_days={next(iter(MINIMUM_DAYS)): 1})
    worse = VariantMetrics(600, 0.80, 2.05, 0.04, 400.0, 1500.0, 0.01)
    assert judge(worse, GOOD, 1, terms=own).why == "Beyond tolerance: Edits per plan."
    assert judge(worse, GOOD, 3).why == "600 of the 1,000 plans needed have been served."
    same = VariantMetrics(600, 0.80, 2.0, 0.04, 400.0, 1500.0, 0.01)
    assert judge(same, GOOD, 1, terms=own).verdict == "increase"
    assert judge(same, GOOD, 0.9, terms=own).verdict == "wait"


@pytest.mark.parametrize(
    ("value", "text"), [(0.00312, "0.00312"), (3.14159, "3.142"), (812.25, "812.2"), (12_345.6, "12,346")]
)
def test_numbers_of_any_size_as_people_read_them(value: float, text: str) -> None:
    assert format_value(TOKENS, value) == text
