"""A look at the database ends in time, whatever the database does, and the next one works as soon as it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import db
from core.probe import NoAnswer, Probe
from tests.core.steps import at_once
from tests.crash import gates
from tests.crash.wires import Wire, wire
from tests.workspace import waits_until

WITHIN_S, FRESH_S = 0.5, 1.0


def one(session: Session) -> int:
    return int(session.execute(text("SELECT 1")).scalar_one())


@contextmanager
def probing(engine: Engine, read: Callable[[Session], int] = one, *, fresh_s: float = FRESH_S) -> Iterator[Probe[int]]:
    made = Probe(engine, read, within_s=WITHIN_S, fresh_s=fresh_s)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def line(engine: Engine) -> Iterator[Wire]:
    with wire(lambda: gates.server(engine.url.render_as_string(hide_password=False))) as made:
        yield made


@pytest.fixture
def far(engine: Engine, line: Wire) -> Iterator[Engine]:
    """The same database, at the other end of a wire."""
    url = engine.url.set(host="127.0.0.1", port=line.port, query={"sslmode": "disable", "gssencmode": "disable"})
    made = db.connect(url.render_as_string(hide_password=False))
    yield made
    made.dispose()


def why_not(probe: Probe[int]) -> str:
    """What is said where there is no answer, and that it comes in time."""
    began = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        probe.look()
    assert time.monotonic() - began < WITHIN_S + 2, "it took too long to say so"
    return str(caught.value)


def test_a_database_that_never_answers_again_and_one_that_is_gone(far: Engine, line: Wire) -> None:
    with probing(far) as probe:
        assert probe.look() == 1
        time.sleep(FRESH_S + 0.1)
        line.becomes("dead")
        assert why_not(probe) == f"The database did not answer within {WITHIN_S} s."
        # What was sent meanwhile is lost: only a connection made anew has answers.
        line.becomes("whole")
        assert waits_until(lambda: _seen(probe), 20, "an answer") == 1
        line.becomes("cut")
        time.sleep(FRESH_S + 0.1)
        assert why_not(probe) == "The database does not answer."
        line.becomes("whole")
        assert waits_until(lambda: _seen(probe), 20, "an answer") == 1


def _seen(probe: Probe[int]) -> int | None:
    try:
        return probe.look()
    except NoAnswer:
        return None


def test_however_many_ask_it_looks_once(engine: Engine) -> None:
    looks: list[Session] = []

    def counted(session: Session) -> int:
        looks.append(session)
        return len(looks)

    with probing(engine, counted) as probe:
        assert at_once(*[probe.look] * 8) == [1] * 8
        assert probe.look() == 1


def test_what_failed_is_looked_at_again_at_once(engine: Engine) -> None:
    looks = iter((0, 1, 0))

    def divides(session: Session) -> int:
        return 1 // next(looks)

    with probing(engine, divides, fresh_s=3_600) as probe:
        assert why_not(probe) == "The database cannot be read (ZeroDivisionError)."
        assert probe.look() == 1
        assert probe.look() == 1


def test_it_only_reads_and_waits_for_nobody(engine: Engine) -> None:
    def writes(session: Session) -> int:
        session.execute(text("CREATE TABLE public.written (n int)"))
        return 1

    def waits(session: Session) -> int:
        return int(session.execute(text("SELECT count(*) FROM promotion.messages")).scalar_one())

    with probing(engine, writes) as probe:
        assert why_not(probe) == "The database takes no changes at this moment."
    with engine.begin() as other, probing(engine, waits) as probe:
        other.execute(text("LOCK TABLE promotion.messages"))
        assert why_not(probe) in (
            "Somebody else is changing this at this moment.",
            f"The database did not answer within {WITHIN_S} s.",
        )


def test_what_is_wrong_with_a_statement_is_not_told(engine: Engine) -> None:
    def fails(session: Session) -> int:
        return int(session.execute(text("SELECT s3cret FROM promotion.messages")).scalar_one())

    with probing(engine, fails) as probe:
        assert why_not(probe) == "The database cannot be read (ProgrammingError)."
