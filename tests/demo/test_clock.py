"""Time that can be let pass: whatever asks the database for the time gets the clock's."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select, text

from bot.demo import clock
from core import db, ledger
from core.tables import LedgerEntry

ROOT = Path(__file__).parents[2]
SOON = timedelta(seconds=60)
BOUND = """
SELECT count(*) FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('exp', 'promotion') AND pg_get_expr(d.adbin, d.adrelid) LIKE :how
"""
MADE = "INSERT INTO exp.policies (name) VALUES ('p') RETURNING created_at"


@pytest.fixture
def old(postgres: str) -> Iterator[Engine]:
    """A database from before there was such a clock."""
    admin = create_engine(db.psycopg_url(postgres), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE old"))
    engine = db.connect(db.psycopg_url(postgres).set(database="old").render_as_string(hide_password=False))
    db.migrate(engine)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE old WITH (FORCE)"))
    admin.dispose()


def test_time_passes_for_queries_defaults_triggers_and_the_record(engine: Engine) -> None:
    began = datetime.now(UTC)
    clock.advance(engine, days=3, hours=2)
    then = began + timedelta(days=3, hours=2)
    with db.transaction(engine) as session:
        asked = session.scalar(select(func.now()))
        made = session.scalar(text(MADE))
        ledger.record(session, actor="U1", action="paused", subject="s")
        recorded = session.scalar(select(LedgerEntry.at))
        session.execute(text("INSERT INTO exp.experiments (name) VALUES ('e')"))
        touched = session.scalar(text("UPDATE exp.experiments SET description = 'd' RETURNING updated_at"))
    for found in (asked, made, recorded, touched, clock.now(engine)):
        assert timedelta() <= found - then < SOON


def test_it_can_be_any_moment_and_goes_on_from_there(engine: Engine) -> None:
    moment = datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC)
    clock.set_to(engine, moment)
    first, second = clock.now(engine), clock.now(engine)
    assert moment <= first < second < moment + SOON
    clock.set_to(engine, moment - timedelta(days=400))
    assert clock.now(engine) < moment


def test_a_database_from_before_the_clock_gets_it(old: Engine) -> None:
    clock.install(old)
    clock.advance(old, days=30)
    clock.install(old)
    with old.begin() as connection:
        assert connection.scalar(text(MADE)) - datetime.now(UTC) > timedelta(days=29)
        assert connection.scalar(text(BOUND), {"how": "pg_catalog.now()"}) == 0
        assert connection.scalar(text(BOUND), {"how": "now()"}) > 10


def test_how_much_is_ahead_is_known_also_where_there_is_no_clock(old: Engine, engine: Engine) -> None:
    clock.advance(engine, hours=5)
    with db.transaction(engine) as session:
        assert clock.ahead(session) == timedelta(hours=5)
    with db.transaction(old) as session:
        assert clock.ahead(session) == timedelta()


def test_nothing_asks_for_a_time_that_the_clock_cannot_put_forward() -> None:
    other = re.compile(
        r"\b(clock_timestamp|statement_timestamp|transaction_timestamp|current_timestamp|current_date"
        r"|localtimestamp|timeofday)\b",
        re.IGNORECASE,
    )
    sources = [path for part in ("core", "bot") for path in (ROOT / part).rglob("*.py") if path.name != "clock.py"]
    assert len(sources) > 50
    assert not [str(path) for path in sources if other.search(path.read_text())]
