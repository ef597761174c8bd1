"""Whether the data can be trusted."""

from __future__ import annotations

import pytest

from core.rules.checks import Traffic, freshness, sample_ratio

SHARES = {"a": 0.9, "b": 0.1}


@pytest.mark.parametrize(
    ("a", "b", "is_off"),
    [
        (9_000, 1_000, False),
        (9_000, 940, False),  # 5 % too few, but chance
        (900_000, 98_000, False),  # beyond chance, but 2 %
        (9_000, 850, True),
        (8_000, 2_000, True),
        (9_000, 0, True),
        (20, 5, False),  # too few to say
    ],
)
def test_sample_ratio(a: int, b: int, is_off: bool) -> None:
    found = sample_ratio({"a": a, "b": b}, SHARES)
    assert (found is not None) == is_off


def test_a_variant_without_a_share_is_left_out() -> None:
    assert sample_ratio({"a": 900, "b": 100, "old": 5_000}, {**SHARES, "old": 0}) is None
    assert sample_ratio({}, {}) is None


@pytest.mark.parametrize(
    ("minutes", "last_hour", "a_week_ago", "is_stale"),
    [
        (5, 400, 410, False),
        (5, 400, None, False),
        (61, 0, None, True),
        (None, 0, None, True),
        (61, 0, 3, False),  # a quiet hour last week as well
        (61, 0, 200, True),
        (2, 20, 200, True),
        (2, 90, 200, False),
        (2, 1, 4, False),
    ],
)
def test_freshness(minutes: float | None, last_hour: int, a_week_ago: int | None, is_stale: bool) -> None:
    assert (freshness(Traffic(minutes, last_hour, a_week_ago)) is not None) == is_stale


@pytest.mark.parametrize(
    ("minutes", "an_hour", "is_stale"),
    [
        (61, 400, True),
        (61, 8, False),  # at 200 plans a day a night brings hardly any
        (600, 8, True),
        (180, 40, True),
        (61, None, True),
        (59, 400, False),
    ],
)
def test_silence_in_the_first_week(minutes: float, an_hour: float | None, is_stale: bool) -> None:
    """While no week is there to compare with, the average so far says how long no plan at all may be chance."""
    assert (freshness(Traffic(minutes, 0, plans_an_hour=an_hour)) is not None) == is_stale


@pytest.mark.parametrize("minutes", [61.0, None])
def test_what_never_spoke_is_told_where_it_is_listened_to(minutes: float | None) -> None:
    never, fallen = (freshness(Traffic(minutes, 0, plans_an_hour=an_hour)) for an_hour in (None, 400))
    assert never is not None
    assert fallen is not None
    assert never.why.startswith("No plan came yet. They are read from exp.events: event_type plan_generated")
    assert fallen.why.startswith("No events for an hour.")


@pytest.mark.parametrize(("ago", "says"), [(None, "for the first time"), (45.0, "last measured 45 minutes ago")])
def test_what_is_not_measured_yet_is_not_silence(ago: float | None, says: str) -> None:
    found = freshness(Traffic(200.0, 0, measured_minutes_ago=ago))
    assert found is not None
    assert says in found.why
