"""What runs by the clock, run by hand: measuring, the daily looks, and a team's own metric on the way."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apscheduler.triggers.interval import IntervalTrigger
from mlflow import MlflowClient
from sqlalchemy import Engine, func, select, text

from bot import health, schedule
from bot.__main__ import main
from bot.channels import Channels
from bot.desk import Desk
from bot.people import People
from bot.pulse import Pulse
from core import db, ledger, registry
from core.metric_sections import CustomMetric, MetricsSection
from core.settings import Settings
from core.tables import Alert, AllocationStep, Discrepancy, Effect, Recommendation
from tests.bot.acts import answer
from tests.bot.conftest import Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL
from tests.workspace import Person, waits_until

SWAPS = MetricsSection(custom={"swaps": CustomMetric(count="meal_swapped", tolerance=0.1)})


@pytest.fixture
def wishes() -> dict[str, Any]:
    """A metric of a team's own."""
    return {"metrics": SWAPS}


@pytest.fixture
def table(desk: Engine, configured: Settings, web: object) -> Desk:
    """The desk that jobs work at, without a bot around it."""
    people, channels = People(web, configured), Channels(web)  # type: ignore[arg-type]
    return Desk(desk, registry.at(configured.tracking_uri), people, channels, configured)


def recommendations(engine: Engine) -> list[tuple[str, str]]:
    with db.transaction(engine) as session:
        return [(r.action, r.why) for r in session.scalars(select(Recommendation).order_by(Recommendation.id))]


def swap(engine: Engine, name: str, times: int) -> None:
    """Each plan of a variant gets this many swapped meals."""
    with db.transaction(engine, patience_ms=30_000) as session:
        session.execute(
            text("""
                INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, payload, timestamp)
                SELECT 'meal_swapped', unit_type, unit_id, experiments, payload || jsonb_build_object('meal', n),
                       timestamp
                  FROM exp.events, generate_series(1, CAST(:times AS int)) n
                 WHERE event_type = 'plan_generated' AND experiments @> CAST(:arm AS jsonb)"""),
            {"times": times, "arm": f'[{{"variant_id": "{steps.variant(session, name).id}"}}]'},
        )


def serve_unmeasured(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four days at 10 % that nobody has measured yet."""
    monkeypatch.setattr(steps, "roll_up", lambda engine: None)
    steps.change(engine, "start")
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = started_at - interval '4 days'"))
    steps.serve_all(engine, 12_000)
    swap(engine, "control", 1)
    swap(engine, "candidate_v3", 2)


def test_a_teams_own_metric_is_measured_and_decides(desk: Engine, table: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_unmeasured(desk, monkeypatch)
    schedule.measure(table)
    schedule.watch(table)
    ((action, why),) = recommendations(desk)
    assert action == "rollback"
    assert why.startswith("Swaps is worse, beyond chance and beyond tolerance: 2.00 against 1.00, +100.0 %")
    schedule.watch(table)
    assert len(recommendations(desk)) == 1, "once a day"


def test_it_is_shown_beside_the_six(
    bot: Bot, alice: Person, desk: Engine, table: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_unmeasured(desk, monkeypatch)
    schedule.measure(table)
    said = answer(alice, "recommend")
    assert ":x: Swaps  *2.00* vs 1.00 · +100.0\u00a0% (" in said
    assert ":white_check_mark: Latency p50" in said


def test_shares_that_others_change_open_a_step(desk: Engine, table: Desk) -> None:
    steps.change(desk, "start")
    with desk.begin() as connection:
        shares = "UPDATE exp.variants SET allocation = CASE name WHEN 'control' THEN 0.7 ELSE 0.3 END"
        connection.execute(text(shares + " WHERE allocation > 0"))
    schedule.measure(table)
    with db.transaction(desk) as session:
        newest = session.scalars(select(AllocationStep).order_by(AllocationStep.id.desc()).limit(1)).one()
        assert (newest.source, sorted(newest.shares.values())) == ("noticed", ["0.3000", "0.7000"])


def adopted(engine: Engine, *, days: int) -> None:
    """The experiment as one that ran for some days before the bot came: two variants, and no step on record."""
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO exp.variants (experiment_id, name, allocation) SELECT id, 'b', 0 FROM exp.experiments",
            "UPDATE exp.variants SET allocation = 0.5",
            f"UPDATE exp.experiments SET start_at = now() - interval '{days} days'",
            "DELETE FROM promotion.allocation_steps",
        ):
            connection.execute(text(statement))


def test_what_was_served_before_the_bot_came_counts_at_the_first_look(desk: Engine, table: Desk) -> None:
    adopted(desk, days=60)
    steps.serve_all(desk, 400)
    schedule.run_now(table, "measure", "watch")
    assert recommendations(desk) == [("wait", "200 of the 1,000 plans needed have been served.")]


def test_what_never_spoke_has_not_fallen_silent(desk: Engine, table: Desk) -> None:
    """Nobody wants a card and an alert for each forgotten experiment of a platform on the first day."""

    def told() -> int:
        schedule.run_now(table, "measure", "watch", "recommend")
        with db.transaction(desk) as session:
            return session.scalars(select(func.count()).select_from(Effect)).one()

    adopted(desk, days=60)
    assert told() == 0
    steps.serve(desk, "b", 20)
    assert told() > 0


def test_what_began_lately_and_sends_nothing_is_told(desk: Engine, table: Desk) -> None:
    adopted(desk, days=2)
    schedule.run_now(table, "measure", "watch")
    with db.transaction(desk) as session:
        assert session.scalars(select(Alert.cause)).all() == ["silence"]


def test_one_experiment_that_cannot_be_looked_at_does_not_keep_the_others_from_it(
    desk: Engine, table: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve_unmeasured(desk, monkeypatch)
    schedule.measure(table)
    broken = uuid.uuid4()
    with db.transaction(desk) as session:
        session.execute(
            text("""INSERT INTO exp.experiments (id, name, status) VALUES (:id, 'a broken one', 'active')"""),
            {"id": broken},
        )
        session.execute(
            text("""INSERT INTO exp.variants (experiment_id, name, allocation)
                    VALUES (:id, 'control', 0.5), (:id, 'x', 0.5)"""),
            {"id": broken},
        )
        session.execute(
            text("""INSERT INTO promotion.allocation_steps (experiment_id, shares)
                    SELECT :id, jsonb_object_agg(id, allocation::text) FROM exp.variants WHERE experiment_id = :id"""),
            {"id": broken},
        )
        session.execute(
            text("""INSERT INTO promotion.measure_experiments (experiment_id) VALUES (:id)"""), {"id": broken}
        )
        session.execute(
            text("""INSERT INTO promotion.measure_arms (experiment, variant_id)
                    SELECT m.id, v.id FROM exp.variants v JOIN promotion.measure_experiments m USING (experiment_id)
                     WHERE experiment_id = :id"""),
            {"id": broken},
        )
        session.execute(
            text("""INSERT INTO promotion.samples (arm, step, content)
                    SELECT a.id, s.id, 'not a sample'::bytea FROM promotion.measure_arms a
                      JOIN promotion.measure_experiments m ON m.id = a.experiment
                      JOIN promotion.allocation_steps s USING (experiment_id) WHERE experiment_id = :id"""),
            {"id": broken},
        )
    schedule.watch(table)
    assert "a broken one" in caplog.text
    assert [action for action, _ in recommendations(desk)] == ["rollback"]


def test_a_model_that_cannot_be_compared_does_not_keep_the_others_from_it(
    desk: Engine, table: Desk, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with desk.begin() as connection:
        connection.execute(
            text("""
            WITH made AS (INSERT INTO exp.policy_versions (policy_id, version, mlflow_model_name, mlflow_model_version)
                          SELECT id, 9, 'a''both"quotes', '1' FROM exp.policies RETURNING *)
            INSERT INTO promotion.stages (policy_version_id, mlflow_model_name, mlflow_model_version, stage)
            SELECT id, mlflow_model_name, mlflow_model_version, 'production' FROM made""")
        )
    client.set_model_version_tag(MODEL, "2", "stage", "archived")
    schedule.reconcile(table)
    assert 'both"quotes could not be looked after' in caplog.text
    with db.transaction(desk) as session:
        assert session.scalars(select(Discrepancy.mlflow_model_name)).all() == [MODEL]


def test_jobs_that_take_minutes_leave_the_others_a_thread(table: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at night: a sweep, `measure` that helps it along, and the hourly count of the assignments."""
    goes_on, ran = threading.Event(), threading.Event()
    begun: set[str] = set()

    def takes_minutes(job: str) -> None:
        begun.add(job)
        goes_on.wait(30)

    def each_second(job: schedule.Job) -> schedule.Job:
        is_long = job.id in ("sweep", "measure", "assigned")
        run = partial(lambda _, name: takes_minutes(name), name=job.id) if is_long else lambda _: ran.set()
        return replace(job, trigger=lambda _: IntervalTrigger(seconds=1), run=run, at_start=False)

    monkeypatch.setattr(schedule, "JOBS", tuple(each_second(job) for job in schedule.JOBS))
    with schedule.scheduled(table):
        waits_until(lambda: len(begun) == 2, 25, "as many jobs as can take long at once")
        ran.clear()
        try:
            assert ran.wait(10)
            assert "measure" in begun
        finally:
            goes_on.set()


def test_measure_rebuild_from_the_command_line(
    desk: Engine,
    table: Desk,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve_unmeasured(desk, monkeypatch)
    schedule.measure(table)
    query = text("SELECT arm, step, units, content FROM promotion.samples ORDER BY arm, step")
    with desk.connect() as connection:
        before = connection.execute(query).all()
    config = tmp_path / "promotion-bot.toml"
    config.write_text('[metrics.custom]\nswaps = { count = "meal_swapped", tolerance = 0.1 }')
    monkeypatch.setenv("DATABASE_URL", database_url)
    for what in ([], [EXPERIMENT]):
        assert main(["measure", "rebuild", *what, "--config", str(config)]) == 0
        assert "events read anew" in capsys.readouterr().out
        with desk.connect() as connection:
            assert connection.execute(query).all() == before
    assert main(["measure", "rebuild", "nothing", "--config", str(config)]) == 2
    assert "There is no experiment" in capsys.readouterr().err


def test_another_configuration_beside_this_one_is_noticed(table: Desk, caplog: pytest.LogCaptureFixture) -> None:
    approvals = table.settings.approvals.model_copy(update={"production": 3})
    other = replace(table, settings=table.settings.model_copy(update={"approvals": approvals}), pulse=Pulse())
    for started in (table, other):
        with table.transaction() as session:
            ledger.record_policy(session, started.settings.policy)
    for each in (table, table, other):
        schedule.run_now(each, "configuration")
    assert health.parts(table.pulse)["configuration"] == health.Part(
        "degraded", "A process that started later has other values of approvals.production."
    )
    assert health.parts(other.pulse)["configuration"].state == "ok"
    assert caplog.text.count("other values of approvals.production") == 1, "once, not each time"
    with table.transaction() as session:
        ledger.record_policy(session, table.settings.policy)  # the other one has ended
    schedule.run_now(table, "configuration")
    assert table.pulse.differing == ()
