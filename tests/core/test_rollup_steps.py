"""Plans count in the step in which they were made, whoever records it and whenever."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import Engine

from core import db, measure, steps
from core.rules import samples
from tests.core.raw_events import (
    CANDIDATE,
    CONTROL,
    DAY,
    HOUR,
    ONE,
    START,
    STEP_TWO,
    TWO,
    accepted,
    arrive,
    assign,
    catch_up,
    generated,
    kept,
    open_step,
    rebuilt,
    run,
    sums,
)
from tests.core.steps import at_once


def test_an_outcome_counts_in_the_step_of_its_plan(platform: Engine) -> None:
    arrive(platform, generated(at=STEP_TWO - HOUR), generated("q", at=STEP_TWO))
    catch_up(platform)
    arrive(platform, accepted(at=STEP_TWO + 6 * DAY), accepted("q", at=STEP_TWO + HOUR))
    catch_up(platform)
    assert sums(platform, step=0)[samples.ACCEPTED] == 1
    assert sums(platform, step=1)[samples.ACCEPTED] == 1


def test_a_step_that_is_recorded_afterwards_takes_its_plans(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), at=STEP_TWO + n * HOUR, unit=f"u{n % 7}") for n in range(40)), accepted("39"))
    catch_up(platform)
    with platform.begin() as connection:
        open_step(connection, ONE, STEP_TWO + 30 * HOUR, {CANDIDATE: "1"})
    catch_up(platform)
    assert [sums(platform, step=n).get(samples.PLANS, 0) for n in range(3)] == [0, 30, 10]
    assert kept(platform) == rebuilt(platform)


def test_traffic_before_the_first_step_is_kept_apart(platform: Engine) -> None:
    arrive(platform, generated(at=START - HOUR))
    catch_up(platform)
    with db.transaction(platform) as session:
        [before, *others] = measure.samples(session, ONE)
    assert (before.step_id, before.until, before.source) == (0, START, "none")
    assert before.variants[CONTROL].sample.plans == 1
    assert not any(step.variants for step in others)


def _sources(engine: Engine, experiment: uuid.UUID = ONE) -> list[str]:
    with db.transaction(engine) as session:
        return [step.source for step in measure.steps(session, experiment)]


def test_shares_changed_by_others_open_a_step(platform: Engine) -> None:
    with db.transaction(platform) as session:
        assert steps.notice(session) == []
    with platform.begin() as connection:
        run(connection, "UPDATE exp.variants SET allocation = 0.75 WHERE id = :id", id=CONTROL)
        run(connection, "UPDATE exp.variants SET allocation = 0.25 WHERE id = :id", id=CANDIDATE)

    def notice() -> list[int]:
        with db.transaction(platform, patience_ms=10_000) as session:
            return steps.notice(session)

    found = at_once(notice, notice)
    assert sorted(len(opened) for opened in found if isinstance(opened, list)) == [0, 1]
    assert _sources(platform) == ["bot", "bot", "noticed"]


def _without_steps(engine: Engine) -> None:
    with engine.begin() as connection:
        run(connection, "DELETE FROM promotion.allocation_steps")


def test_the_past_is_reconstructed_from_assignments(platform: Engine) -> None:
    _without_steps(platform)
    for day in range(3):
        assign(platform, day, control=900 + day, candidate=100)
    for day in range(3, 6):
        assign(platform, day, control=505, candidate=495)
    arrive(platform, *(generated(f"{n}", at=START + n * DAY + HOUR) for n in range(6)))
    catch_up(platform)
    with db.transaction(platform) as session:
        steps.notice(session)
    catch_up(platform)
    with db.transaction(platform) as session:
        there = measure.samples(session, ONE)
    assert [step.source for step in there] == ["reconstructed", "reconstructed"]
    assert [step.started_at for step in there] == [START, START + 3 * DAY]
    assert float(there[0].shares[CONTROL]) == pytest.approx(0.9, abs=0.001)
    assert {str(share) for share in there[1].shares.values()} == {"0.5000"}
    assert [step.variants[CONTROL].sample.plans for step in there] == [3, 3]


def test_the_past_is_reconstructed_from_events_where_there_are_no_assignments(platform: Engine) -> None:
    _without_steps(platform)
    arrive(platform, *(generated(f"{n}", unit=f"{n}", variant=(CONTROL, CANDIDATE)[n % 2]) for n in range(40)))
    catch_up(platform)
    with db.transaction(platform) as session:
        assert len(steps.notice(session)) == 2  # one for each experiment
        assert steps.notice(session) == []
    assert (_sources(platform), _sources(platform, TWO)) == (["reconstructed"], ["reconstructed"])


def test_shares_that_nobody_was_assigned_by_begin_now(platform: Engine) -> None:
    _without_steps(platform)
    assign(platform, 0, control=500)
    with db.transaction(platform) as session:
        steps.notice(session)
    assert _sources(platform) == ["reconstructed", "noticed"]
