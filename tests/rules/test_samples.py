"""Samples add like numbers: in any order, in any grouping, to the last bit, through storage and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.metrics import METRICS, value_of, variant_metrics
from core.rules.samples import (
    BINS,
    BUCKETS,
    COST_NANO,
    COST_PLANS,
    EDGES_MS,
    LATENCY,
    PLANS,
    Counts,
    Sample,
    bin_of,
)

plan = st.tuples(st.integers(0, BUCKETS - 1), st.integers(0, BINS - 1), st.integers(0, 10**12))


def sample(plans: list[tuple[int, int, int]]) -> Sample:
    buckets = [b for b, _, _ in plans]
    cost = np.zeros(BUCKETS, dtype=np.int64)
    np.add.at(cost, buckets, [c for _, _, c in plans])
    ones = np.bincount(np.array(buckets, dtype=np.int64), minlength=BUCKETS)
    return Sample.of(
        {PLANS: ones, COST_PLANS: ones, COST_NANO: cost}, {LATENCY: Counts.of(buckets, [k for _, k, _ in plans])}
    )


@given(st.lists(plan, max_size=30), st.lists(plan, max_size=30), st.lists(plan, max_size=30))
def test_adding_is_what_the_plans_together_give(a: list, b: list, c: list) -> None:
    whole = sample(a + b + c)
    assert sample(a) + (sample(b) + sample(c)) == (sample(c) + sample(a)) + sample(b) == whole
    assert Sample.total([sample(c), sample(b), sample(a)]).to_bytes() == whole.to_bytes()
    assert whole + Sample.empty() == whole


@given(st.lists(plan, max_size=50))
def test_storage_keeps_every_bit(plans: list) -> None:
    found = Sample.from_bytes(sample(plans).to_bytes())
    assert found == sample(plans)
    assert found.to_bytes() == sample(plans).to_bytes()
    assert (found + Sample.empty()).to_bytes() == sample(plans).to_bytes(), "packed anew, not only remembered"


def test_a_sum_far_beyond_32_bits_survives() -> None:
    big = Sample.of({"cost_nano": np.full(BUCKETS, 2**61)})
    assert Sample.from_bytes(big.to_bytes()) == big


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        Sample.from_bytes(b"\x09" + Sample.empty().to_bytes()[1:])


@pytest.mark.parametrize(("bucket", "bin_"), [(-1, 0), (BUCKETS, 0), (0, -1), (0, BINS)])
def test_out_of_range_is_an_error(bucket: int, bin_: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Counts.of([bucket], [bin_])


def test_bins_cover_everything_and_2000_ms_is_an_edge() -> None:
    assert list(bin_of([-1, 0, 1e9, EDGES_MS[-1]])) == [0, 0, BINS - 1, BINS - 1]
    assert bin_of(2000.0) == bin_of(np.nextafter(2000.0, 0)) + 1
    assert EDGES_MS[0] < 1 < EDGES_MS[1]
    assert np.allclose(EDGES_MS[1:] / EDGES_MS[:-1], 1.02)


@given(st.lists(st.floats(2, 100_000), min_size=1, max_size=200))
def test_quantiles_are_within_one_bin(times: list[float]) -> None:
    found = variant_metrics(
        Sample.of({PLANS: [len(times)] + [0] * 255}, {LATENCY: Counts.of([0] * len(times), bin_of(times))})
    )
    exact = float(np.quantile(times, 0.5, method="inverted_cdf"))
    assert found.p50_latency is not None
    assert found.p50_latency == pytest.approx(exact, rel=0.021)


def test_an_empty_sample_has_no_values() -> None:
    assert [value_of(metric, Sample.empty()) for metric in METRICS] == [None] * 6
    assert variant_metrics(Sample.empty()).sample_size == 0


def test_a_metric_of_a_teams_own_is_one_line() -> None:
    from core.rules.metrics import Metric, Ratio

    swaps = Metric("swaps", "Meals swapped", "count", Ratio("swapped"), tolerance=0.2)
    found = value_of(swaps, Sample.of({PLANS: np.ones(BUCKETS), "swapped": np.full(BUCKETS, 3)}))
    assert found == 3.0
    assert math.isfinite(found)
