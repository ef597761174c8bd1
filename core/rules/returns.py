"""When a candidate is returned to its previous share without a click: only as signed, after a countdown in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from core.errors import Refused

SHORTEST: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(minutes=240)
USUAL: Final = timedelta(minutes=30)
LATE: Final = timedelta(minutes=5)
"""A deadline that passed longer ago than this passed while nobody could press Stop: the bot was away."""
CHANCE: Final = SHORTEST - LATE
"""For as long as this a countdown stands on the card before anything happens."""


def check_length(length: timedelta) -> None:
    """Passes where an alert may be left unanswered for so long, or so short, before the candidate returns.

    Raises:
        Refused: where it may not.
    """
    if not SHORTEST <= length <= LONGEST:
        raise Refused(
            f"Between {SHORTEST / timedelta(minutes=1):.0f} and {LONGEST / timedelta(minutes=1):.0f} minutes, please: "
            "people need time to answer, and harm does not wait for ever."
        )


@dataclass(frozen=True)
class Signed:
    """What was signed: since when, and how long an alert is unanswered before the candidate returns."""

    at: datetime
    length: timedelta


@dataclass(frozen=True)
class Case:
    """What is known of an alert when it is asked whether its candidate returns by itself."""

    is_harm: bool
    """A critical alert about the candidate alone, open in an active experiment."""
    is_answered: bool
    """Somebody let it rest, or asked for a rollback."""
    is_holding: bool
    """The last look showed the trouble still."""
    seen_at: datetime
    posted_at: datetime | None
    """Since when people can see its card."""
    in_sight_since: datetime | None
    """Since when the card shows the countdown; None while it does not."""
    signed: Signed | None
    returns_at: datetime | None
    """The end of the countdown, where one runs."""
    is_as_signed: bool
    """The countdown that runs is of the signature that stands now, and not of one that was withdrawn for it."""


Step = Literal["rest", "drop", "stop", "begin", "wait", "act"]
"""Nothing to do; end the countdown, which may begin anew; end it for good; begin it (anew); let it run; return."""


def next_step(case: Case, now: datetime, *, looks_last: timedelta) -> Step:
    """What is to be done about an alert; a look that is older than `looks_last` says nothing about now."""
    runs = case.returns_at is not None
    if not (case.is_harm and case.signed and case.posted_at and case.is_holding):
        return "drop" if runs else "rest"
    if case.is_answered:
        return "stop" if runs else "rest"
    if case.returns_at is None or not case.is_as_signed or now - case.returns_at > LATE:
        return "begin"
    is_known = case.in_sight_since is not None and now - case.in_sight_since >= CHANCE
    is_due = now >= case.returns_at and now - case.seen_at <= looks_last
    return "act" if is_known and is_due else "wait"


def deadline(posted_at: datetime, signed: Signed, now: datetime) -> datetime:
    """When a countdown that begins now ends: so long after the card was posted, and never before people had a chance.

    Where too little is left of it, because the bot was away or the alert came back, there are 15 minutes more.
    """
    least = min(signed.length, SHORTEST)
    end = max(posted_at, signed.at) + signed.length
    return end if end - now >= CHANCE else now + least


def previous_share(shares: Sequence[Decimal]) -> Decimal | None:
    """The share before the present one, from a candidate's shares step by step: the last that was smaller.

    None where none of them was: it is not known what it had before.
    """
    return next((share for share in reversed(shares[:-1]) if share < shares[-1]), None)
