"""When a day's recommendation is due: a local time on some weekdays, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

UTC_ZONE: Final = ZoneInfo("UTC")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)
LATE: Final = timedelta(hours=1)
"""A recommendation made longer after its time than this says so."""


@dataclass(frozen=True)
class Schedule:
    """A time of day in a time zone, on some days of the week."""

    at: time = time(9)
    zone: ZoneInfo = UTC_ZONE
    weekdays: frozenset[str] = frozenset(WEEKDAYS)

    def instant(self, day: date) -> datetime:
        """The moment on a local day, in UTC.

        A time that the clocks skip on that day comes as long after midnight as it would have without the change; of a
        time that comes twice the first counts.
        """
        return datetime.combine(day, self.at, self.zone).astimezone(UTC)

    def today(self, now: datetime) -> date:
        """The local day at a moment."""
        return now.astimezone(self.zone).date()


@dataclass(frozen=True)
class DueDay:
    """A local day whose time has come, and when that was."""

    day: date
    at: datetime

    def is_late(self, now: datetime) -> bool:
        """True where its time is more than an hour ago."""
        return now - self.at > LATE


def latest_due(schedule: Schedule, now: datetime) -> DueDay | None:
    """The latest day whose time has come: after days of silence only this one is made up for.

    None where the schedule names no weekday.
    """
    today = schedule.today(now)
    for day in (today - timedelta(days=back) for back in range(8)):
        if WEEKDAYS[day.weekday()] in schedule.weekdays and (at := schedule.instant(day)) <= now:
            return DueDay(day, at)
    return None


MORNING: Final = time(9)


def next_morning(schedule: Schedule, now: datetime) -> datetime:
    """Tomorrow at nine by the schedule's clock, in UTC."""
    return datetime.combine(schedule.today(now) + timedelta(days=1), MORNING, schedule.zone).astimezone(UTC)
