"""What is read of the samples: totals, days, units, freshness, aggregates; the same six numbers as from raw events."""

from __future__ import annotations

import random
import statistics
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import db, measure, steps
from core.rules.samples import Sample
from tests.core.raw_events import (
    CANDIDATE,
    CONTROL,
    DAY,
    HOUR,
    ONE,
    START,
    STEP_TWO,
    TWO,
    Happened,
    accepted,
    arrive,
    assign,
    catch_up,
    edit,
    generated,
    intervention,
    run,
)


def _traffic(seed: int = 7, plans: int = 300, since: datetime = START) -> list[Happened]:
    chance = random.Random(seed)
    found: list[Happened] = []
    for n in range(plans):
        at = since + chance.random() * 6 * DAY
        who = {"variant": chance.choice((CONTROL, CANDIDATE)), "unit": f"u{chance.randrange(40)}"}
        metrics = {"latency_ms": round(chance.lognormvariate(6, 0.4), 1), "cost": round(chance.random() / 50, 6)}
        found.append(generated(str(n), at=at, metrics=metrics, **who))
        more = [(accepted, 0.7), (edit, 0.5), (edit, 0.3), (intervention, 0.1)]
        found += [
            kind(str(n), at=at + (k + 1) * HOUR, **who)
            for k, (kind, share) in enumerate(more)
            if chance.random() < share
        ]
    return found


def _mean(values: list[Any]) -> Any:
    return pytest.approx(statistics.mean(values))


@pytest.mark.parametrize("since", [START, STEP_TWO])
def test_samples_say_what_the_events_say(platform: Engine, since: datetime) -> None:
    happened = _traffic()
    arrive(platform, *happened)
    catch_up(platform)
    with platform.begin() as connection:
        run(connection, "TRUNCATE exp.events")
    with db.transaction(platform) as session:
        found = measure.variant_metrics(session, experiment_id=ONE, since=since)
    assert found.keys() == {CONTROL, CANDIDATE}
    named = Counter((e.kind, e.plan) for e in happened)
    for variant, mine in found.items():
        plans = [e for e in happened if e.kind == "plan_generated" and e.variant == variant and e.at >= since]
        assert mine.sample_size == len(plans)
        assert mine.acceptance_rate == _mean([named["plan_accepted", e.plan] for e in plans])
        assert mine.avg_edits == _mean([named["edit_applied", e.plan] for e in plans])
        assert mine.validator_rate == _mean([named["validator_intervention", e.plan] for e in plans])
        assert mine.cost_per_plan == _mean([e.metrics["cost"] for e in plans])
        assert mine.p50_latency == pytest.approx(statistics.median(e.metrics["latency_ms"] for e in plans), rel=0.02)


def test_a_step_counts_whole(platform: Engine) -> None:
    arrive(platform, generated(at=START + HOUR), generated("q", at=START + 3 * HOUR))
    with db.transaction(platform) as session:
        assert measure.variant_metrics(session, experiment_id=ONE, since=START) == {}
    catch_up(platform)
    with db.transaction(platform) as session:
        found = measure.variant_metrics(session, experiment_id=ONE, since=START + 2 * HOUR)
    assert found[CONTROL].sample_size == 2


def test_steps_and_days_add_up(platform: Engine) -> None:
    arrive(platform, *_traffic())
    catch_up(platform)
    with db.transaction(platform) as session:
        there = measure.samples(session, ONE)
        days = measure.daily(session, ONE)
    assert [step.until for step in there] == [STEP_TWO, None]
    assert there[0].shares == {CONTROL: Decimal("0.9"), CANDIDATE: Decimal("0.1")}
    for step in there:
        for variant, served in step.variants.items():
            mine = [d.sample for d in days if (d.step_id, d.variant_id) == (step.step_id, variant)]
            assert Sample.total(mine) == served.sample


def units(session: Session) -> measure.Units:
    return measure.assigned_units(session, {ONE: measure.samples(session, ONE)})[ONE]


def test_units_by_assignment(platform: Engine) -> None:
    assign(platform, 0, control=90, candidate=10)
    assign(platform, 4, control=5, candidate=6)
    with db.transaction(platform) as session:
        assert units(session).source == "events"
    assert count(platform) == count(platform) == 111
    with db.transaction(platform) as session:
        found = units(session)
    first, second = found.by_step
    assert found.source == "assignments"
    assert (found.by_step[first], found.by_step[second]) == ({CONTROL: 90, CANDIDATE: 10}, {CONTROL: 5, CANDIDATE: 6})


def count(engine: Engine, is_stopping: Callable[[], bool] = lambda: False) -> int:
    return steps.count_assigned(partial(db.transaction, engine), is_stopping=is_stopping)


def kept(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT coalesce(sum(units), 0) FROM promotion.measure_assigned")) or 0)


def test_assignments_are_counted_part_by_part(platform: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCKS", 1)
    assign(platform, 0, control=900, candidate=100)
    assign(platform, 4, control=50, candidate=60)
    looks = 0

    def is_stopping() -> bool:
        nonlocal looks
        looks += 1
        return False

    assert count(platform, is_stopping) == kept(platform) == 1_110
    assert looks > 10, "as many parts as blocks"
    with db.transaction(platform) as session:
        assert list(units(session).by_step.values()) == [{CONTROL: 900, CANDIDATE: 100}, {CONTROL: 50, CANDIDATE: 60}]


def test_a_count_that_is_broken_off_leaves_the_one_before(platform: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCKS", 1)
    assign(platform, 0, control=90)
    count(platform)
    assign(platform, 0, control=900)
    looks = iter([False, False, True])
    assert count(platform, lambda: next(looks)) == 0
    assert kept(platform) == 90


def test_nobody_waits_for_a_count(platform: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two parts there is no lock, and no transaction that would keep the database from tidying up."""
    monkeypatch.setattr(steps, "BLOCKS", 1)
    assign(platform, 0, control=900)

    def others_need_it_all() -> bool:
        with db.transaction(platform, patience_ms=200) as session:
            session.execute(text("LOCK exp.assignments, promotion.measure_assigned IN ACCESS EXCLUSIVE MODE"))
        return False

    assert count(platform, others_need_it_all) == 900


STEP = """
INSERT INTO promotion.allocation_steps (experiment_id, shares) VALUES (:e, jsonb_build_object(CAST(:v AS text), '1'))"""
LATE = """
INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id)
SELECT :e, 'user', 'late' || n, :v FROM generate_series(1, 30) n"""


def test_what_comes_while_it_counts_is_for_the_next_time(platform: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the units of a step that opens meanwhile would be held against the shares of the one before."""
    monkeypatch.setattr(steps, "BLOCKS", 1)
    assign(platform, 0, control=900)
    came = False

    def step_opens() -> bool:
        nonlocal came
        if not came:
            came = True
            with platform.begin() as connection:
                run(connection, STEP, e=ONE, v=CANDIDATE)
            with platform.begin() as connection:
                run(connection, LATE, e=ONE, v=CANDIDATE)
        return False

    count(platform, step_opens)
    with db.transaction(platform) as session:
        assert all(CANDIDATE not in found for found in units(session).by_step.values())
    count(platform)
    with db.transaction(platform) as session:
        assert list(units(session).by_step.values())[-1] == {CANDIDATE: 30}


def test_units_by_event_where_nobody_is_assigned(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), unit=f"u{n % 7}") for n in range(30)))
    catch_up(platform)
    arrive(platform, *(generated(f"b{n}", unit=f"u{n % 9}") for n in range(30)))
    arrive(platform, generated("c", unit="u1", at=STEP_TWO))
    catch_up(platform)
    with db.transaction(platform) as session:
        found = units(session)
    assert found.source == "events"
    assert [there.get(CONTROL) for there in found.by_step.values()] == [9, 0]  # u1 was there before


def test_freshness(platform: Engine) -> None:
    with db.transaction(platform) as session:
        assert measure.freshness(session, ONE) == measure.Freshness(None, None, 0, None, None)
    now = datetime.now(UTC)
    ago = [timedelta(minutes=20), timedelta(minutes=50), timedelta(minutes=100), 7 * DAY + timedelta(minutes=30)]
    arrive(platform, *(generated(str(n), at=now - back) for n, back in enumerate(ago)), generated("x", at=now + DAY))
    catch_up(platform)
    with db.transaction(platform) as session:
        found = measure.freshness(session, ONE)
        other = measure.freshness(session, TWO)
    assert found.seen_until is not None
    assert now <= found.seen_until < now + HOUR
    assert found.last_plan_at is not None
    assert now - timedelta(minutes=35) <= found.last_plan_at <= now - timedelta(minutes=20)
    assert (found.plans_last_hour, found.plans_same_hour_last_week) == (2, 1)
    assert found.plans_an_hour is not None
    assert 3 / (115 / 60) <= found.plans_an_hour <= 3 / (100 / 60), "of the last week, three in less than two hours"
    assert (other.last_plan_at, other.plans_last_hour, other.plans_an_hour) == (None, 0, None)


def test_aggregates_give_point_estimates_and_say_so(platform: Engine) -> None:
    rows = [
        ("latency_ms", "daily", 0, 100, 40_000),
        ("plan_accepted", "daily", 0, 100, 70),
        ("plan_accepted", "hourly", 3, 10, 9),  # of a day that has its row
        ("plan_accepted", "hourly", 30, 50, 20),
        ("edit_count", "daily", 0, 100, 130),
        ("p99_latency", "daily", 0, 100, 150_000),
    ]
    query = """
        INSERT INTO exp.metric_aggregates
            (experiment_id, variant_id, metric_name, bucket_type, bucket_start, count, sum)
        VALUES (:e, :v, :name, :type, :at, :n, :sum)"""
    with platform.begin() as connection:
        for name, kind, hours, many, total in rows:
            at = START + hours * HOUR
            run(connection, query, e=ONE, v=CONTROL, name=name, type=kind, at=at, n=many, sum=total)
    with db.transaction(platform) as session:
        given = measure.from_aggregates(session, ONE, since=START)
        assert measure.from_aggregates(session, ONE, since=START + 9 * DAY) is None
    assert given is not None
    assert (given.until, given.bucket_hours) == (START + 31 * HOUR, 1.0)
    [(variant, found)] = given.variants.items()
    assert (variant, found.sample_size) == (CONTROL, 100)
    assert found.acceptance_rate == pytest.approx(90 / 150)
    assert (found.avg_edits, found.p99_latency) == (1.3, 1500)
    assert (found.p50_latency, found.cost_per_plan, found.validator_rate) == (None, None, None)


def test_a_look_reads_samples_only(platform: Engine) -> None:
    arrive(platform, *_traffic(plans=2000))
    catch_up(platform, limit=100_000)
    with Session(platform) as session:
        run(session, "DROP TABLE exp.events, exp.assignments CASCADE")  # for this look only
        assert measure.samples(session, ONE)
        assert units(session).by_step
        assert measure.samples(session, uuid.uuid4()) == ()
        session.rollback()
