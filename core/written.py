"""How single values are written in the configuration file, and what a section of it is."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from core.rules import allocation
from core.rules.calendar import Weekday


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _steps(value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    is_rising = list(value) == sorted(set(value))
    if not (value and is_rising and 0 < value[0] <= allocation.INITIAL_LIMIT and value[-1] == 1):
        raise ValueError("steps must rise, start at 0.10 or less and end at 1.0, for example [0.10, 0.25, 0.50, 1.0]")
    if any(step % allocation.GRAIN for step in value):
        raise ValueError("a step has at most four decimals")
    return value


Steps = Annotated[tuple[Decimal, ...], AfterValidator(_steps)]
"""The shares of a rollout, the last of them all traffic."""
Plans = Annotated[int, Field(ge=1)]
"""How many plans a candidate must have served."""
Days = Annotated[tuple[Annotated[int, Field(ge=1, le=90)], ...], Field(min_length=1)]
"""Whole days, one number for each step below full traffic."""
Event = Annotated[str, Field(pattern=r"^[a-z_]{1,100}$")]
"""A type of event."""
EventField = Annotated[str, Field(pattern=r"^[a-z_]{1,100}\.[a-zA-Z0-9_]+$")]
"""`EVENT.FIELD`: a type of event and the number that it logs in `metrics`."""


Source = Annotated[str, Field(pattern=r"^[a-z_]{1,100}(\.[a-zA-Z0-9_]+)?$")]
"""Either of them."""


def _two(value: object) -> object:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value
    raise ValueError('name two: what is counted, and what it is divided by, like ["meal_swapped", "plan_accepted"]')


Ratio = Annotated[tuple[Source, Source], BeforeValidator(_two)]
"""Two types of events, or fields that they log: the one over the other."""
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Tolerance = Annotated[float, Field(gt=0, le=1)]
"""Relative to the baseline: 0.10 is 10 %."""
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""In the metric's own unit, whatever the baseline is."""


def _person(value: str) -> str:
    if not re.fullmatch(r"@\S+|[UWS][A-Z0-9]+", value):
        raise ValueError('write a handle with its @, like "@bob", or an id (U… or W… of a person, S… of a group)')
    return value


def _channel(value: str) -> str:
    name = value.removeprefix("#")
    if not re.fullmatch(r"[^\s#,]+", name):
        raise ValueError('write the name of one channel, like "ml-rollouts", or its id (C…)')
    return name


People = tuple[Annotated[str, AfterValidator(_person)], ...]
"""Slack user ids (U…, W…), user group ids (S…) or handles (@bob, @ml-approvers)."""
Channel = Annotated[str, AfterValidator(_channel)]
"""The name of a channel without its #, or its id."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{value} is no time zone; write it like Europe/Berlin or UTC") from None
    return value


Zone = Annotated[str, AfterValidator(_zone)]


def _some(value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
    if not value:
        raise ValueError('name at least one day, like ["mon"], or leave it out for every day')
    return value


def _clock(value: object) -> object:
    """A time of day without a zone; what else can be read as one, such as seconds, was hardly meant as one."""
    if isinstance(value, time) or re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", str(value)):
        return value
    raise ValueError('write hours and minutes, like "09:00"; the zone is `timezone`')


Weekdays = Annotated[tuple[Weekday, ...], AfterValidator(_some)]
Clock = Annotated[time, BeforeValidator(_clock)]


def _day(value: object) -> object:
    """A date; what else can be read as one, such as seconds, was hardly meant as one."""
    is_date = isinstance(value, date) and not isinstance(value, datetime)
    if is_date or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError("write year, month and day, like 2026-12-20")


Day = Annotated[date, BeforeValidator(_day)]
