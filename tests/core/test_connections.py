"""A server that takes what is said and never answers keeps nobody waiting for longer than Slack does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from core import connections, db
from core.errors import Refused
from core.leader import Leadership
from tests.crash import gates
from tests.crash.wires import Wire, wire

SLACKS_LIMIT_S = 3.0


@pytest.fixture
def line(database_url: str) -> Iterator[Wire]:
    """Between the engine and the server."""
    with wire(lambda: gates.server(database_url)) as made:
        yield made


@pytest.fixture
def engine(line: Wire, database_url: str) -> Iterator[Engine]:
    plain = {"sslmode": "disable", "gssencmode": "disable"}
    through = make_url(database_url).set(host="127.0.0.1", port=line.port, query=plain)
    made = db.connect(through.render_as_string(hide_password=False))
    yield made
    made.dispose()


def answers(engine: Engine) -> bool:
    with db.transaction(engine) as session:
        return session.execute(text("SELECT true")).scalar_one()


def goes_dead_in_the_middle(engine: Engine, line: Wire) -> None:
    with db.transaction(engine) as session:
        line.becomes("dead")
        session.execute(text("SELECT 1"))


def test_a_connection_out_of_the_pool_that_is_silent_is_given_up(engine: Engine, line: Wire) -> None:
    assert answers(engine)
    line.becomes("dead")
    began = time.monotonic()
    with pytest.raises(Refused, match="does not answer"):
        answers(engine)
    assert time.monotonic() - began < SLACKS_LIMIT_S
    line.becomes("whole")
    assert answers(engine)


def test_a_statement_without_an_answer_is_given_up(engine: Engine, line: Wire) -> None:
    began = time.monotonic()
    with pytest.raises(Refused, match="does not answer"):
        goes_dead_in_the_middle(engine, line)
    assert time.monotonic() - began < SLACKS_LIMIT_S
    line.becomes("whole")
    assert answers(engine)


def test_what_may_take_its_time_does(engine: Engine) -> None:
    with db.transaction(engine, patience_ms=0) as session:
        session.execute(text("SELECT pg_sleep(:s)"), {"s": connections.PING_S + 0.2})
    with engine.connect() as connection:  # the bound of the pool and of the transaction before hold no longer
        connection.execute(text("SELECT pg_sleep(:s)"), {"s": connections.PING_S + 0.2})


def test_who_leads_and_hears_nothing_lets_go(engine: Engine, line: Wire) -> None:
    lead = Leadership(engine)
    lead.beat()
    assert lead.is_held
    line.becomes("dead")
    with pytest.raises(OperationalError) as raised:
        lead.beat()
    assert isinstance(raised.value.orig, connections.Silent)
    assert not lead.is_held
