"""When a candidate is returned without a click."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from core.errors import Refused
from core.rules.returns import Case, Signed, Step, check_length, deadline, next_step, previous_share

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HALF_AN_HOUR = Signed(NOON - timedelta(days=1), timedelta(minutes=30))
DUE = Case(
    is_harm=True,
    is_answered=False,
    is_holding=True,
    seen_at=NOON - timedelta(minutes=10),
    posted_at=NOON - timedelta(minutes=31),
    in_sight_since=NOON - timedelta(minutes=30),
    signed=HALF_AN_HOUR,
    returns_at=NOON,
    is_as_signed=True,
)
NOT_BEGUN = replace(DUE, returns_at=None, in_sight_since=None)


def minutes(before_noon: float) -> datetime:
    return NOON - timedelta(minutes=before_noon)


@pytest.mark.parametrize(
    ("case", "step"),
    [
        (DUE, "act"),
        (replace(DUE, returns_at=minutes(5)), "act"),
        (replace(DUE, returns_at=minutes(-0.1)), "wait"),
        (replace(DUE, in_sight_since=None), "wait"),
        (replace(DUE, in_sight_since=minutes(9)), "wait"),
        (replace(DUE, in_sight_since=minutes(10)), "act"),
        (replace(DUE, seen_at=minutes(31)), "wait"),
        (replace(DUE, returns_at=minutes(5.1)), "begin"),
        (replace(DUE, is_answered=True), "stop"),
        (replace(DUE, is_holding=False), "drop"),
        (replace(DUE, is_harm=False), "drop"),
        (replace(DUE, signed=None), "drop"),
        (replace(DUE, is_as_signed=False), "begin"),
        (replace(DUE, is_as_signed=False, is_answered=True), "stop"),
        (replace(DUE, is_harm=False, is_answered=True), "drop"),
        (NOT_BEGUN, "begin"),
        (replace(NOT_BEGUN, posted_at=None), "rest"),
        (replace(NOT_BEGUN, is_answered=True), "rest"),
        (replace(NOT_BEGUN, signed=None), "rest"),
        (replace(NOT_BEGUN, is_harm=False), "rest"),
        (replace(NOT_BEGUN, is_holding=False), "rest"),
    ],
)
def test_the_next_step(case: Case, step: Step) -> None:
    assert next_step(case, NOON, looks_last=timedelta(minutes=30)) == step


@pytest.mark.parametrize(
    ("posted", "signed", "ends"),
    [
        (0, 2000, -30),
        (1, 2000, -29),
        (20, 2000, -10),
        (21, 2000, -15),
        (300, 2000, -15),
        (60, 5, -25),  # signed after the alert
    ],
)
def test_people_have_their_time(posted: float, signed: float, ends: float) -> None:
    """Minutes before noon: the card was posted, it was signed, and (after it) the countdown ends."""
    found = deadline(minutes(posted), Signed(minutes(signed), timedelta(minutes=30)), NOON)
    assert (NOON - found).total_seconds() / 60 == ends


@pytest.mark.parametrize("length", [14, 241])
def test_too_short_or_too_long(length: int) -> None:
    with pytest.raises(Refused, match="Between 15 and 240 minutes"):
        check_length(timedelta(minutes=length))


@pytest.mark.parametrize(
    ("shares", "before"),
    [
        ("0 0.1", "0"),
        ("0 0.1 0.25 0.5", "0.25"),
        ("0 0.1 0.25 0.5 0.25", "0.1"),
        ("0.25 0.25", None),
        ("0.5 0.25", None),
        ("0.1", None),
    ],
)
def test_the_previous_share(shares: str, before: str | None) -> None:
    found = previous_share([Decimal(share) for share in shares.split()])
    assert found == (None if before is None else Decimal(before))
