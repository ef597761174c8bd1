"""Effects: exactly once under two workers, retried with a pause, known to be retried after a crash, in lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import cards, db, outbox
from core.outbox import Due, Handler, Later, deliver_next
from core.tables import Effect
from tests.core import steps
from tests.core.steps import at_once


def put(engine: Engine, *keys: str, kind: str = "work", subject: str | None = None) -> None:
    with db.transaction(engine) as session:
        for key in keys:
            outbox.put(session, kind=kind, subject=subject or key, key=key, number=7)


def rows(engine: Engine) -> dict[str, Effect]:
    with db.transaction(engine) as session:
        return {effect.key: effect for effect in session.scalars(select(Effect).order_by(Effect.id))}


def due_now(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.effects SET due_at = now()"))


def pause_s(engine: Engine, key: str) -> float:
    with engine.connect() as connection:
        query = text("SELECT extract(epoch FROM due_at - clock_timestamp()) FROM promotion.effects WHERE key = :key")
        return float(connection.execute(query, {"key": key}).scalar_one())


def seen(into: list[Due]) -> Mapping[str, Handler]:
    return {"work": lambda session, due: into.append(due)}


def failing(error: Exception) -> Mapping[str, Handler]:
    def handler(session: Session, due: Due) -> None:
        raise error

    return {"work": handler}


def test_nothing_is_due_at_first(engine: Engine) -> None:
    assert not deliver_next(engine, seen([]))


def test_an_effect_is_carried_out_once_with_what_was_put(engine: Engine) -> None:
    put(engine, "a", subject="s")
    put(engine, "a", subject="s")
    found: list[Due] = []
    assert deliver_next(engine, seen(found))
    assert not deliver_next(engine, seen(found))
    (due,) = found
    assert (due.key, due.kind, due.subject, dict(due.payload), due.is_retry) == ("a", "work", "s", {"number": 7}, False)
    assert rows(engine)["a"].done_at is not None


def test_of_drawings_that_nobody_has_begun_only_the_latest_is_carried_out(engine: Engine) -> None:
    with db.transaction(engine) as session:
        outbox.put(session, kind="work", subject="another card", key="c:1")
        for number in (1, 2, 3):
            outbox.put_latest(session, kind="work", subject="card", key=f"card:{number}", number=number)
    assert list(rows(engine)) == ["c:1", "card:3"]
    with Session(engine) as session:
        outbox.put_latest(session, kind="work", subject="card", key="card:4")
        session.rollback()
    assert list(rows(engine)) == ["c:1", "card:3"], "nothing is dropped where the later one does not come"
    while deliver_next(engine, failing(RuntimeError("Slack is away"))):
        pass
    with db.transaction(engine) as session:
        outbox.put_latest(session, kind="work", subject="card", key="card:5")
    assert list(rows(engine)) == ["c:1", "card:3", "card:5"], "what was begun may have been posted, so it goes on"


def test_an_effect_of_a_change_that_is_taken_back_never_happens(engine: Engine) -> None:
    with Session(engine) as session:
        outbox.put(session, kind="work", subject="s", key="a")
        session.rollback()
    assert not deliver_next(engine, seen([]))


def test_only_the_kinds_one_has_a_handler_for(engine: Engine) -> None:
    put(engine, "a", kind="other")
    assert not deliver_next(engine, seen([]))
    assert rows(engine)["a"].attempts == 0


def test_the_oldest_first(engine: Engine) -> None:
    put(engine, "a", "b", "c")
    found: list[Due] = []
    while deliver_next(engine, seen(found)):
        pass
    assert [due.key for due in found] == ["a", "b", "c"]


def test_what_a_handler_writes_is_committed_with_its_tick(engine: Engine) -> None:
    put(engine, "a")

    def chain(session: Session, due: Due) -> None:
        outbox.put(session, kind="later", subject="s", key="b")

    deliver_next(engine, {"work": chain})
    assert set(rows(engine)) == {"a", "b"}


def test_a_failure_is_recorded_and_tried_again_after_a_doubling_pause(engine: Engine) -> None:
    put(engine, "a")
    for attempt, pause in enumerate((2, 4, 8, 16, 32, 64, 128, 256, 300, 300), 1):
        assert deliver_next(engine, failing(OSError("no route")))
        row = rows(engine)["a"]
        assert (row.attempts, row.last_error, row.done_at) == (attempt, "OSError: no route", None)
        assert pause_s(engine, "a") == pytest.approx(pause, abs=1.5)
        assert not deliver_next(engine, seen([])), "not before its time"
        due_now(engine)
    found: list[Due] = []
    assert deliver_next(engine, seen(found))
    assert found[0].is_retry
    assert (rows(engine)["a"].last_error, rows(engine)["a"].done_at is not None) == (None, True)


def test_what_a_failed_handler_wrote_is_gone(engine: Engine) -> None:
    put(engine, "a")

    def half(session: Session, due: Due) -> None:
        outbox.put(session, kind="work", subject="s", key="b")
        raise ValueError("x" * 1000)

    deliver_next(engine, {"work": half})
    assert set(rows(engine)) == {"a"}
    assert len(str(rows(engine)["a"].last_error)) == 500


def test_a_handler_that_breaks_its_transaction_is_tried_again(engine: Engine) -> None:
    put(engine, "a")

    def broken(session: Session, due: Due) -> None:
        session.execute(text("SELECT 1/0"))

    assert deliver_next(engine, {"work": broken})
    assert "division by zero" in str(rows(engine)["a"].last_error)


def test_later_comes_back_when_it_was_told(engine: Engine) -> None:
    put(engine, "a")
    deliver_next(engine, failing(Later("Slack says 42 s", 42)))
    assert pause_s(engine, "a") == pytest.approx(42, abs=1.5)
    assert rows(engine)["a"].last_error == "Later: Slack says 42 s"


@pytest.mark.parametrize("asked_s", [42, 5_000])
def test_it_is_left_alone_until_then(engine: Engine, asked_s: float) -> None:
    put(engine, "a")
    deliver_next(engine, failing(Later("Slack says when", asked_s)))
    assert not deliver_next(engine, seen([]))


def test_what_was_put_before_the_clock_was_set_back_is_carried_out_at_once(engine: Engine) -> None:
    clock.advance(engine, hours=2)
    put(engine, "a")
    clock.advance(engine, hours=-2)
    assert pause_s(engine, "a") > 7_000
    found: list[Due] = []
    assert deliver_next(engine, seen(found))
    assert [due.key for due in found] == ["a"]


def test_two_workers_carry_out_each_effect_exactly_once(engine: Engine) -> None:
    put(engine, *(f"k{n}" for n in range(20)))
    found: list[Due] = []

    def work() -> None:
        def slow(session: Session, due: Due) -> None:
            time.sleep(0.005)
            found.append(due)

        while deliver_next(engine, {"work": slow}):
            pass

    assert at_once(*[work] * 4) == [None] * 4
    assert sorted(due.key for due in found) == sorted(f"k{n}" for n in range(20))


def test_a_crash_between_claim_and_finish_is_known_at_the_next_try(engine: Engine) -> None:
    """What a killed worker leaves behind: the attempt noted, the row free and still due."""
    put(engine, "a")

    class Killed(BaseException):
        pass

    def dies(session: Session, due: Due) -> None:
        assert not due.is_retry
        raise Killed

    with pytest.raises(Killed):
        deliver_next(engine, {"work": dies})
    row = rows(engine)["a"]
    assert (row.attempts, row.done_at, row.last_error) == (1, None, None)
    found: list[Due] = []
    assert not deliver_next(engine, seen(found)), "for all that others know it is just being begun"
    assert pause_s(engine, "a") <= outbox.CLAIMED_S
    due_now(engine)
    assert deliver_next(engine, seen(found))
    assert found[0].is_retry


def test_a_claim_that_was_overtaken_does_nothing(engine: Engine) -> None:
    """The one who claimed first does not know what the second has tried, so it lets go."""
    put(engine, "a")
    with db.transaction(engine) as session:
        first = outbox._claim(session, ["work"])
    assert first is not None
    due_now(engine)
    with db.transaction(engine) as session:
        second = outbox._claim(session, ["work"])
    assert second is not None
    assert [due.is_retry for due, _ in (first, second)] == [False, True]
    found: list[Due] = []
    for due, attempt in (first, second):
        with db.transaction(engine) as session:
            outbox._carry_out(session, due, attempt, seen(found)["work"])
    assert [due.is_retry for due in found] == [True]


def test_what_another_has_just_claimed_is_passed_over_with_its_lane(engine: Engine) -> None:
    """Else several processes at one burst try the same, and take their own tries for failures."""
    put(engine, "a1", "a2", subject="a")
    put(engine, "b1", subject="b")
    claimed: list[str | None] = []
    for _ in range(3):
        with db.transaction(engine) as session:
            found = outbox._claim(session, ["work"])
            claimed.append(found and found[0].key)
    assert claimed == ["a1", "b1", None]


@pytest.mark.parametrize(("subjects", "most"), [(("s", "s", "s"), 1), (("s", "t", "u"), 3)])
def test_the_same_subject_is_carried_out_one_at_a_time(engine: Engine, subjects: tuple[str, ...], most: int) -> None:
    for n, subject in enumerate(subjects):
        put(engine, f"k{n}", subject=subject)
    lock, meeting = threading.Lock(), threading.Barrier(most)
    running, highest = [0], [0]

    def handler(session: Session, due: Due) -> None:
        with lock:
            running[0] += 1
            highest[0] = max(highest[0], running[0])
        meeting.wait(timeout=20)  # those of different subjects meet here; those of one subject never do
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    def work() -> None:
        while deliver_next(engine, {"work": handler}):
            pass

    assert at_once(*[work] * 3) == [None] * 3
    assert highest[0] == most
    assert all(row.done_at and row.last_error is None for row in rows(engine).values())


def test_a_delay_of_a_request_is_shown_on_its_card(desk: Engine) -> None:
    number = steps.change(desk, "start")

    def down(session: Session, due: Due) -> None:
        raise OSError("MLflow is down")

    while deliver_next(desk, {"registry": down}):
        pass
    found = rows(desk)
    (registry,) = (row for row in found.values() if row.kind == "registry")
    assert f"card:{number}:waits-{registry.id}" in found
    with db.transaction(desk) as session:
        (waiting,) = (e for e in outbox.pending(session, request_id=number) if e.kind == "registry")
        assert waiting.last_error == "OSError: MLflow is down"
        progress = cards.request_card(session, number).progress
    assert [(p.is_done, p.error) for p in progress] == [(True, None), (False, "OSError: MLflow is down")]


def test_what_waits_is_under_way_until_it_is_done_or_has_failed_too_often(engine: Engine) -> None:
    def is_under_way() -> bool:
        with db.transaction(engine) as session:
            return outbox.is_under_way(session, "card")

    states = [is_under_way()]
    put(engine, "first", subject="card")
    states.append(is_under_way())
    deliver_next(engine, seen([]))
    states.append(is_under_way())
    put(engine, "second", subject="card")
    for _ in range(outbox.ATTEMPTS_WAITED_FOR + 1):
        states.append(is_under_way())
        due_now(engine)
        deliver_next(engine, failing(ValueError("no channel")))
    assert states == [False, True, False, *[True] * (outbox.ATTEMPTS_WAITED_FOR + 1)]
    assert not is_under_way()


def test_a_lane_that_is_under_way_is_passed_over_and_keeps_its_order(engine: Engine) -> None:
    put(engine, "a1", "a2", "a3", subject="a")
    put(engine, "b1", subject="b")
    inside, found = [False], list[str]()

    def handler(session: Session, due: Due) -> None:
        found.append(due.key)
        if due.key == "a1":  # while it is carried out, another process takes what it can
            inside[0] = True
            assert deliver_next(engine, {"work": handler})
            assert not deliver_next(engine, {"work": handler})
            inside[0] = False
        assert due.key == "a1" or inside[0] == (due.key == "b1")

    while deliver_next(engine, {"work": handler}):
        pass
    assert found == ["a1", "b1", "a2", "a3"]
    assert {row.attempts for row in rows(engine).values()} == {1}


def test_who_was_frozen_until_the_database_gave_up_posts_nothing_and_has_it_looked_at_again(engine: Engine) -> None:
    put(engine, "a")
    found: list[Due] = []

    def frozen(session: Session, due: Due) -> None:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
        while not found:  # the server lets go of it, and then another process delivers
            deliver_next(engine, seen(found))
            time.sleep(0.05)
        outbox.hold(session)
        raise AssertionError("it would be posted twice")

    assert deliver_next(engine, {"work": frozen})
    assert [due.is_retry for due in found] == [True]
    assert deliver_next(engine, seen(found)), "woken up it may have overwritten what was drawn since"
    assert not deliver_next(engine, seen(found))
    row = rows(engine)["a"]
    assert (row.attempts, row.last_error, row.done_at is not None) == (3, None, True)
