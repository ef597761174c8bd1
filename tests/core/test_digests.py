"""The day's recommendation: once a local day, whoever makes it; what its card and its digest say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, select, text

from bot.demo import clock
from core import db, digests, experiments, rollout_cards, rollouts, watching
from core.errors import Refused
from core.rollouts import Talk
from core.rules.calendar import Schedule
from core.tables import DailyRecommendation, Effect, Rollout
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import TALK, TERMS

BERLIN = ZoneInfo("Europe/Berlin")
NINE = replace(TALK, schedule=Schedule(time(9), BERLIN))
MONDAY = datetime(2045, 11, 20, 7, tzinfo=UTC)
"""Eight o'clock in Berlin, long after anything that a fixture may have done today."""


def recommend(engine: Engine, talk: Talk = NINE) -> bool:
    with db.transaction(engine, patience_ms=30_000) as session:
        wanted = digests.due(session, lambda name: talk.schedule)
        return digests.recommend_due(session, {one: talk for one, _ in wanted}, terms=TERMS) > 0


def made(engine: Engine) -> list[tuple[date, bool]]:
    with db.transaction(engine) as session:
        rows = session.scalars(select(DailyRecommendation).order_by(DailyRecommendation.day))
        return [(row.day, row.is_late) for row in rows]


def rollout(engine: Engine) -> Rollout:
    with db.transaction(engine) as session:
        return session.scalars(select(Rollout).order_by(Rollout.id.desc())).one()


def effects(engine: Engine, kind: str) -> Sequence[str]:
    with db.transaction(engine) as session:
        return session.scalars(select(Effect.key).where(Effect.kind == kind).order_by(Effect.id)).all()


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 10 % since Monday at eight."""
    clock.set_to(desk, MONDAY)
    steps.change(desk, "start")
    steps.serve_all(desk, 1000)
    return desk


def test_once_a_local_day_from_its_time_on(running: Engine) -> None:
    assert not recommend(running)
    clock.advance(running, hours=1)
    assert recommend(running)
    assert not recommend(running)
    clock.advance(running, hours=23, minutes=50)
    assert not recommend(running)
    clock.advance(running, hours=1)
    assert recommend(running)
    assert made(running) == [(date(2045, 11, 20), False), (date(2045, 11, 21), False)]


def test_two_schedulers_at_once_make_one(running: Engine) -> None:
    clock.advance(running, hours=1)
    assert sorted(steps.at_once(*[lambda: recommend(running)] * 4), key=str) == [False, False, False, True]
    assert len(made(running)) == 1
    assert len(effects(running, "rollout")) == 1


def test_of_missed_days_the_latest_is_made_up_for_once_and_marked_late(running: Engine) -> None:
    clock.advance(running, days=1, hours=3)
    assert recommend(running)
    clock.advance(running, days=3)
    assert recommend(running)
    assert not recommend(running)
    assert made(running) == [(date(2045, 11, 21), False), (date(2045, 11, 24), True)]
    with db.transaction(running) as session:
        assert digests.digest(session, "ml-rollouts", date(2045, 11, 24)).late == 1
        assert rollout_cards.rollout_card(session, rollout(running).id, terms=TERMS).is_late


def test_what_waited_for_the_end_of_a_pause_is_not_late(running: Engine) -> None:
    clock.advance(running, days=1, hours=3)
    assert recommend(running)
    with db.transaction(running) as session:
        experiments.set_status(session, experiment=EXPERIMENT, status="paused", actor="U1", reason="a fair")
    clock.advance(running, days=1)
    with db.transaction(running) as session:
        experiments.set_status(session, experiment=EXPERIMENT, status="active", actor="U1", reason=None)
    steps.serve_all(running, 1000)
    assert recommend(running)
    assert made(running)[-1] == (date(2045, 11, 22), False)


def test_nothing_was_missed_before_there_was_a_rollout(running: Engine) -> None:
    """On Monday at eight, last Sunday's nine o'clock is nobody's business."""
    assert not recommend(running)
    assert made(running) == []


@pytest.mark.parametrize("first", [date(2045, 3, 25), date(2045, 10, 28)])
def test_one_a_day_where_the_clocks_change(desk: Engine, first: date) -> None:
    """At half past two, which is skipped on one day and comes twice on another; looked at every half hour."""
    talk = replace(TALK, schedule=Schedule(time(2, 30), BERLIN))
    clock.set_to(desk, datetime.combine(first, time(0), UTC))
    steps.change(desk, "start")
    for _ in range(3 * 48):
        recommend(desk, talk)
        clock.advance(desk, minutes=30)
    assert made(desk) == [(first + timedelta(days=n), False) for n in range(3)]


def test_a_clock_that_is_put_back_repeats_nothing(running: Engine) -> None:
    clock.advance(running, days=1, hours=1)
    assert recommend(running)
    clock.set_to(running, MONDAY + timedelta(hours=2))
    assert not recommend(running)
    assert made(running) == [(date(2045, 11, 21), False)]


def test_no_candidate_nothing_to_recommend(desk: Engine) -> None:
    assert not recommend(desk)
    assert made(desk) == []


# --- The card -------------------------------------------------------------------------------------------------------


def days(engine: Engine, many: int, **candidate: float) -> None:
    """Days of traffic, each with its recommendation."""
    for _ in range(many):
        clock.advance(engine, days=1)
        steps.serve_all(engine, 5_000, **candidate)
        assert recommend(engine)


def test_the_card_stays_where_it_is_until_the_verdict_changes(running: Engine) -> None:
    clock.advance(running, hours=2)
    steps.serve_all(running, 100)
    assert recommend(running)
    assert (rollout(running).action, rollout(running).posted_on) == ("wait", date(2045, 11, 20))
    days(running, 2)
    assert (rollout(running).action, rollout(running).posted_on) == ("wait", date(2045, 11, 20))
    assert effects(running, "moved") == []
    days(running, 1)
    assert (rollout(running).action, rollout(running).posted_on) == ("increase", date(2045, 11, 23))
    assert effects(running, "moved") == [f"moved:rollout:{rollout(running).id}:2045-11-20"]
    days(running, 1)
    assert rollout(running).posted_on == date(2045, 11, 24), "somebody has to act, and nobody has"


def test_it_is_quiet_while_a_request_waits_or_somebody_holds_it(running: Engine) -> None:
    clock.advance(running, hours=2)
    steps.serve_all(running, 100)
    assert recommend(running)
    days(running, 3)
    assert rollout(running).posted_on == date(2045, 11, 23)
    with db.transaction(running) as session:
        until = db.now_of(session) + timedelta(days=2)
        rollouts.hold(session, experiment=EXPERIMENT, variant=None, until=until, reason="the fair", by="U1")
    days(running, 1)
    assert rollout(running).posted_on == date(2045, 11, 23)
    with pytest.raises(Refused, match=r"It is on hold until .*: the fair"):
        steps.ask(running, "increase")
    clock.advance(running, days=1)
    steps.serve_all(running, 100)
    number = steps.ask(running, "increase")
    days(running, 1)
    assert rollout(running).posted_on == date(2045, 11, 23)
    with db.transaction(running) as session:
        (line,) = digests.running(session)
    assert (line.open_request, line.needs_somebody, line.share) == (number, True, Decimal("0.1"))


def test_a_hold_needs_a_reason_and_can_be_lifted(running: Engine) -> None:
    clock.advance(running, hours=2)
    recommend(running)

    def hold(hours: int, reason: str) -> None:
        with db.transaction(running) as session:
            until = db.now_of(session) + timedelta(hours=hours)
            rollouts.hold(session, experiment=EXPERIMENT, variant=None, until=until, reason=reason, by="U1")

    with pytest.raises(Refused, match="Say why"):
        hold(4, " ")
    hold(4, "a release")
    assert rollout(running).held_by == "U1"
    hold(0, "it went well")
    assert rollout(running).hold_until is None
    assert [(e.action, e.reason) for e in steps.ledger(running) if "hold" in e.action] == [
        ("hold", "a release"),
        ("unhold", "it went well"),
    ]


def test_a_candidate_without_a_policy_version_has_a_card_too(running: Engine) -> None:
    with running.begin() as connection:
        connection.execute(text("UPDATE exp.variants SET config = '{}' WHERE name = 'candidate_v3'"))
    clock.advance(running, hours=2)
    assert recommend(running)
    with db.transaction(running) as session:
        card = rollout_cards.rollout_card(session, rollout(running).id, terms=TERMS)
    assert card.candidate is not None
    assert card.checklist == ()


def test_a_rollback_ends_the_card(running: Engine) -> None:
    clock.advance(running, hours=2)
    recommend(running)
    steps.change(running, "rollback", reason="bugs")
    with db.transaction(running) as session:
        assert digests.watched(session)
        watching.watch(session, {steps.place(session).id: NINE}, terms=TERMS)
        card = rollout_cards.rollout_card(session, 1, terms=TERMS)
    assert (card.candidate, card.ending) == (None, "rollback")
    assert card.ended_at is not None


def test_twelve_days_with_an_increase_are_few_messages(running: Engine) -> None:
    """The key of a message holds rollout and day, so there cannot be more than one a day; there are far fewer."""
    clock.advance(running, hours=2)
    steps.serve_all(running, 100)
    recommend(running)
    keys = set()
    for _ in range(12):
        days(running, 1)
        keys.add(rollouts.message_key(rollout(running)))
        if rollout(running).action == "increase":
            steps.change(running, "increase")
    assert len(keys) <= 5, sorted(keys)
