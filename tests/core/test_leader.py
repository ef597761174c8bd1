"""The lead: one at a time, lost by silence, and no job of a former leader goes on once the next has begun."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import db
from core.errors import Refused
from core.leader import Leadership, NotLeading


@pytest.fixture
def two(engine: Engine) -> Iterator[tuple[Leadership, Leadership]]:
    """The first leads, the second tries to."""
    first, second = Leadership(engine), Leadership(engine)
    first.beat()
    second.beat()
    yield first, second
    first.let_go()
    second.let_go()


def held_by(lead: Leadership, within_s: float = 20) -> bool:
    """Beats until it leads."""
    end = time.monotonic() + within_s
    while not lead.is_held and time.monotonic() < end:
        lead.beat()
        time.sleep(0.05)
    return lead.is_held


def passes(engine: Engine, lead: Leadership) -> bool:
    try:
        with db.transaction(engine) as session:
            lead.fence(session)
    except NotLeading:
        return False
    return True


def test_one_leads_and_the_next_when_it_lets_go(engine: Engine, two: tuple[Leadership, Leadership]) -> None:
    first, second = two
    assert [lead.is_held for lead in two] == [passes(engine, lead) for lead in two] == [True, False]
    first.let_go()
    assert held_by(second)
    first.beat()
    assert [passes(engine, lead) for lead in two] == [False, True]


def test_who_is_silent_loses_the_lead_before_noticing(engine: Engine, two: tuple[Leadership, Leadership]) -> None:
    first, second = two
    assert held_by(second), "the server ends the session of the first, which sends no heartbeats"
    assert first.is_held, "it does not know yet"
    assert [passes(engine, lead) for lead in two] == [False, True]
    with pytest.raises(Exception, match=r"idle-session timeout|closed"):
        first.beat()
    assert not first.is_held
    first.beat()
    assert not first.is_held


def test_what_passed_the_fence_is_ended_by_the_next_leader(engine: Engine, two: tuple[Leadership, Leadership]) -> None:
    first, second = two
    with pytest.raises(Refused, match="does not answer"), db.transaction(engine) as session:  # noqa: PT012 - the commit is what is refused
        first.fence(session)
        session.execute(text("INSERT INTO promotion.messages (key, channel, ts) VALUES ('k', 'c', '1')"))
        first.let_go()
        assert held_by(second)
    assert second.is_held
    with Session(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM promotion.messages")) == 0


def test_a_session_that_took_over_its_number_is_not_taken_for_it(engine: Engine, two: tuple[Leadership, ...]) -> None:
    first, second = two
    assert first._seat is not None
    pid, _ = first._seat
    second._seat = (pid, datetime(2000, 1, 1, tzinfo=UTC))
    assert not passes(engine, second)
