"""When a recommendation is due, also where the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.calendar import WEEKDAYS, Schedule, latest_due, next_morning

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("now", "day", "moment"),
    [
        (at(2026, 3, 29, 1, 29), date(2026, 3, 28), at(2026, 3, 28, 1, 30)),
        (at(2026, 3, 29, 1, 30), date(2026, 3, 29), at(2026, 3, 29, 1, 30)),  # 2:30 is skipped; it is 3:30 by then
        (at(2026, 10, 25, 0, 29), date(2026, 10, 24), at(2026, 10, 24, 0, 30)),
        (at(2026, 10, 25, 0, 30), date(2026, 10, 25), at(2026, 10, 25, 0, 30)),  # the first of two 2:30s
        (at(2026, 10, 25, 1, 30), date(2026, 10, 25), at(2026, 10, 25, 0, 30)),  # the second is no news
    ],
)
def test_where_the_clocks_change(now: datetime, day: date, moment: datetime) -> None:
    due = latest_due(Schedule(time(2, 30), BERLIN), now)
    assert due is not None
    assert (due.day, due.at) == (day, moment)


def test_only_on_its_weekdays() -> None:
    schedule = Schedule(time(9), BERLIN, frozenset({"mon", "fri"}))
    days = [latest_due(schedule, at(2026, 11, 20, 12) + timedelta(days=n)) for n in range(5)]
    friday, monday = date(2026, 11, 20), date(2026, 11, 23)
    assert [due and due.day for due in days] == [friday, friday, friday, monday, monday]
    assert latest_due(Schedule(weekdays=frozenset()), at(2026, 11, 20)) is None


def test_late_is_said_after_an_hour() -> None:
    due = latest_due(Schedule(time(9)), at(2026, 11, 20, 10))
    assert due is not None
    assert not due.is_late(at(2026, 11, 20, 10))
    assert due.is_late(at(2026, 11, 20, 10, 0, 1))


def test_tomorrow_morning_is_local() -> None:
    assert next_morning(Schedule(time(7), BERLIN), at(2026, 11, 20, 23, 30)) == at(2026, 11, 22, 8)


@given(
    st.integers(0, 4 * 365 * 24 * 60).map(lambda minutes: at(2024, 1, 1) + timedelta(minutes=minutes)),
    st.times(),
    st.sampled_from(ZONES),
    st.frozensets(st.sampled_from(WEEKDAYS), min_size=1),
)
def test_the_latest_day_has_come_and_the_next_has_not(
    now: datetime, hour: time, zone: str, weekdays: frozenset[str]
) -> None:
    schedule = Schedule(hour, ZoneInfo(zone), weekdays)
    due = latest_due(schedule, now)
    assert due is not None
    assert due.at <= now < due.at + timedelta(days=8, hours=2)
    following = (due.day + timedelta(days=n) for n in range(1, 8))
    after = next(day for day in following if WEEKDAYS[day.weekday()] in weekdays)
    assert schedule.instant(after) > now
