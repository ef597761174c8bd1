"""SIGTERM, whenever it comes: the bot ends in time, nothing is half-done, and another goes on at once."""

from __future__ import annotations

import signal
import time

import pytest
from sqlalchemy import Engine, text

from bot.schedule import AT_ONCE
from bot.stopping import ONCE_S, STOP_S
from core import db, stages
from tests.benchmarks.verdicts import _fill, _world
from tests.bot.conftest import ROLLOUTS
from tests.bot.test_trouble import hanging  # noqa: F401 - a fixture
from tests.core.conftest import MODEL
from tests.crash.test_processes import LONG_S, READY, Process, Start, start  # noqa: F401 - a fixture
from tests.workspace import Person, waits_until

pytestmark = pytest.mark.timeout(300)
MANY = 60
"""Experiments, whose looks take some seconds."""
LATE_S = 15.0
"""What a machine with much else to do may add to the time in which the bot promises to end."""
LOOKED_AT = "SELECT count(*) FROM promotion.recommendations"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def count(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def stops(one: Process, *, hangs: bool = False) -> None:
    """Is told to stop, and does in time; by itself, unless something hangs."""
    began = time.monotonic()
    one.running.terminate()
    assert one.ends() == 0
    assert time.monotonic() - began < STOP_S + LATE_S
    assert "Traceback" not in one.said()
    assert hangs or "not everything ended in time" not in one.said()


def test_in_the_middle_of_a_job(engine: Engine, database_url: str, start: Start) -> None:  # noqa: F811
    steps, days, _ = _world()
    _fill(database_url, MANY, steps, days)
    first = start("first")
    waits_until(lambda: count(engine, LOOKED_AT), LONG_S, "the first batch")
    stops(first)
    done = count(engine, LOOKED_AT)
    assert done < MANY, "it finished the job first"
    assert done % AT_ONCE == 0, "half a batch was kept"
    assert count(engine, "SELECT count(*) FROM promotion.rollouts") == done
    start("second")
    waits_until(lambda: count(engine, LOOKED_AT) == MANY, LONG_S, "the rest")
    assert count(engine, "SELECT count(DISTINCT variant_id) FROM promotion.recommendations") == MANY


def hold(one: Process, person: Person) -> None:
    """Has it work on answers that need the registry."""
    one.waits_for(READY)
    for _ in range(8):
        assert person.types(f"/rollout qualify {MODEL} 3", ROLLOUTS).acked


def test_while_the_registry_hangs(desk: Engine, start: Start, hanging: str, alice: Person) -> None:  # noqa: F811
    first = start("first", MLFLOW_TRACKING_URI=hanging)
    hold(first, alice)
    with db.transaction(desk) as session:
        stages.mirror(session, MODEL, occasion="a test")
    tried = "SELECT count(*) FROM promotion.effects WHERE kind = 'registry' AND attempts > 0"
    waits_until(lambda: count(desk, tried), LONG_S, "an effect at hand")
    waits_until(lambda: first.leads, LONG_S, "the lead")
    second = start("second", MLFLOW_TRACKING_URI=hanging)
    second.waits_for(READY)
    stops(first, hangs=True)
    said = first.said()
    assert said.index("told to stop") < said.index("the lead is let go") < said.index("not everybody was answered")
    waits_until(lambda: second.leads, LONG_S, "the other to lead")

    hold(second, alice)
    second.running.terminate()
    second.waits_for("told to stop")
    time.sleep(2 * ONCE_S)
    second.running.terminate()
    assert second.ends() == 128 + signal.SIGTERM  # at once, and not in the end
    assert "ended at once" in second.said()
    assert "stopped" not in second.said()


def test_two_signals_at_once_are_one(desk: Engine, start: Start) -> None:  # noqa: F811
    for number, pause_s in enumerate((0.0, 0.05)):
        one = start(f"bot {number}")
        one.waits_for(READY)
        one.running.send_signal(signal.SIGINT)
        time.sleep(pause_s)
        one.running.terminate()
        assert one.ends() == 0
        assert "stopped" in one.said()
        assert "Traceback" not in one.said()


def test_while_migrations_wait(engine: Engine, start: Start) -> None:  # noqa: F811
    with engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": db._MIGRATION_LOCK})
        one = start("one")
        waits_until(lambda: count(engine, WAITING), LONG_S, "the bot to wait for its turn")
        stops(one)
        waits_until(lambda: not count(engine, WAITING), LONG_S, "the database to have noticed")
    assert READY not in one.said()


def test_while_slack_hangs_at_the_start(engine: Engine, start: Start, hanging: str) -> None:  # noqa: F811
    one = start("one", SLACK_API_URL=f"{hanging}/api/")
    connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'promotion-bot' AND state = 'idle'"
    before = count(engine, connected)
    waits_until(lambda: count(engine, connected) > before, LONG_S, "the bot to be done with the database")
    stops(one)
    assert READY not in one.said()
