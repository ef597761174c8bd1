"""When nothing may move on: windows of weekdays, hours and dates in a time zone, whatever the clocks do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from core.rules.calendar import UTC_ZONE, WEEKDAYS

MIDNIGHT: Final = time(0)
LONGEST: Final = timedelta(days=366)
"""How far ahead the end of a freeze is looked for."""
LATELY: Final = timedelta(days=1)
"""How far back the beginning or the end of a freeze is looked for."""


@dataclass(frozen=True)
class Window:
    """A freeze that comes by the calendar, on each day from `begins` until `ends`.

    Where `ends` is not later than `begins` it ends on the next day; the day on which it begins is what weekdays and
    dates are about.
    """

    name: str
    begins: time = MIDNIGHT
    ends: time = MIDNIGHT
    weekdays: frozenset[str] = frozenset(WEEKDAYS)
    first: date = date.min
    last: date = date.max
    zone: ZoneInfo = UTC_ZONE
    experiments: frozenset[str] = frozenset()
    """By name; all where none is named."""

    def concerns(self, experiment: str) -> bool:
        """True where the window is about this experiment."""
        return not self.experiments or experiment in self.experiments

    def end_at(self, moment: datetime) -> datetime | None:
        """When the stretch that a moment falls into ends, in UTC; None where it falls into none."""
        today = moment.astimezone(self.zone).date()
        stretches = (self._stretch(day) for day in (today - timedelta(days=1), today) if self._is_on(day))
        return max((end for begin, end in stretches if begin <= moment < end), default=None)

    def edges(self, before: datetime) -> Iterator[datetime]:
        """When the window began and ended within the last day, in UTC."""
        today = before.astimezone(self.zone).date()
        days = (today - timedelta(days=ago) for ago in range(4))  # a stretch and its day may both be 25 hours long
        each = (edge for day in days if self._is_on(day) for edge in self._stretch(day))
        return (edge for edge in each if before - LATELY <= edge <= before)

    def _is_on(self, day: date) -> bool:
        return self.first <= day <= self.last and WEEKDAYS[day.weekday()] in self.weekdays

    def _stretch(self, day: date) -> tuple[datetime, datetime]:
        """Of a time that the clocks show twice, the first begins a freeze and the second ends it."""
        end = datetime.combine(day + timedelta(days=self.ends <= self.begins), self.ends, self.zone)
        begin = datetime.combine(day, self.begins, self.zone).astimezone(UTC)
        return begin, max(end.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


@dataclass(frozen=True)
class Closed:
    """A window that is on, and when no window is on any more; None where that is more than a year ahead."""

    window: Window
    until: datetime | None


def closed(windows: Iterable[Window], experiment: str, now: datetime) -> Closed | None:
    """The window in which an experiment is frozen at a moment; one that the next follows without a gap goes on."""
    there = [window for window in windows if window.concerns(experiment)]
    on = _on(there, now)
    return None if on is None else Closed(on, _thaw(there, now))


def turned_at(windows: Iterable[Window], experiment: str, now: datetime) -> datetime | None:
    """When within the last day the window changed in which an experiment is frozen; None where it did not."""
    there = [window for window in windows if window.concerns(experiment)]
    edges = {edge for window in there for edge in window.edges(now)}
    turns = (edge for edge in edges if _on(there, edge) != _on(there, edge - timedelta.resolution))
    return max(turns, default=None)


def _on(windows: Iterable[Window], moment: datetime) -> Window | None:
    return next((window for window in windows if window.end_at(moment) is not None), None)


def _thaw(windows: Sequence[Window], now: datetime) -> datetime | None:
    moment = now
    while moment - now < LONGEST:
        ends = [end for window in windows if (end := window.end_at(moment)) is not None]
        if not ends:
            return moment
        moment = max(ends)
    return None
