"""Nothing is counted twice and nothing is lost: crashes, late commits, two at once, raw events that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db, rollup
from core.rules import samples
from tests.core.raw_events import (
    DAY,
    HOUR,
    ONE,
    START,
    accepted,
    arrive,
    catch_up,
    edit,
    flaws,
    generated,
    happen,
    kept,
    rebuilt,
    run,
    sums,
)
from tests.core.steps import at_once


def test_what_commits_late_is_not_lost_and_holds_nothing_up(platform: Engine) -> None:
    catch_up(platform)
    with platform.connect() as slow, slow.begin():
        happen(slow, generated("slow"))
        with slow.begin_nested():  # a number of its own, higher than the transaction's
            happen(slow, generated("slower"))
        arrive(platform, generated("quick"), accepted("quick"))
        assert catch_up(platform) == 2
        arrive(platform, generated("quicker"))
        assert catch_up(platform) == 1
        assert catch_up(platform) == 0
    assert catch_up(platform) == 2
    assert catch_up(platform) == 0
    assert sums(platform)[samples.PLANS] == 4
    assert "repeated" not in flaws(platform)
    assert catch_up(platform, sweep=True) == 0
    assert kept(platform) == rebuilt(platform) == rebuilt(platform, ONE)


@pytest.fixture(params=[True, False], ids=["by created_at", "by timestamp"])
def either_index(request: pytest.FixtureRequest, platform: Engine) -> Iterator[Engine]:
    """The platform with an index on `created_at` and, as an adopted database may be, without."""
    if request.param:
        yield platform
        return
    with platform.begin() as connection:
        made = run(connection, "SELECT pg_get_indexdef('exp.events_created_at_idx'::regclass)").scalar_one()
        run(connection, "DROP INDEX exp.events_created_at_idx")
    yield platform
    with platform.begin() as connection:
        run(connection, made)


def test_old_and_new_timestamps_are_found(either_index: Engine) -> None:
    catch_up(either_index)
    now = datetime.now(UTC)
    arrive(either_index, generated("a", at=now), generated("b", at=now - 7 * DAY), generated("c", at=now + HOUR))
    assert catch_up(either_index) == 3
    assert catch_up(either_index) == 0


def test_what_came_by_an_unusual_way_is_found_by_the_sweep(platform: Engine) -> None:
    catch_up(platform)
    arrive(platform, generated("copied", arrived=START), generated("usual"))
    assert catch_up(platform) == 1
    arrive(platform, generated("usual, too"))
    assert catch_up(platform) == 1
    assert catch_up(platform, sweep=True) == 1
    assert catch_up(platform, sweep=True) == 0
    assert catch_up(platform) == 0
    assert kept(platform) == rebuilt(platform)


def test_a_crash_in_the_middle_never_happened(platform: Engine) -> None:
    arrive(platform, *(generated(str(n)) for n in range(50)), *(accepted(str(n)) for n in range(40)))
    catch_up(platform, limit=30)
    arrive(platform, *(generated(str(n)) for n in range(50, 90)), *(edit(str(n)) for n in range(60)))
    before = kept(platform)
    for killed_after in range(3):
        with Session(platform) as session:
            me = run(session, "SELECT pg_backend_pid()").scalar_one()
            for _ in range(killed_after):
                rollup.advance(session, limit=25)
            with platform.connect() as other:
                run(other, "SELECT pg_terminate_backend(:pid)", pid=me)
            with pytest.raises(DBAPIError):
                rollup.advance(session, limit=25)
        assert kept(platform) == before
    assert catch_up(platform, limit=25) == 100
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED], sums(platform)[samples.EDITS]) == (
        90,
        40,
        60,
    )
    assert kept(platform) == rebuilt(platform)


def test_two_at_once_count_once(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), unit=f"u{n}") for n in range(200)), *(accepted(str(n)) for n in range(150)))
    found = at_once(*[lambda: catch_up(platform, limit=40)] * 3)
    assert sum(taken for taken in found if isinstance(taken, int)) == 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert "repeated" not in flaws(platform)


def much(engine: Engine) -> None:
    times = [START + n * timedelta(minutes=1) for n in range(200)]
    arrive(engine, *(generated(str(n), at=at, unit=f"u{n}") for n, at in enumerate(times)))
    arrive(engine, *(accepted(str(n), at=at) for n, at in enumerate(times[:150])))


@pytest.mark.parametrize("failing", [2, 4, 5, 7])
def test_a_batch_that_fails_among_others_never_happened(platform: Engine, failing: int) -> None:
    much(platform)
    opened = count()

    @contextmanager
    def transaction() -> Iterator[Session]:
        number = next(opened)
        with db.transaction(platform, patience_ms=30_000) as session:
            yield session
            if number == failing:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rollup.catch_up(transaction, limit=40)
    assert catch_up(platform, limit=40) < 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert kept(platform) == rebuilt(platform)


def test_what_was_read_ahead_is_forgotten_where_another_was_faster(platform: Engine) -> None:
    much(platform)
    opened, others = count(), []

    @contextmanager
    def transaction() -> Iterator[Session]:
        if next(opened) == 3:  # between the choice of the second batch and its reading
            with db.transaction(platform) as session:
                others.append(rollup.advance(session, limit=30).events)
        with db.transaction(platform, patience_ms=30_000) as session:
            yield session

    taken = rollup.catch_up(transaction, limit=40)
    assert others == [30]
    assert taken + 30 == 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert kept(platform) == rebuilt(platform)


def test_one_moment_with_more_events_than_a_batch(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), arrived=START) for n in range(100)))
    assert catch_up(platform, limit=7) == 100
    arrive(platform, *(generated(f"b{n}") for n in range(100)))
    assert catch_up(platform, limit=7) == 100
    assert sums(platform)[samples.PLANS] == 200


def test_what_is_given_up_stays_as_it_was(platform: Engine) -> None:
    now = datetime.now(UTC)
    arrive(platform, generated("old", at=now - 100 * DAY), accepted("old", at=now - 99 * DAY), generated("new", at=now))
    catch_up(platform)
    before = kept(platform)
    with db.transaction(platform) as session:
        assert rollup.purge(session) == 1
    arrive(platform, edit("old", at=now - 99 * DAY, arrived=now))
    catch_up(platform)
    assert kept(platform)["totals"] == before["totals"]
    assert flaws(platform)["expired"] == 1
    assert rebuilt(platform)["totals"] == before["totals"]


def test_raw_events_that_are_gone_take_no_sample_with_them(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), at=START + n * DAY) for n in range(6)))
    catch_up(platform)
    before = kept(platform)
    with platform.begin() as connection:
        run(connection, "DELETE FROM exp.events WHERE timestamp < :at", at=START + 2 * DAY)
    after = rebuilt(platform)
    assert after["days"] == before["days"]
    assert after["totals"] == before["totals"]
