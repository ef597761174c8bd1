"""What must never happen is a constraint in the database; the schema comes to empty and to existing databases."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from core import db
from core.errors import Refused
from core.tables import Base
from tests.core import steps
from tests.core.steps import at_once

_numbers = itertools.count()
TAKE_FROM_CONTROL = "UPDATE exp.variants SET allocation = 0.9 WHERE name = 'control'"
GIVE_TO_B = (
    "INSERT INTO exp.variants (experiment_id, name, allocation) SELECT id, 'b', 0.1 FROM exp.experiments"
    " WHERE name = 'planner_policy_exp'"
)


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


# --- Shares sum to one ----------------------------------------------------------------------------------------------


def test_shares_may_be_off_within_a_transaction_only(desk: Engine) -> None:
    run(desk, TAKE_FROM_CONTROL, GIVE_TO_B)
    assert steps.shares(desk) == steps.shares_of(control="0.9", b="0.1")


@pytest.mark.parametrize(
    "statements",
    [
        [TAKE_FROM_CONTROL],
        [GIVE_TO_B],
        [TAKE_FROM_CONTROL, GIVE_TO_B, "UPDATE exp.variants SET allocation = 0.0999 WHERE name = 'b'"],
        [TAKE_FROM_CONTROL, GIVE_TO_B, "DELETE FROM exp.variants WHERE name = 'b'"],
        [
            "INSERT INTO exp.experiments (name, status) VALUES ('other', 'draft')",
            "INSERT INTO exp.variants (experiment_id, name, allocation) SELECT id, 'x', 0.3 FROM exp.experiments"
            " WHERE name = 'other'",
            "UPDATE exp.experiments SET status = 'active' WHERE name = 'other'",
        ],
    ],
)  # fmt: skip
def test_shares_that_do_not_sum_to_one_are_never_committed(desk: Engine, statements: list[str]) -> None:
    with pytest.raises(DBAPIError, match="not to 1") as refused:
        run(desk, *statements)
    assert getattr(refused.value.orig, "diag").constraint_name == "variants_shares_sum_to_one"  # noqa: B009
    assert steps.shares(desk) == steps.shares_of(control="1")


def test_a_variant_that_is_moved_leaves_no_gap_behind(desk: Engine) -> None:
    run(desk, TAKE_FROM_CONTROL, GIVE_TO_B, "INSERT INTO exp.experiments (name, status) VALUES ('other', 'draft')")
    with pytest.raises(DBAPIError, match="not to 1"):
        run(
            desk,
            "UPDATE exp.variants SET experiment_id = (SELECT id FROM exp.experiments WHERE name = 'other')"
            " WHERE name = 'b'",
        )


def test_people_are_told_in_words(desk: Engine) -> None:
    with pytest.raises(Refused, match="would not add up to 100 %"), db.transaction(desk) as session:
        session.execute(text(TAKE_FROM_CONTROL))


def test_a_draft_is_still_being_put_together(desk: Engine) -> None:
    run(desk, "UPDATE exp.experiments SET status = 'draft'", TAKE_FROM_CONTROL)
    with pytest.raises(DBAPIError, match="not to 1"):
        run(desk, "UPDATE exp.experiments SET status = 'active'")
    run(desk, GIVE_TO_B, "UPDATE exp.experiments SET status = 'active'")
    for status in ("paused", "active", "completed"):
        run(desk, f"UPDATE exp.experiments SET status = '{status}'")


def test_a_whole_experiment_can_go(desk: Engine) -> None:
    run(desk, "DELETE FROM exp.experiments")


# --- The other constraints ------------------------------------------------------------------------------------------

EXPERIMENT_ID = "(SELECT id FROM exp.experiments WHERE name = 'planner_policy_exp')"
REQUEST = (
    "INSERT INTO promotion.requests (experiment_id, action, requester, params, changes, checklist, state, decided_at,"
    f" decision_reason) VALUES ({EXPERIMENT_ID}, '{{action}}', 'U1', '{{}}', '[]', '[]', {{rest}})"
)


def request(action: str = "start", rest: str = "'open', NULL, NULL") -> str:
    return REQUEST.replace("{action}", action).replace("{rest}", rest).replace("{{}}", "{}")


def stage(number: int, value: str) -> str:
    return f"UPDATE promotion.stages SET stage = '{value}' WHERE mlflow_model_version = '{number}'"


def step(shares: str) -> str:
    return f"INSERT INTO promotion.allocation_steps (experiment_id, shares) VALUES ({EXPERIMENT_ID}, '{shares}')"


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        ([request(), request("promote")], "one_open_request_per_experiment"),
        ([request("dance")], "requests_action_check"),
        ([request(rest="'open', now(), NULL")], "requests_check"),
        ([request(rest="'applied', NULL, NULL")], "requests_check"),
        ([request(rest="'rejected', now(), ''")], "requests_check"),
        ([stage(1, "production")], "one_production_per_model"),
        ([stage(1, "retired")], "stages_stage_check"),
        ([step('{"a": "0.5"}')], "step_shares_sum_to_one"),
        ([step("{}")], "step_shares_sum_to_one"),
        (
            ["INSERT INTO promotion.effects (key, kind, subject) VALUES ('k', 'a', 's'), ('k', 'b', 's')"],
            "effects_key_key",
        ),
        (["UPDATE exp.variants SET allocation = 1.0001"], "variants_allocation_check"),
        (["UPDATE exp.variants SET allocation = -0.0001"], "variants_allocation_check"),
        (
            ["INSERT INTO exp.policy_versions (policy_id, version) SELECT id, 1 FROM exp.policies"],
            "policy_versions_policy_id",
        ),
    ],
)
def test_what_the_database_refuses(desk: Engine, statements: list[str], says: str) -> None:
    with pytest.raises(DBAPIError, match=says):
        run(desk, *statements)


def test_a_rejection_without_any_reason_is_refused(desk: Engine) -> None:
    with pytest.raises(DBAPIError, match="requests_check"):
        run(desk, request(rest="'rejected', now(), NULL"))


def test_closed_requests_leave_room(desk: Engine) -> None:
    run(desk, request(rest="'applied', now(), NULL"), request(rest="'rejected', now(), 'no'"), request())


@pytest.mark.parametrize("statement", [lambda: request(), lambda: stage(1, "production")])
def test_constraints_hold_between_two_connections(desk: Engine, statement: Callable[[], str]) -> None:
    """Not a check beforehand: both have looked before either has written."""
    run(desk, stage(2, "archived"))
    other = stage(3, "production") if "production" in statement() else statement()
    found = at_once(lambda: run(desk, statement()), lambda: run(desk, other))
    assert sorted(type(one).__name__ for one in found) == ["IntegrityError", "NoneType"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotion.ledger SET reason = 'because'",
        "DELETE FROM promotion.ledger",
        "TRUNCATE promotion.ledger",
        "TRUNCATE promotion.ledger CASCADE",
        "INSERT INTO promotion.ledger (id, actor, action, subject) OVERRIDING SYSTEM VALUE"
        " VALUES (1, 'x', 'x', 'x') ON CONFLICT (id) DO UPDATE SET actor = 'x'",
    ],
)
def test_a_ledger_row_is_never_changed(desk: Engine, statement: str) -> None:
    steps.change(desk, "start")
    before = [(e.id, e.actor, e.reason) for e in steps.ledger(desk)]
    with pytest.raises(DBAPIError, match="the ledger is append-only"):
        run(desk, statement)
    assert [(e.id, e.actor, e.reason) for e in steps.ledger(desk)] == before


# --- Migrations -----------------------------------------------------------------------------------------------------


@pytest.fixture
def empty(postgres: str) -> Iterator[Engine]:
    """A database with nothing in it."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    admin = create_engine(db.psycopg_url(postgres), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_engine(db.psycopg_url(postgres).set(database=name))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


CATALOG = {
    "columns": "SELECT table_name, column_name, ordinal_position, data_type, character_maximum_length,"
    " numeric_precision, numeric_scale, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema = :s",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(c.oid) FROM pg_constraint c"
    " JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = :s",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :s",
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t"
    " JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE nspname = :s AND NOT tgisinternal",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = :s",
    "functions": "SELECT proname, prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = :s",
}


def catalog(engine: Engine, schema: str = "exp") -> dict[str, list[str]]:
    """What pg_dump --schema-only would show of a schema."""
    with engine.connect() as connection:
        return {
            name: sorted(str(tuple(row)) for row in connection.execute(text(query), {"s": schema}))
            for name, query in CATALOG.items()
        }


PLATFORM = """
CREATE SCHEMA exp;
CREATE TABLE exp.policies (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(255) NOT NULL UNIQUE,
    description text, created_at timestamptz DEFAULT now());
CREATE TABLE exp.policy_versions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_id uuid REFERENCES exp.policies (id) ON DELETE CASCADE, version int NOT NULL,
    mlflow_model_name varchar(255), mlflow_model_version varchar(50), config_defaults jsonb DEFAULT '{}',
    status varchar(50) DEFAULT 'active', created_at timestamptz DEFAULT now(), extra_of_the_team text,
    UNIQUE (policy_id, version));
CREATE INDEX their_own_name ON exp.policy_versions (mlflow_model_name, mlflow_model_version);
CREATE TABLE exp.experiments (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(255) NOT NULL UNIQUE,
    description text, status varchar(50) DEFAULT 'draft', unit_type varchar(50) DEFAULT 'user', start_at timestamptz,
    end_at timestamptz, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE FUNCTION exp.update_updated_at() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.updated_at = now(); RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON exp.experiments FOR EACH ROW EXECUTE FUNCTION exp.update_updated_at();
CREATE TABLE exp.variants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid REFERENCES exp.experiments (id) ON DELETE CASCADE, name varchar(255) NOT NULL, description text,
    allocation numeric(5,4) NOT NULL CHECK (allocation >= 0 AND allocation <= 1), config jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now(), UNIQUE (experiment_id, name));
CREATE TABLE exp.assignments (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid REFERENCES exp.experiments (id), unit_type varchar(50), unit_id varchar(255),
    variant_id uuid REFERENCES exp.variants (id), assigned_at timestamptz DEFAULT now(),
    UNIQUE (experiment_id, unit_id));
CREATE TABLE exp.events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), event_type varchar(100) NOT NULL,
    unit_type varchar(50) NOT NULL, unit_id varchar(255) NOT NULL, experiments jsonb DEFAULT '[]', context jsonb,
    metrics jsonb, payload jsonb, timestamp timestamptz NOT NULL, created_at timestamptz DEFAULT now());
CREATE TABLE exp.metric_aggregates (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), experiment_id uuid,
    variant_id uuid, metric_name varchar(100), bucket_type varchar(50), bucket_start timestamptz, count bigint,
    sum numeric(20,6), mean numeric(20,6), min numeric(20,6), max numeric(20,6), stddev numeric(20,6),
    created_at timestamptz DEFAULT now());
CREATE TABLE exp.offline_replay_results (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_version_id uuid REFERENCES exp.policy_versions (id), dataset_version varchar(255),
    mlflow_run_id varchar(255), plan_alignment_score numeric(10,6), constraint_respect_score numeric(10,6),
    edit_distance_score numeric(10,6),
    diversity_score numeric(10,6), leftovers_score numeric(10,6),
    baseline_version_id uuid REFERENCES exp.policy_versions (id), is_better_than_baseline boolean,
    status varchar(50) DEFAULT 'completed', error_message text, created_at timestamptz DEFAULT now());
CREATE VIEW exp.v_active_experiments AS SELECT id, name FROM exp.experiments WHERE status = 'active';
INSERT INTO exp.policies (name) VALUES ('planner_policy');
INSERT INTO exp.policy_versions (policy_id, version, mlflow_model_name, mlflow_model_version)
    SELECT id, n, 'planner_model', n::text FROM exp.policies, generate_series(1, 3) n;
INSERT INTO exp.experiments (name, status) VALUES ('planner_policy_exp', 'active');
INSERT INTO exp.variants (experiment_id, name, allocation, config)
    SELECT e.id, 'control', 0.9999, jsonb_build_object('policy_version_id', v.id)
      FROM exp.experiments e, exp.policy_versions v WHERE v.version = 2;
"""


def test_an_empty_database_gets_the_platforms_schema_as_well(empty: Engine) -> None:
    db.migrate(empty)
    found = inspect(empty)
    assert set(found.get_table_names("exp")) == {
        "policies", "policy_versions", "experiments", "variants", "assignments", "events", "metric_aggregates",
        "offline_replay_results",
    }  # fmt: skip
    assert set(found.get_view_names("exp")) == {"v_experiment_metrics", "v_active_experiments", "v_policy_versions"}


def test_the_code_sees_the_columns_that_there_are(empty: Engine) -> None:
    db.migrate(empty)
    found = inspect(empty)
    for table in Base.metadata.sorted_tables:
        there = {column["name"]: column for column in found.get_columns(table.name, table.schema)}
        assert {column.name for column in table.columns} <= set(there)
        for column in table.columns:
            if not column.nullable:
                assert not there[column.name]["nullable"], f"{table}.{column.name}"


def test_a_database_that_has_the_platform_is_adopted_untouched(empty: Engine) -> None:
    run(empty, PLATFORM)
    before = catalog(empty)
    with empty.connect() as connection:
        data = connection.execute(text("SELECT * FROM exp.variants")).all()
    db.migrate(empty)
    assert catalog(empty) == before
    with empty.connect() as connection:
        assert connection.execute(text("SELECT * FROM exp.variants")).all() == data
    assert catalog(empty, "promotion")["columns"]


def test_an_adopted_database_carries_a_whole_rollout(empty: Engine) -> None:
    run(empty, PLATFORM, "UPDATE exp.variants SET allocation = 1")
    db.migrate(empty)
    run(
        empty,
        "INSERT INTO promotion.stages (policy_version_id, mlflow_model_name, mlflow_model_version, stage)"
        " SELECT id, mlflow_model_name, mlflow_model_version,"
        " CASE version WHEN 2 THEN 'production' WHEN 3 THEN 'candidate' ELSE 'archived' END FROM exp.policy_versions",
    )
    steps.change(empty, "start")
    steps.change(empty, "increase", override=steps.BECAUSE)
    steps.change(empty, "promote", override=steps.BECAUSE)
    steps.change(empty, "rollback", variant="candidate_v3", reason="slow")
    assert steps.shares(empty) == steps.shares_of(control="1", candidate_v3="0")


def test_migrating_twice_changes_nothing(empty: Engine) -> None:
    db.migrate(empty)
    before = (catalog(empty), catalog(empty, "promotion"))
    db.migrate(empty)
    assert (catalog(empty), catalog(empty, "promotion")) == before


def test_two_migrators_at_once(empty: Engine) -> None:
    applied = at_once(*[lambda: db.migrate(empty)] * 2)
    assert sorted(applied) == [0, max(applied)], "by one of them alone"
    assert max(applied) > 0
    assert catalog(empty)["columns"]


# --- Transactions ---------------------------------------------------------------------------------------------------


def test_a_transaction_is_taken_back_whole(desk: Engine) -> None:
    def half() -> None:
        with db.transaction(desk) as session:
            session.execute(text("UPDATE exp.experiments SET description = 'half'"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with db.transaction(desk) as session:
        assert session.scalar(text("SELECT description FROM exp.experiments")) is None


@pytest.mark.parametrize(
    ("statement", "says"),
    [("SELECT pg_sleep(5)", "took too long"), (request(), "Another request of this experiment")],
)
def test_what_people_are_told_when_the_database_refuses(desk: Engine, statement: str, says: str) -> None:
    run(desk, request())
    with pytest.raises(Refused, match=says), db.transaction(desk, patience_ms=100) as session:
        session.execute(text(statement))


def test_other_faults_stay_faults(desk: Engine) -> None:
    with pytest.raises(DBAPIError), db.transaction(desk) as session:
        session.execute(text("SELECT 1/0"))


def test_a_database_that_is_not_there() -> None:
    engine = db.connect("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(Refused, match="does not answer"), db.transaction(engine):
        pass
    engine.dispose()


@pytest.mark.parametrize("url", ["postgres://u:p@h:5/d", "postgresql://u:p@h:5/d", "postgresql+psycopg2://u:p@h:5/d"])
def test_any_form_of_the_url(url: str) -> None:
    assert db.psycopg_url(url).render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h:5/d"


def test_times_are_utc(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW timezone")) == "UTC"
        found: Any = connection.scalar(text("SELECT gen_random_uuid()"))
        assert isinstance(found, uuid.UUID)
