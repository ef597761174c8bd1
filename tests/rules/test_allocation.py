"""Shares always sum to exactly 1.0000, keep their proportions within one grain, and do not depend on order."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Refused
from core.rules import allocation
from core.rules.allocation import GRAIN, STEPS, all_to, as_share, check_whole, next_step, returned, with_share

D = Decimal
GRAINS = 10_000


@st.composite
def whole_shares(draw: st.DrawFn, least: int = 2) -> dict[str, Decimal]:
    """Between two and eight variants whose shares sum to exactly 1; some may have nothing."""
    count = draw(st.integers(least, 8))
    cuts = sorted(draw(st.lists(st.integers(0, GRAINS), min_size=count - 1, max_size=count - 1)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, GRAINS], strict=True)]
    return {f"v{n}": part * GRAIN for n, part in enumerate(parts)}


targets = st.integers(0, GRAINS).map(lambda n: n * GRAIN)


@given(whole_shares(), targets)
def test_a_newcomer_leaves_exactly_one(shares: dict[str, Decimal], share: Decimal) -> None:
    after = with_share(shares, "new", share)
    assert sum(after.values()) == 1
    assert after["new"] == share
    assert all(value == value.quantize(GRAIN) and 0 <= value <= 1 for value in after.values())


@given(whole_shares(), targets)
def test_proportions_are_kept_within_one_grain(shares: dict[str, Decimal], share: Decimal) -> None:
    after = with_share(shares, "new", share)
    for key, before in shares.items():
        exact = Fraction(before) * (1 - Fraction(share))
        assert abs(Fraction(after[key]) - exact) < Fraction(GRAIN)


@given(whole_shares(least=3), targets, st.data())
def test_the_result_does_not_depend_on_the_order(
    shares: dict[str, Decimal], share: Decimal, data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(shares.items()))))
    assert with_share(shuffled, "new", share) == with_share(shares, "new", share)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_tie_does_not_depend_on_the_order_either(order: str) -> None:
    after = with_share({key: D("0.5") for key in order}, "new", D("0.0001"))
    assert after == {"a": D("0.5"), "b": D("0.4999"), "new": D("0.0001")}


@given(whole_shares(), targets)
def test_a_present_variant_is_set_and_the_others_share_the_rest(shares: dict[str, Decimal], share: Decimal) -> None:
    if not any(value for key, value in shares.items() if key != "v0") and share != 1:
        with pytest.raises(Refused, match="No other variant"):
            with_share(shares, "v0", share)
        return
    after = with_share(shares, "v0", share)
    assert after["v0"] == share
    assert list(after) == list(shares)
    assert sum(after.values()) == 1


@given(whole_shares())
def test_returning_a_share_touches_two_variants_only(shares: dict[str, Decimal]) -> None:
    after = returned(shares, "v1", "v0")
    assert after == {**shares, "v0": shares["v0"] + shares["v1"], "v1": 0}
    assert sum(after.values()) == 1


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        ({"a": "1"}, "0.10", {"a": "0.9", "new": "0.1"}),
        ({"a": "0.9", "new": "0.1"}, "0.25", {"a": "0.75", "new": "0.25"}),
        ({"a": "0.5", "b": "0.5"}, "0.0001", {"a": "0.5", "b": "0.4999", "new": "0.0001"}),
        ({"a": "0.3333", "b": "0.3333", "c": "0.3334"}, "0.10", {"a": "0.3", "b": "0.3", "c": "0.3", "new": "0.1"}),
        ({"a": "1", "b": "0"}, "0.10", {"a": "0.9", "b": "0", "new": "0.1"}),
        ({"a": "0.9999", "b": "0.0001"}, "0.50", {"a": "0.5", "b": "0", "new": "0.5"}),
        ({"a": "1"}, "1", {"a": "0", "new": "1"}),
    ],
)
def test_examples(before: dict[str, str], share: str, after: dict[str, str]) -> None:
    found = with_share({key: D(value) for key, value in before.items()}, "new", D(share))
    assert found == {key: D(value) for key, value in after.items()}


@pytest.mark.parametrize("share", ["-0.0001", "1.0001", "0.00001", "NaN", "Infinity"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(Refused, match="is not a share between 0 and 1"):
        with_share({"a": D(1)}, "new", D(share))
    with pytest.raises(Refused, match="is not a share between 0 and 1"):
        as_share(share)


@pytest.mark.parametrize(("value", "share"), [(0.1, "0.1"), ("0.10", "0.1"), (D("0.0001"), "0.0001"), (1, "1")])
def test_numbers_and_texts_are_read_as_shares(value: float, share: str) -> None:
    assert as_share(value) == D(share)


def test_a_word_is_no_share() -> None:
    with pytest.raises(Refused, match="ten is not a number"):
        as_share("ten")


def test_shares_that_do_not_add_up_are_named() -> None:
    with pytest.raises(Refused, match=r"add up to 0\.9000 instead of 1\.0000"):
        check_whole({"a": D("0.5"), "b": D("0.4")})
    with pytest.raises(Refused, match=r"add up to 0\.9000"):
        returned({"a": D("0.5"), "b": D("0.4")}, "a", "b")
    with pytest.raises(Refused, match=r"add up to 0\.0000"):
        check_whole({})
    check_whole({"a": D("0.5"), "b": D("0.5")})


def test_all_to_one() -> None:
    assert all_to({"a": D("0.5"), "b": D("0.5"), "c": D(0)}, "c") == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("share", "step"),
    [("0", "0.10"), ("0.05", "0.10"), ("0.10", "0.25"), ("0.1001", "0.25"), ("0.25", "0.50"), ("0.50", "1")],
)
def test_one_step_at_a_time(share: str, step: str) -> None:
    assert next_step(D(share)) == D(step)


def test_after_everything_there_is_no_step() -> None:
    assert next_step(D(1)) is None
    assert next_step(D("0.3"), (D("0.05"), D("0.3"), D("0.6"), D(1))) == D("0.6")
    assert (D("0.10"), D("0.25"), D("0.50"), D(1)) == STEPS
    assert D("0.10") == allocation.INITIAL_LIMIT
