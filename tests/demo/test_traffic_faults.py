"""Live traffic when something is missing or goes away."""

import logging
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from bot.demo import models
from tests.demo.live import CONTROL_ID, V3, Local, join, load_locally, plans, playing, rows, until


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"policy_version_id": "nonsense"},
        {"policy_version_id": str(uuid.UUID(int=1))},
        {"execution_strategy": "prompt_template", "params": {}},
    ],
    ids=["empty", "nonsense", "unknown", "prompt"],
)
def test_a_variant_that_links_to_no_policy_version_serves_nothing_and_disturbs_nobody(
    small: Engine, config: dict[str, Any]
) -> None:
    joined = join(small, "0.5000", config)
    start = datetime.now(UTC)
    with playing(small):
        until(lambda: len(plans(small, start)) > 60)
    assert {p.variant_id for p in plans(small, start)} == {str(CONTROL_ID)}
    assert rows(small, "SELECT 1 FROM exp.assignments WHERE variant_id = :v LIMIT 1", v=joined)


@pytest.mark.parametrize("fault", ["no load", "no answer", "no plan"])
def test_a_model_that_fails_is_said_once_and_the_others_go_on(
    small: Engine, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    class Broken:
        def predict(self, requests: list[dict[str, Any]]) -> list[Any]:
            if fault == "no answer":
                raise ValueError("out of memory")
            return [{"text": "soup"}]

    def load(uri: str) -> Any:
        if uri.endswith("/3") and fault == "no load":
            raise OSError("no such artifact\nwith a long explanation")
        return Broken() if uri.endswith("/3") else load_locally(uri)

    join(small, "0.5000", {"execution_strategy": "mlflow_model", "mlflow_model": {"policy_version_id": str(V3)}})
    start = datetime.now(UTC)
    with caplog.at_level(logging.WARNING), playing(small, load):
        until(lambda: len(plans(small, start)) > 100)
    assert {p.variant_id for p in plans(small, start)} == {str(CONTROL_ID)}
    [said] = caplog.messages
    assert said.startswith(f"traffic: models:/{models.MODEL}/3 does not serve")
    assert "\n" not in said


def test_it_outlives_a_database_that_goes_away(small: Engine, postgres: str, caplog: pytest.LogCaptureFixture) -> None:
    name = small.url.database
    admin = create_engine(small.url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def command(words: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(words))

    start = datetime.now(UTC)
    with caplog.at_level(logging.INFO), playing(small):
        until(lambda: len(plans(small, start)) > 20)
        command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        command(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        until(lambda: any("waiting for the database" in line for line in caplog.messages))
        time.sleep(1.5)
        command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        back = datetime.now(UTC)
        until(lambda: len(plans(small, back)) > 20)
    admin.dispose()
    lines = [line for line in caplog.messages if line.startswith("traffic")]
    assert len([line for line in lines if "waiting for the database" in line]) == 1
    assert lines[-1] == "traffic: going on"
    assert not rows(small, "SELECT unit_id FROM exp.events EXCEPT SELECT unit_id FROM exp.assignments")


def test_stopping_is_quick_and_stores_what_was_coming(small: Engine) -> None:
    start = datetime.now(UTC)
    with playing(small) as traffic:
        until(lambda: len(plans(small, start)) > 100)
        began = time.monotonic()
        traffic.stop()
        assert time.monotonic() - began < 5
        end = datetime.now(UTC)
    assert not any(thread.name == "demo-traffic" for thread in threading.enumerate())
    decided = rows(
        small,
        "SELECT count(*) FROM exp.events WHERE timestamp BETWEEN :a AND :b "
        "AND event_type IN ('plan_accepted', 'plan_rejected')",
        a=start,
        b=end,
    )
    assert decided[0][0] / len(plans(small, start)) > 0.8
    assert not rows(small, "SELECT 1 FROM exp.events WHERE timestamp > :b", b=end)


def test_stopping_does_not_wait_for_a_model_that_loads(small: Engine) -> None:
    loading, done = threading.Event(), threading.Event()

    def load(uri: str) -> Local:
        loading.set()
        done.wait(10)
        return load_locally(uri)

    with playing(small, load) as traffic:
        assert loading.wait(10)
        began = time.monotonic()
        traffic.stop()
        assert time.monotonic() - began < 6
        done.set()
        until(lambda: not any(thread.name == "demo-traffic" for thread in threading.enumerate()))
