"""Verdicts computed again from what was stored are the same to the last byte, and where they are not it is said."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select, text

from core import db, recommendations, replays
from core.errors import Refused
from core.replays import Replay
from core.tables import Recommendation
from core.variants import find_experiment
from tests.core import steps
from tests.core.conftest import EXPERIMENT


def of_look(engine: Engine, number: int) -> Replay:
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        return replays.of_look(session, number)


def of_request(engine: Engine, number: int) -> Replay:
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        return replays.of_request(session, number)


def look(engine: Engine) -> list[int]:
    """Makes the day's look; the numbers of all looks on record."""
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        place = find_experiment(session, EXPERIMENT, lock=False)
        recommendations.recommend(session, [place.id], steps.TERMS)
        return list(session.scalars(select(Recommendation.id).order_by(Recommendation.id)))


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 10 % for four days, with enough plans."""
    steps.change(desk, "start")
    steps.serve_all(desk, 12_000)
    steps.days_pass(desk, 4)
    return desk


def test_looks_and_requests_come_out_the_same_whatever_came_later(running: Engine) -> None:
    look(running)
    steps.days_pass(running, 1)
    look(running)
    steps.serve_all(running, 500)  # the request rests on a look of its own, between the daily ones
    number = steps.change(running, "increase")
    steps.serve_all(running, 5_000, accepted=0.1)
    found = [*(of_look(running, n) for n in look(running)), of_request(running, number)]
    assert [one.of for one in found] == ["look 1", "look 2", "look 3", "request #2"]  # look 3 is an alarm
    for one in found:
        assert (one.is_identical, one.is_whole, one.difference) == (True, True, None)
        assert len(one.said) > 2_000
    assert found[3].said not in [one.said for one in found[:3]]


@pytest.mark.parametrize(
    "change",
    [
        "look = look || '{\"days\": 4.25}'",
        "why = 'because'",
        "action = 'wait'",
        "decision = overlay(decision placing '9' from 60)",
        "terms = terms || '{\"minimum_samples\": 99999999}'",
    ],
)
def test_what_was_changed_since_is_shown(running: Engine, change: str) -> None:
    (number,) = look(running)
    with running.begin() as connection:
        connection.execute(text(f"UPDATE promotion.recommendations SET {change}"))
    found = of_look(running, number)
    assert not found.is_identical
    assert found.difference is not None
    at, said, now = found.difference
    assert said != now
    assert found.said[:at] == found.found[:at]


def test_a_look_from_before_verdicts_were_kept_whole(running: Engine) -> None:
    (number,) = look(running)
    with running.begin() as connection:
        connection.execute(text("UPDATE promotion.recommendations SET decision = NULL"))
    assert (of_look(running, number).is_identical, of_look(running, number).is_whole) == (True, False)


def test_what_cannot_be_replayed_is_said(running: Engine) -> None:
    with pytest.raises(Refused, match="There is no look 9"):
        of_look(running, 9)
    with pytest.raises(Refused, match="There is no request #9"):
        of_request(running, 9)
    with pytest.raises(Refused, match="rests on no verdict"):
        of_request(running, 1)
