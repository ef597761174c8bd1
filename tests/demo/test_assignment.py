import uuid
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest

from bot.demo.assignment import Units, bucket, pick, unit_name

EXPERIMENT = uuid.UUID(int=1)
A, B, C = (uuid.UUID(int=n) for n in (10, 11, 12))
SHARES = [(A, Decimal("0.6000")), (B, Decimal("0.3000")), (C, Decimal("0.1000"))]


def test_cumulative_shares_cover_every_bucket_exactly() -> None:
    counts = Counter(pick(SHARES, at) for at in range(10_000))
    assert counts == {A: 6000, B: 3000, C: 1000}


def test_a_variant_without_share_gets_nobody_and_a_gap_gets_no_variant() -> None:
    assert pick([(A, Decimal("0")), (B, Decimal("1.0000"))], 0) == B
    assert pick([(A, Decimal("0.5000"))], 5000) is None


def test_buckets_are_spread_evenly_and_differ_between_experiments() -> None:
    names = [unit_name("user", n) for n in range(20_000)]
    buckets = [bucket(EXPERIMENT, name) for name in names]
    assert min(buckets) >= 0
    assert max(buckets) < 10_000
    assert np.histogram(buckets, bins=10)[0] == pytest.approx(2_000, rel=0.1)
    assert [bucket(A, name) for name in names[:50]] != buckets[:50]


def test_the_first_assignment_is_kept_when_the_shares_change() -> None:
    units = Units(EXPERIMENT, "user", {}, next_number=1)
    first = {name: units.assign(name, SHARES)[0] for name in (unit_name("user", n) for n in range(500))}
    assert set(first.values()) == {A, B, C}
    for name, variant_id in first.items():
        assert units.assign(name, [(A, Decimal("1"))]) == (variant_id, False)
    assert units.assign("user-new", [(A, Decimal("1"))]) == (A, True)


def test_units_of_a_deleted_variant_are_assigned_anew() -> None:
    units = Units(EXPERIMENT, "user", {"gone": C, "there": A}, next_number=1)
    units.forget_all_but({A, B})
    assert units.assign("there", [(B, Decimal("1"))]) == (A, False)
    assert units.assign("gone", [(B, Decimal("1"))]) == (B, True)


def test_visitors_are_new_and_old_in_equal_parts() -> None:
    units = Units(EXPERIMENT, "user", {}, next_number=7)
    rng = np.random.default_rng(3)
    visits = [units.visitor(rng)]
    assert visits == ["user-0000007"]
    for _ in range(4000):
        units.assign(visits[-1], SHARES)
        visits.append(units.visitor(rng))
    assert len(set(visits)) / len(visits) == pytest.approx(0.5, abs=0.03)
