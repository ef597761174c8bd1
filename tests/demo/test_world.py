"""The seeded database, on a real PostgreSQL."""

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, text

from bot.demo import breakfast, models, outcomes, world
from bot.demo.assignment import bucket
from bot.demo.history import History, Served, Stretch
from bot.demo.models import VERSIONS
from bot.demo.rows import demo_id
from core import db
from core.measure import variant_metrics
from core.rules.evaluation import SCORES, accept
from tests.core.steps import roll_up
from tests.demo.conftest import NOW

EXPERIMENT_ID = demo_id("experiment", world.EXPERIMENT)
CONTROL_ID = demo_id("variant", world.EXPERIMENT, "control")
CANDIDATE_ID = demo_id("variant", breakfast.EXPERIMENT, breakfast.CANDIDATE)
TABLES = (
    "exp.policies",
    "exp.policy_versions",
    "exp.experiments",
    "exp.variants",
    "exp.assignments",
    "exp.events",
    "exp.offline_replay_results",
    "promotion.stages",
    "promotion.allocation_steps",
    "promotion.qualifications",
)


@pytest.fixture(scope="module")
def seeded(postgres: str) -> Iterator[Engine]:
    """A database with the whole world in it; tests here only read."""
    name = f"demo_world_{uuid.uuid4().hex[:12]}"
    admin = create_engine(db.psycopg_url(postgres), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = db.psycopg_url(postgres).set(database=name).render_as_string(hide_password=False)
    engine = db.connect(url)
    db.migrate(engine)
    assert world.seed(engine, seed=7, now=NOW)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def _rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(query), values).all())


def _counts(engine: Engine) -> dict[str, int]:
    return {table: _rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def _stretch(seed: int) -> list[outcomes.EventRow]:
    stretch = Stretch(
        start=NOW - timedelta(days=1),
        end=NOW,
        experiment_id=EXPERIMENT_ID,
        unit_type="user",
        arms={CONTROL_ID: Served(outcomes.place("user", EXPERIMENT_ID, CONTROL_ID, None), VERSIONS[1].behaviour, {})},
        steps=[(NOW - timedelta(days=1), [(CONTROL_ID, Decimal("1.0000"))])],
    )
    return list(History(np.random.default_rng(seed), replace(stretch, plans_a_day=500)).events())


def test_seeding_again_changes_nothing(seeded: Engine) -> None:
    before = _counts(seeded)
    assert not world.seed(seeded, seed=8, now=NOW + timedelta(days=1))
    assert _counts(seeded) == before


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    assert _stretch(7) == _stretch(7)
    assert _stretch(7) != _stretch(8)


def test_a_seed_cut_short_leaves_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE exp.events ADD CHECK (event_type <> 'plan_rejected')"))
    with pytest.raises(Exception, match="plan_rejected"):
        world.seed(engine, seed=7, now=NOW, plans_a_day=20)
    assert set(_counts(engine).values()) == {0}


def test_one_experiment_waits_for_a_candidate_and_one_has_a_rollout_in_progress(seeded: Engine) -> None:
    rows = _rows(seeded, "SELECT name, variant_count, total_allocation FROM exp.v_active_experiments ORDER BY name")
    assert [tuple(row) for row in rows] == [(breakfast.EXPERIMENT, 2, 1), (world.EXPERIMENT, 1, 1)]
    query = "SELECT shares, started_at FROM promotion.allocation_steps WHERE experiment_id = :id ORDER BY started_at"
    [step] = _rows(seeded, query, id=EXPERIMENT_ID)
    assert step.shares == {str(CONTROL_ID): "1.0000"}
    assert step.started_at == NOW - world.PERIOD
    steps = _rows(seeded, query, id=breakfast.EXPERIMENT_ID)
    ages = [(NOW - step.started_at).days for step in steps]
    assert list(zip(ages, [step.shares.get(str(CANDIDATE_ID)) for step in steps], strict=True)) == [
        (12, None),
        (8, "0.1000"),
        (4, "0.2500"),
    ]


def test_stages_and_model_links(seeded: Engine) -> None:
    rows = _rows(
        seeded,
        "SELECT pv.mlflow_model_name, pv.version, pv.mlflow_model_version, s.stage FROM exp.policy_versions pv "
        "JOIN promotion.stages s ON s.policy_version_id = pv.id ORDER BY 1, 2",
    )
    assert [tuple(row) for row in rows] == [
        ("breakfast_model", 1, "1", "production"),
        ("breakfast_model", 2, "2", "experiment"),
        ("planner_model", 1, "1", "archived"),
        ("planner_model", 2, "2", "production"),
        ("planner_model", 3, "3", "none"),
    ]


@pytest.mark.parametrize(
    ("model", "verdicts"),
    [(models.PLANNER, {1: False, 2: True, 3: True}), (models.BREAKFAST, {1: False, 2: True})],
    ids=["planner", "breakfast"],
)
def test_replay_verdicts_agree_with_the_rule(seeded: Engine, model: models.Model, verdicts: dict[int, bool]) -> None:
    rows = _rows(
        seeded,
        "SELECT pv.version, bv.version AS baseline, r.* FROM exp.offline_replay_results r "
        "JOIN exp.policy_versions pv ON pv.id = r.policy_version_id "
        "JOIN exp.policy_versions bv ON bv.id = r.baseline_version_id WHERE pv.mlflow_model_name = :model",
        model=model.name,
    )
    scores = {row.version: {name: float(row._mapping[name]) for name in SCORES} for row in rows}
    assert {row.version: row.is_better_than_baseline for row in rows} == verdicts
    assert {row.dataset_version for row in rows} == {model.dataset}
    for row in rows:
        judged = accept(scores[row.version], scores[row.baseline], row.is_better_than_baseline)
        assert judged.passed is row.is_better_than_baseline
        assert judged.disagreement is None


def test_runs_are_linked_once(engine: Engine) -> None:
    world.seed(engine, seed=7, now=NOW, plans_a_day=5)
    planner = {"1": "one", "2": "two", "3": "three", "4": "four"}
    world.link_runs(engine, {models.MODEL: planner, models.BREAKFAST.name: {"2": "toast"}})
    world.link_runs(engine, {models.MODEL: {"3": "another"}})
    rows = _rows(
        engine,
        "SELECT pv.mlflow_model_name, pv.version, r.mlflow_run_id FROM exp.offline_replay_results r "
        "JOIN exp.policy_versions pv ON pv.id = r.policy_version_id ORDER BY 1, 2",
    )
    assert [tuple(row)[1:] for row in rows] == [(1, None), (2, "toast"), (1, "one"), (2, "two"), (3, "three")]


def test_what_the_traffic_measures(seeded: Engine) -> None:
    roll_up(seeded)
    with db.transaction(seeded, patience_ms=30_000) as session:
        found = variant_metrics(session, experiment_id=EXPERIMENT_ID, since=NOW - world.PERIOD)[CONTROL_ID]
    assert found.sample_size == pytest.approx(28_000, rel=0.05)
    assert found.acceptance_rate == pytest.approx(0.70, abs=0.015)
    assert found.avg_edits == pytest.approx(1.30, rel=0.04)
    assert found.validator_rate == pytest.approx(0.05, abs=0.006)
    assert found.p50_latency == pytest.approx(420, rel=0.04)
    assert found.p99_latency == pytest.approx(1_450, rel=0.12)
    assert found.cost_per_plan == pytest.approx(0.004, rel=0.04)


def test_weeks_and_days_have_a_rhythm_and_people_return(seeded: Engine) -> None:
    plans = _rows(
        seeded, "SELECT unit_id, timestamp FROM exp.events WHERE event_type = 'plan_generated' AND unit_type = 'user'"
    )
    hours = Counter(row.timestamp.hour for row in plans)
    assert hours[17] > 10 * hours[3]
    days = Counter(row.timestamp.weekday() for row in plans)
    assert days[6] > 1.1 * days[4]
    visits = sorted(Counter(row.unit_id for row in plans).values())
    assert visits[len(visits) // 2] >= 3
    assert visits[-1] > 5 * visits[len(visits) // 2]


@pytest.mark.parametrize(
    ("unit_type", "experiment"),
    [("user", EXPERIMENT_ID), ("household", breakfast.EXPERIMENT_ID)],
    ids=["user", "household"],
)
def test_every_unit_with_events_is_assigned_before_its_first_plan(
    seeded: Engine, unit_type: str, experiment: uuid.UUID
) -> None:
    [row] = _rows(
        seeded,
        "SELECT count(*) AS units, count(a.unit_id) AS assigned, bool_and(a.assigned_at <= e.first) AS in_time FROM "
        "(SELECT unit_id, min(timestamp) AS first FROM exp.events WHERE unit_type = :unit_type GROUP BY 1) e "
        "LEFT JOIN exp.assignments a ON a.unit_id = e.unit_id AND a.experiment_id = :experiment",
        unit_type=unit_type,
        experiment=experiment,
    )
    assert row.units == row.assigned > 2_500
    assert row.in_time


def test_a_household_keeps_its_first_variant_and_newcomers_follow_the_hash(seeded: Engine) -> None:
    served = _rows(
        seeded,
        "SELECT e.unit_id, array_agg(DISTINCT e.experiments -> 0 ->> 'variant_id') AS variants, "
        "min(a.variant_id::text) AS assigned, min(a.assigned_at) AS assigned_at FROM exp.events e "
        "JOIN exp.assignments a ON a.unit_id = e.unit_id WHERE e.unit_type = 'household' AND e.experiments <> '[]' "
        "AND EXISTS (SELECT FROM exp.variants v WHERE v.id::text = e.experiments -> 0 ->> 'variant_id') GROUP BY 1",
    )
    for row in served:
        age = NOW - row.assigned_at
        share = 0 if age > breakfast.JOINED else 1_000 if age > breakfast.INCREASED else 2_500
        is_candidate = bucket(breakfast.EXPERIMENT_ID, row.unit_id) >= 10_000 - share
        assert row.variants == [row.assigned]
        assert (row.assigned == str(CANDIDATE_ID)) is is_candidate


def test_flaws_that_the_platform_allows_are_there_and_rare(seeded: Engine) -> None:
    [row] = _rows(
        seeded,
        "SELECT count(*) AS events, max(created_at) AS last, "
        "count(*) FILTER (WHERE created_at - timestamp > '1 hour') AS late, "
        "count(*) FILTER (WHERE created_at - timestamp > '7 days') AS too_late, "
        "count(*) FILTER (WHERE jsonb_typeof(metrics -> 'latency_ms') = 'string') AS texts, "
        "count(*) FILTER (WHERE jsonb_typeof(metrics -> 'latency_ms') = 'null') AS nulls, "
        "count(*) FILTER (WHERE experiments = '[]') AS homeless, "
        "count(*) FILTER (WHERE payload = '{}') AS planless, "
        "count(*) FILTER (WHERE experiments -> 0 ->> 'variant_id' <> :variant) AS ghosts FROM exp.events "
        "WHERE unit_type = 'user'",
        variant=str(CONTROL_ID),
    )
    assert row.events == pytest.approx(92_000, rel=0.05)
    assert row.last <= NOW
    assert row.late > 0
    assert row.too_late == 0
    flaws = (row.texts, row.nulls, row.homeless, row.planless, row.ghosts)
    assert min(flaws) > 0
    assert sum(flaws) < 0.002 * row.events


def test_ids_do_not_repeat_within_a_seed() -> None:
    events = _stretch(7)
    assert len({event.id for event in events}) == len(events)
    assert all(uuid.UUID(event.id).version == 4 for event in islice(events, 50))
