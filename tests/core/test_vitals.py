"""How the installation is, in numbers, read from the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import approvals, db, digests, outbox, requests, vitals
from core.leader import Leadership
from core.outbox import Due, Handler, Later
from core.rules.calendar import Schedule
from core.tables import Request
from core.vitals import DECIDED_WITHIN_S, Effects, Readiness, Vitals
from tests.core import steps
from tests.core.steps import BOB, TALK, TERMS

HOUR_S = 3_600
MONDAY = datetime(2045, 11, 20, 7, tzinfo=UTC)
NINE = Schedule(time(9), ZoneInfo("Europe/Berlin"))


def seen(engine: Engine, schedule: Schedule = NINE) -> Vitals:
    with db.transaction(engine, only_reads=True) as session:
        return vitals.vitals(session, lambda name: schedule)


def ready(engine: Engine) -> Readiness:
    with db.transaction(engine, only_reads=True) as session:
        return vitals.readiness(session)


def put(engine: Engine, key: str, kind: str) -> None:
    with db.transaction(engine) as session:
        outbox.put(session, kind=kind, subject=key, key=key)


def raising(error: Exception) -> Handler:
    def handler(session: Session, due: Due) -> None:
        raise error

    return handler


def test_effects_by_kind_state_and_age(engine: Engine) -> None:
    assert ready(engine) == Readiness(None)
    put(engine, "a", "card")
    put(engine, "b", "notice")
    clock.advance(engine, hours=1)
    put(engine, "c", "card")
    put(engine, "d", "digest")
    outbox.deliver_next(engine, {"notice": raising(OSError("no route"))})
    outbox.deliver_next(engine, {"digest": raising(Later("Slack says 42 s", 42))})
    found = ready(engine).effects
    assert [(each.kind, each.state, each.number) for each in found] == [
        ("card", "waiting", 2),
        ("digest", "postponed", 1),
        ("notice", "failing", 1),
    ]
    assert [HOUR_S <= each.oldest_s < HOUR_S + 60 for each in found] == [True, False, True]
    assert HOUR_S <= ready(engine).oldest_s < HOUR_S + 60
    assert [each.kind for each in seen(engine).effects] == ["card", "digest", "notice"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.effects SET done_at = now()"))
    assert ready(engine).effects == ()


def test_ages_are_never_below_zero(engine: Engine) -> None:
    put(engine, "a", "card")
    clock.advance(engine, hours=-1)
    assert ready(engine).effects == (Effects("card", "waiting", 1, 0.0),)


def test_somebody_leads(engine: Engine) -> None:
    lead = Leadership(engine)
    lead.beat()
    assert (ready(engine).has_leader, seen(engine).has_leader) == (True, True)
    lead.let_go()
    assert (ready(engine).has_leader, seen(engine).has_leader) == (False, False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE promotion.alembic_version SET version_num = '0003'", vitals.OLDER),
        ("ALTER TABLE promotion.alembic_version RENAME TO away", vitals.OLDER),
        ("UPDATE promotion.alembic_version SET version_num = '9999'", None),
        ("CREATE TABLE promotion.contracted AS SELECT text '9999' AS revision", db.NEWER.format("9999")),
    ],
)
def test_whether_the_schema_fits(engine: Engine, change: str, says: str | None) -> None:
    def run(statement: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(statement))

    with engine.connect() as connection:
        at = connection.execute(text("SELECT version_num FROM promotion.alembic_version")).scalar_one()
    run(change)
    try:
        assert ready(engine).schema_fault == says
    finally:
        run("ALTER TABLE IF EXISTS promotion.away RENAME TO alembic_version")
        run("DROP TABLE IF EXISTS promotion.contracted")
        run(f"UPDATE promotion.alembic_version SET version_num = '{at}'")


def decide(engine: Engine, work: Callable[[Session, Request], object]) -> None:
    """A request is opened and ends a while later."""
    number = steps.ask(engine, "start")
    clock.advance(engine, minutes=10)
    with db.transaction(engine) as session:
        work(session, session.get_one(Request, number))


def test_how_long_people_take(desk: Engine) -> None:
    decide(
        desk, lambda session, request: approvals.reject(session, request.id, actor=BOB, roles=steps.ROLES, reason="no")
    )
    decide(desk, lambda session, request: requests.close(session, request, "superseded", by="U1", why=None))
    number = steps.ask(desk, "start")
    assert seen(desk).open_requests == {"start": 1}
    clock.advance(desk, hours=3)
    steps.approve(desk, number)
    found = {each.outcome: each for each in seen(desk).decisions}
    assert seen(desk).open_requests == {}
    assert [(outcome, each.by_people, each.number) for outcome, each in sorted(found.items())] == [
        ("applied", True, 1),
        ("rejected", True, 1),
        ("superseded", False, 1),
    ]
    within = dict(zip(DECIDED_WITHIN_S, found["rejected"].within, strict=True))
    assert (within[300], within[900], within[86_400]) == (0, 1, 1)
    within = dict(zip(DECIDED_WITHIN_S, found["applied"].within, strict=True))
    assert (within[7_200], within[14_400]) == (0, 1)
    assert 3 * HOUR_S <= found["applied"].seconds < 3 * HOUR_S + 60


def test_the_days_recommendations_and_the_noise_budget(desk: Engine) -> None:
    clock.set_to(desk, MONDAY)
    steps.change(desk, "start")
    steps.serve_all(desk, 1_000)
    clock.advance(desk, hours=2)
    assert (seen(desk).recommendations, seen(desk).posts_budget) == ({}, 0)
    with db.transaction(desk, patience_ms=30_000) as session:
        wanted = digests.due(session, lambda name: NINE)
        digests.recommend_due(session, {one: replace(TALK, schedule=NINE) for one, _ in wanted}, terms=TERMS)
    found = seen(desk)
    assert (found.recommendations, found.posts_budget, found.posts_today) == ({"hold": 1}, 1, 0)
    with desk.begin() as connection:
        posted = "SELECT 'rollout:' || id || ':' || posted_on, 'C1', '1' FROM promotion.rollouts"
        connection.execute(text(f"INSERT INTO promotion.messages (key, channel, ts) {posted}"))
    assert (seen(desk).posts_budget, seen(desk).posts_today) == (1, 1)
    clock.advance(desk, hours=14, minutes=30)
    assert seen(desk).posts_today == 0, "it is Tuesday in Berlin"
    assert seen(desk).recommendations == {"hold": 1}, "but Monday in UTC"
    clock.advance(desk, hours=1)
    assert seen(desk).recommendations == {}


def test_open_alerts_by_cause_and_severity(desk: Engine) -> None:
    row = """INSERT INTO promotion.alerts
               (experiment_id, channel, cause, whose, is_critical, why, numbers, proposals, step_id, began_at)
             SELECT id, 'c', :cause, 'data', :critical, 'w', '[]', '{}', 1, now() FROM exp.experiments"""
    with desk.begin() as connection:
        for cause, critical in (("silence", True), ("lingering", False)):
            connection.execute(text(row), {"cause": cause, "critical": critical})
    assert seen(desk).alerts == {("silence", True): 1, ("lingering", False): 1}
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.alerts SET state = 'recovered', ended_at = now() WHERE is_critical"))
    assert seen(desk).alerts == {("lingering", False): 1}
