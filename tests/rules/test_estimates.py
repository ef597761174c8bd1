"""What a careful statistician would say of one comparison."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from core.rules.estimates import Comparison, Step, compare
from core.rules.metrics import METRICS
from core.rules.samples import ACCEPTED, BUCKETS, COST_NANO, COST_PLANS, EDITS, INTERVENTIONS, LATENCY, PLANS, Sample
from tests.rules.worlds import traffic


def compared(*steps: Step) -> dict[str, Comparison]:
    return {found.metric.name: found for found in compare(steps)}


def test_the_ratio_and_its_direction() -> None:
    found = compared(Step(traffic(40_000, 1), traffic(20_000, 2, acceptance=0.6, edits=1.8, p50_ms=650)))
    assert found["acceptance_rate"].ratio == pytest.approx(0.6 / 0.7, rel=0.02)
    assert found["avg_edits"].ratio == pytest.approx(1.2, rel=0.02)
    assert found["p50_latency"].ratio == pytest.approx(1.3, rel=0.03)
    assert all(found[name].z > 8 for name in ("acceptance_rate", "avg_edits", "p50_latency"))
    assert all(found[name].is_beyond for name in ("acceptance_rate", "avg_edits", "p50_latency"))
    assert abs(found["cost_per_plan"].z) < 4
    for metric in found.values():
        assert metric.low is not None
        assert metric.high is not None
        assert metric.ratio is not None
        assert metric.low < metric.ratio < metric.high


def test_simpson_a_change_of_shares_under_a_trend_is_no_harm() -> None:
    """Acceptance fell for both arms when the candidate got most of its traffic; pooled it looks 15 % worse."""
    steps = (
        Step(traffic(18_000, 1, acceptance=0.8), traffic(2_000, 2, acceptance=0.8)),
        Step(traffic(10_000, 3, acceptance=0.5), traffic(10_000, 4, acceptance=0.5)),
    )
    pooled = [
        sum(int(arm.sum_of(ACCEPTED).sum()) for arm in arms) / sum(arm.plans for arm in arms)
        for arms in zip(*((s.baseline, s.candidate) for s in steps), strict=True)
    ]
    assert pooled[1] / pooled[0] < 0.85
    found = compared(*steps)["acceptance_rate"]
    assert found.ratio == pytest.approx(1.0, abs=0.03)
    assert abs(found.z) < 3
    assert not found.is_beyond


def test_95_to_5_is_as_honest_as_half_and_half() -> None:
    found = compared(Step(traffic(38_000, 1), traffic(2_000, 2)))
    assert all(abs(c.z) < 3.5 for c in found.values())
    harmed = compared(Step(traffic(38_000, 1), traffic(2_000, 2, validator=0.1)))
    assert harmed["validator_rate"].z > 5


def test_false_alarms_of_one_look_have_their_nominal_rate() -> None:
    """One-sided p-values of identical models are uniform, small arm and rare events included."""
    zs = {metric.name: [] for metric in METRICS}
    alarms = {metric.name: [] for metric in METRICS}
    for seed in range(300):
        for c in compare([Step(traffic(1_800, 2 * seed), traffic(200, 2 * seed + 1))]):
            zs[c.metric.name].append(c.z)
            alarms[c.metric.name].append(c.alarm_z)
    for name, found in alarms.items():
        assert np.mean(np.array(found) > 2.33) <= 0.01 + 3 * math.sqrt(0.01 / 300), name
        assert np.mean(np.array(found) > 3.1) <= 0.01, name
    for name, found in zs.items():
        assert kstest(found, "norm").pvalue > 1e-4 or name == "p99_latency", name
        assert np.mean(np.array(found) > 1.645) < 0.12, name
        assert np.mean(np.array(found) > 3.1) <= 0.01, name


def test_one_user_who_makes_half_of_all_plans_proves_nothing() -> None:
    found = compared(Step(traffic(9_000, 1), traffic(2_000, 2, whale=0.5)))
    assert found["acceptance_rate"].is_beyond
    assert all(found[name].z < 2.4 for name in ("acceptance_rate", "avg_edits", "validator_rate", "p50_latency"))


def test_one_user_alone_raises_no_alarm() -> None:
    found = compared(Step(traffic(9_000, 1), traffic(2_000, 2, whale=0.5)))
    assert all(found[name].alarm_z < 3 for name in ("acceptance_rate", "avg_edits", "validator_rate"))


def test_harm_that_raises_its_own_error_is_told_from_chance_sooner() -> None:
    """Tripled interventions among 200 plans: some 30 where 10 were due, which chance exceeds at z = 5 (likelihood)."""
    z, alarm_z = np.median(
        [
            (c.z, c.alarm_z)
            for seed in range(40)
            for c in compare([Step(traffic(1_800, 2 * seed), traffic(200, 2 * seed + 1, validator=0.15))])
            if c.metric.name == "validator_rate"
        ],
        axis=0,
    )
    assert z + 0.25 < alarm_z
    assert 4.5 < alarm_z < 5.5


def test_a_few_events_against_none_are_no_disaster() -> None:
    """3 of 300 plans where 2,700 had none: against the common rate 0.3 were due, which chance exceeds at z = 2.7."""
    some = np.zeros(BUCKETS, dtype=int)
    some[[3, 90, 200]] = 1
    base, mine = (traffic(plans, seed, validator=0.0) for plans, seed in ((2_700, 1), (300, 2)))
    found = compared(Step(base, Sample.of({**mine.sums, INTERVENTIONS: some}, mine.histograms)))["validator_rate"]
    assert found.is_beyond
    assert 2 < found.alarm_z < 3.3


def test_ten_plans_are_not_measurable() -> None:
    found = compared(Step(traffic(90, 1), traffic(10, 2, acceptance=0.0)))
    assert {c.problem for c in found.values()} == {"10 of the 150 plans needed for any test"}


def test_no_traffic_at_all() -> None:
    assert all(not c.is_measurable for c in compare([]))
    assert all(not c.is_measurable for c in compare([Step(Sample.empty(), Sample.empty())]))
    assert all(not c.is_measurable for c in compare([Step(Sample.empty(), traffic(1000, 1))]))


@pytest.mark.parametrize(
    ("baseline", "candidate", "name", "problem"),
    [
        ({"cost": None}, {"cost": None}, "cost_per_plan", "nobody logs it"),
        ({}, {"cost": None}, "cost_per_plan", "the candidate does not log it"),
        ({"latency": False}, {}, "p50_latency", "the baseline does not log it"),
        ({"validator": 0}, {"validator": 0}, "validator_rate", "none was recorded in either arm"),
        ({}, {"validator": 0}, "validator_rate", "recorded for the baseline, never for the candidate"),
        ({"acceptance": 0}, {"acceptance": 0.5}, "acceptance_rate", "none was recorded for the baseline"),
        ({"acceptance": 1}, {"acceptance": 1}, "acceptance_rate", "all values are equal"),
    ],
)
def test_not_measurable_has_its_reason(baseline: dict, candidate: dict, name: str, problem: str) -> None:
    found = compared(Step(traffic(9_000, 1, **baseline), traffic(2_000, 2, **candidate)))
    assert found[name].problem == problem
    assert not found[name].is_beyond
    assert sum(not c.is_measurable for c in found.values()) == (2 if name == "p50_latency" else 1)


def test_a_metric_logged_for_some_plans_of_one_arm_only() -> None:
    mine = traffic(2_000, 2)
    half = Sample.of(
        {**mine.sums, COST_PLANS: mine.sum_of(COST_PLANS) // 2, COST_NANO: mine.sum_of(COST_NANO) // 2}, mine.histograms
    )
    assert "of the candidate's plans" in (compared(Step(traffic(9_000, 1), half))["cost_per_plan"].problem or "")


def test_one_bucket_is_one_unit_at_most() -> None:
    one = np.zeros(BUCKETS, dtype=int)
    one[3] = 5_000
    alone = Sample.of({PLANS: one, ACCEPTED: one // 3})
    assert "too few different units" in (compared(Step(traffic(9_000, 1), alone))["acceptance_rate"].problem or "")


def test_from_zero_to_some_is_harm() -> None:
    found = compared(Step(traffic(9_000, 1, validator=0.0), traffic(2_000, 2, validator=0.05)))["validator_rate"]
    assert found.is_measurable
    assert found.is_beyond
    assert found.ratio is None
    assert found.z > 5


def test_two_constants_that_differ_are_different() -> None:
    plans = np.full(BUCKETS, 20)
    base, dear = (Sample.of({PLANS: plans, COST_PLANS: plans, COST_NANO: plans * c}) for c in (10**7, 2 * 10**7))
    found = compared(Step(base, dear))["cost_per_plan"]
    assert found.is_beyond
    assert found.z > 10


rare = st.lists(st.integers(0, 3), min_size=BUCKETS, max_size=BUCKETS)


@settings(max_examples=40, deadline=None)
@given(st.lists(rare, min_size=4, max_size=4), st.integers(0, 40), st.sampled_from([0, 1, 10**9, 10**15]))
def test_never_nan_never_infinite(arrays: list[list[int]], scale: int, cost: int) -> None:
    def arm(a: list[int], b: list[int]) -> Sample:
        plans = np.array(a) * scale
        return Sample.of(
            {
                PLANS: plans,
                ACCEPTED: np.minimum(plans, b),
                EDITS: b,
                INTERVENTIONS: b,
                COST_PLANS: plans,
                COST_NANO: np.array(b) * cost,
            }
        )

    for c in compare([Step(arm(arrays[0], arrays[1]), arm(arrays[2], arrays[3]))]):
        numbers = [getattr(c, f.name) for f in fields(c) if isinstance(getattr(c, f.name), float)]
        assert all(math.isfinite(number) for number in numbers)
        assert c.influence is None or np.isfinite(c.influence).all()


def test_the_order_of_days_and_of_processes_changes_nothing() -> None:
    days = [traffic(400, seed) for seed in range(6)]
    a, b = (
        compare([Step(traffic(9_000, 50), Sample.total(order)) for order in (days, days[::-1])][:1]),
        compare([Step(traffic(9_000, 50), sum(days[::-1], Sample.empty()))]),
    )
    for one, other in zip(a, b, strict=True):
        assert (one.z, one.ratio, one.low, one.high, one.floor_z) == (
            other.z,
            other.ratio,
            other.low,
            other.high,
            other.floor_z,
        )


def test_p99_is_judged_by_the_absolute_limit() -> None:
    slow = compared(Step(traffic(40_000, 1, p50_ms=700), traffic(20_000, 2, p50_ms=700, slow=2.5)))["p99_latency"]
    assert slow.bound == 2000.0
    assert slow.is_beyond
    assert slow.z > 5
    quick = compared(Step(traffic(40_000, 1, p50_ms=300), traffic(20_000, 2, p50_ms=300, slow=1.5)))["p99_latency"]
    assert quick.z > 3
    assert not quick.is_beyond
    assert LATENCY in traffic(10, 1).histograms
