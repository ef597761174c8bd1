"""Windows in which nothing moves on."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from core.rules.freezes import Closed, Window, closed, turned_at

BERLIN = ZoneInfo("Europe/Berlin")
WEEKEND = Window("weekend", weekdays=frozenset({"sat", "sun"}))
NIGHTS = Window("nights", time(18), time(8))
YEARS_END = Window("year's end", first=date(2026, 12, 20), last=date(2027, 1, 3), zone=BERLIN)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        (WEEKEND, "2026-11-20T23:59", None),  # a Friday
        (WEEKEND, "2026-11-21T00:00", "2026-11-23T00:00"),
        (WEEKEND, "2026-11-22T23:59", "2026-11-23T00:00"),
        (WEEKEND, "2026-11-23T00:00", None),
        (NIGHTS, "2026-11-23T17:59", None),
        (NIGHTS, "2026-11-23T18:00", "2026-11-24T08:00"),
        (NIGHTS, "2026-11-24T07:59", "2026-11-24T08:00"),
        (NIGHTS, "2026-11-24T08:00", None),
        (YEARS_END, "2026-12-19T22:59", None),
        (YEARS_END, "2026-12-19T23:00", "2027-01-03T23:00"),
        (YEARS_END, "2027-01-03T23:00", None),
    ],
)
def test_until_when_a_window_freezes(window: Window, now: str, until: str | None) -> None:
    found = closed([window], "planner", at(now))
    assert found == (None if until is None else Closed(window, at(until)))


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    fridays = Window("friday night", time(18), time(8), frozenset({"fri"}))
    assert closed([fridays], "planner", at("2026-11-21T07:00")) is not None
    assert closed([fridays], "planner", at("2026-11-20T07:00")) is None


def test_windows_without_a_gap_end_together() -> None:
    found = closed([WEEKEND, NIGHTS], "planner", at("2026-11-20T19:00"))
    assert found == Closed(NIGHTS, at("2026-11-23T08:00"))
    assert closed([Window("always")], "planner", at("2026-11-20T19:00")) == Closed(Window("always"), None)


@pytest.mark.parametrize(
    ("now", "is_frozen"),
    [
        ("2026-10-25T00:10", True),  # 02:10, the first time
        ("2026-10-25T01:20", True),  # 02:20, the second time
        ("2026-10-25T01:30", False),  # 02:30, the second time
        ("2026-03-29T00:59", False),
        ("2026-03-29T01:10", True),  # 03:10: what would have been 02:10
        ("2026-03-29T01:30", False),
    ],
)
def test_when_the_clocks_change(now: str, is_frozen: bool) -> None:
    window = Window("backup", time(2), time(2, 30), zone=BERLIN)
    assert (closed([window], "planner", at(now)) is not None) == is_frozen


def test_a_window_for_some_experiments() -> None:
    window = Window("fair", experiments=frozenset({"planner"}))
    assert closed([window], "planner", at("2026-11-20T19:00")) is not None
    assert closed([window], "breakfast", at("2026-11-20T19:00")) is None


@pytest.mark.parametrize(
    ("now", "turned"),
    [
        ("2026-11-19T12:00", "2026-11-19T08:00"),
        ("2026-11-19T18:00", "2026-11-19T18:00"),
        ("2026-11-21T07:59", "2026-11-21T00:00"),  # the weekend takes over from Friday's night
        ("2026-11-22T17:00", None),
        ("2026-11-23T00:01", "2026-11-23T00:00"),  # and Sunday's night from the weekend
        ("2026-11-23T08:00", "2026-11-23T08:00"),
    ],
)
def test_when_another_window_or_none_took_over(now: str, turned: str | None) -> None:
    assert turned_at([WEEKEND, NIGHTS], "planner", at(now)) == (None if turned is None else at(turned))


def test_a_window_of_other_experiments_turns_nothing() -> None:
    others = Window("others", time(18), time(8), experiments=frozenset({"breakfast"}))
    assert turned_at([others], "planner", at("2026-11-19T18:00")) is None
    assert turned_at([others], "breakfast", at("2026-11-19T18:00")) == at("2026-11-19T18:00")
