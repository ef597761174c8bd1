"""A platform that was there before: what is found, what does not fit, and a role with no more rights than it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, func, text

from bot import adopting
from bot.__main__ import main
from core import adoption, db, discrepancies, experiments, rights, rollup, stages, steps
from core.errors import Refused
from core.registry import ModelVersion, Registry
from core.rules.lifecycle import Stage
from core.tables import Event
from tests.core import steps as desk
from tests.core.conftest import MODEL
from tests.core.test_settling import compare, settle
from tests.core.test_tables import PLATFORM, catalog, empty, run  # noqa: F401 - a fixture

DIRTY = """
INSERT INTO exp.policy_versions (policy_id, version, mlflow_model_name, mlflow_model_version, status)
SELECT id, 7, 'planner_model', NULL, 'active' FROM exp.policies UNION ALL
SELECT id, 8, 'planner_model', '88', 'shelved' FROM exp.policies;
INSERT INTO exp.policies (name) VALUES ('rules'), ('twice'), ('twice');
INSERT INTO exp.experiments (name, status) VALUES
    ('no_baseline', 'active'), ('two_baselines', 'paused'), ('odd_status', 'running'), ('hollow', 'active'),
    ('same', 'draft'), ('same', 'draft'), ('over', 'completed'), ('in_hand', 'active');
INSERT INTO exp.variants (experiment_id, name, allocation, config)
SELECT e.id, w.name, w.share, CAST(replace(w.config, 'V3', (SELECT CAST(id AS text) FROM exp.policy_versions
                                                            WHERE version = 3)) AS jsonb)
  FROM exp.experiments e JOIN (VALUES
    ('no_baseline', 'Die alte Variante', 1, '{"policy_version_id": 12}'),
    ('two_baselines', 'control', 0.5, '"execution_strategy"'),
    ('two_baselines', 'Baseline', 0.5, '[1]'),
    ('two_baselines', 'both', 0, '{"execution_strategy": "mlflow_model", "mlflow_model": "planner"}'),
    ('two_baselines', 'both', 0, '{"execution_strategy": "prompt_template", "params": {}}'),
    ('in_hand', 'control', 0.75, NULL),
    ('in_hand', 'gone', 0, '{"policy_version_id": "00000000-0000-0000-0000-00000000dead"}'),
    ('in_hand', 'neue Idee', 0.25,
     '{"execution_strategy": "mlflow_model", "mlflow_model": {"policy_version_id": "V3"}}'),
    ('over', 'old', 0.3, '7')
  ) w (experiment, name, share, config) ON w.experiment = e.name;
"""
LOOSE = """
ALTER TABLE exp.experiments DROP CONSTRAINT experiments_name_key;
ALTER TABLE exp.policies DROP CONSTRAINT policies_name_key;
ALTER TABLE exp.variants DROP CONSTRAINT variants_experiment_id_name_key, ADD team text NOT NULL DEFAULT 'a';
ALTER TABLE exp.variants ALTER team DROP DEFAULT;
"""
ROWS = """
SELECT string_agg(x.t || ' ' || md5(CAST(x.rows AS text)), E'\n' ORDER BY x.t) FROM (
    SELECT 'experiments' AS t, (SELECT array_agg(CAST(r AS text) ORDER BY r.id) FROM exp.experiments r) AS rows
    UNION ALL SELECT 'variants', (SELECT array_agg(CAST(r AS text) ORDER BY r.id) FROM exp.variants r)
    UNION ALL SELECT 'policies', (SELECT array_agg(CAST(r AS text) ORDER BY r.id) FROM exp.policies r)
    UNION ALL SELECT 'versions', (SELECT array_agg(CAST(r AS text) ORDER BY r.id) FROM exp.policy_versions r)
) x"""


def rows(engine: Engine) -> str:
    """A checksum of every table that the bot may change."""
    with engine.connect() as connection:
        return str(connection.scalar(text(ROWS)))


def said(engine: Engine, registry: Registry | None) -> dict[str, list[tuple[str, str]]]:
    """What does not fit, by kind."""
    found = adoption.survey(engine, registry).misfits or {}
    return {kind: [(one.where, one.what) for one in ones] for kind, (_, ones) in found.items()}


def test_each_thing_that_does_not_fit_is_named_and_nothing_of_theirs_is_changed(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, LOOSE, "ALTER TABLE exp.variants ALTER team SET DEFAULT 'a'", DIRTY)
    run(empty, "ALTER TABLE exp.variants ALTER team DROP DEFAULT")
    client.set_model_version_tag(MODEL, "1", "stage", "production")
    before = (catalog(empty), rows(empty))
    found = said(empty, registry)
    assert found == {
        "Columns that the bot does not fill": [
            ("exp.variants", "team must be filled and has no default, so `start` fails"),
        ],
        "Policies without a unique name": [("exp.policies", "name is not unique")],
        "Events without an index": [("exp.events", "timestamp has no index")],
        "Shares that do not add up to 1": [("planner_policy_exp", "the shares add up to 0.9999")],
        "Experiments without variants": [("hollow", "no variant at all")],
        "No clear baseline": [
            ("no_baseline", "neither in production nor named control: Die alte Variante"),
            ("two_baselines", "Baseline and control both exist"),
        ],
        "Variants without a policy version": [("in_hand", "control"), ("two_baselines", "both")],
        "Variants whose policy version does not exist": [("in_hand", "gone names an id that no policy version has")],
        "Variants whose config cannot be read": [
            ("no_baseline", "Die alte Variante"), ("two_baselines", "Baseline"),
            ("two_baselines", "both"), ("two_baselines", "control"),
        ],
        "Unknown statuses": [("odd_status", "status 'running'"), ("planner_policy v8", "status 'shelved'")],
        "Names that are not unique": [
            ("same", "2 experiments are called that"), ("twice", "2 policies are called that"),
            ("two_baselines", "2 variants are called both"),
        ],
        "Half a model version": [("planner_policy v7", "names a model, but no version of it")],
        "Model versions that MLflow does not have": [("planner_policy v8", "MLflow has no planner_model 88")],
        "More than one version in production": [(MODEL, "MLflow has versions 1 and 2 in production")],
    }  # fmt: skip
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT to_regnamespace('promotion') IS NULL"))  # a look adds nothing

    assert adoption.adopt(empty, registry) == 1
    assert adoption.adopt(empty, registry) == 0  # what is on record stays
    assert (catalog(empty), rows(empty)) == before
    with db.transaction(empty) as session:
        there = session.execute(text("SELECT v.version, s.stage FROM promotion.stages s, exp.policy_versions v"
                                     " WHERE v.id = s.policy_version_id")).all()  # fmt: skip
        assert [tuple(row) for row in there] == [(3, Stage.EXPERIMENT)]  # beside control, by its traffic
    with db.transaction(empty, patience_ms=30_000) as session:
        assert len(steps.notice(session)) == 3  # shares that do not add up wait
    assert adoption.survey(empty, registry).added == adoption.Added(True, (), {})


def test_what_was_there_before_is_no_discrepancy(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, IN_STEP)
    client.delete_registered_model_alias(MODEL, "production")  # as where a team goes by the tags alone
    assert adoption.adopt(empty, registry) == 2
    assert discrepancies_of(empty, registry) == []
    client.set_model_version_tag(MODEL, "2", "stage", "archived")
    assert discrepancies_of(empty, registry) == [("tags", {"2": "archived"})]
    with db.transaction(empty) as session:
        stages.mirror(session, MODEL, occasion="a decision")
    desk.deliver_registry(empty, registry)
    assert discrepancies_of(empty, registry) == [("tags", {"2": "archived"})], "it still waits for somebody"
    with db.transaction(empty) as session:
        stages.mirror(session, MODEL, occasion="a revert", reverts="tags", shown={"2": "archived"})
    desk.deliver_registry(empty, registry)
    assert discrepancies_of(empty, registry) == []
    client.set_model_version_tag(MODEL, "3", "stage", "candidate")  # other than what was written
    assert discrepancies_of(empty, registry) == [("tags", {"3": "candidate"})]


def test_a_stage_in_other_words_is_written_over_by_the_first_change_as_it_is_said(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, IN_STEP)
    client.set_model_version_tag(MODEL, "3", "stage", "Canary")
    remedy, found = (adoption.survey(empty, registry).misfits or {})["Unknown stages in MLflow"]
    assert [one.what for one in found] == ["version 3 is tagged 'Canary'"]
    assert "writes the decided stage over them" in remedy
    assert adoption.adopt(empty, registry) == 2
    with db.transaction(empty) as session:
        stages.mirror(session, MODEL, occasion="a decision")
    desk.deliver_registry(empty, registry)
    assert desk.tags(client)["3"] == "experiment"


def test_what_has_the_alias_alone_is_taken_for_nothing(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, IN_STEP)
    assert "Alias and tag of production on different versions" not in said(empty, registry)
    client.set_registered_model_alias(MODEL, "production", "3")
    assert said(empty, registry)["Alias and tag of production on different versions"] == [
        (MODEL, "the alias production is on version 3, the tag stage=production on version 2")
    ]
    assert adoption.adopt(empty, registry) == 1, "not the one with traffic and the alias, as if it were on trial"
    with db.transaction(empty) as session:
        stages.mirror(session, MODEL, occasion="a decision")
    desk.deliver_registry(empty, registry)
    assert desk.alias(client) == "3"
    assert discrepancies_of(empty, registry) == [("alias", {"production": "3"})]


@pytest.mark.parametrize("gone", ["variants WHERE name = 'new'", "experiments"])
def test_a_version_whose_variant_is_deleted_may_join_again(
    empty: Engine,  # noqa: F811
    registry: Registry,
    gone: str,
) -> None:
    run(empty, PLATFORM, IN_STEP)
    assert adoption.adopt(empty, registry) == 2
    assert desk.stages_of(empty, 3) == [Stage.EXPERIMENT]
    run(empty, "ALTER TABLE exp.variants DISABLE TRIGGER ALL", f"DELETE FROM exp.{gone}")
    with db.transaction(empty) as session:
        assert len(discrepancies.send_back_stranded(session)) == 1
    assert desk.stages_of(empty, 3) == [Stage.CANDIDATE]


def test_of_two_in_production_neither_is_taken_for_anything(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, IN_STEP)
    client.set_model_version_tag(MODEL, "3", "stage", "production")
    assert adoption.adopt(empty, registry) == 0
    assert discrepancies_of(empty, registry) == []  # else its card would offer to take production away from one
    client.set_model_version_tag(MODEL, "3", "stage", "experiment")
    assert adoption.adopt(empty, registry) == 2


def test_versions_of_a_policy_without_a_name_are_recorded_too(
    empty: Engine,  # noqa: F811
    registry: Registry,
) -> None:
    run(empty, PLATFORM, "ALTER TABLE exp.policies ALTER name DROP NOT NULL", "UPDATE exp.policies SET name = NULL")
    said(empty, registry)  # nor does the look stumble over it
    assert adoption.adopt(empty, registry) > 0
    with empty.connect() as connection:
        subjects = connection.scalars(text("SELECT subject FROM promotion.ledger WHERE action = 'take over'")).all()
    assert set(subjects) <= {"nameless v1", "nameless v2", "nameless v3"}
    assert subjects


IN_STEP = """
UPDATE exp.variants SET allocation = 0.9;
INSERT INTO exp.variants (experiment_id, name, allocation, config)
SELECT e.id, 'new', 0.1, jsonb_build_object('policy_version_id', v.id)
  FROM exp.experiments e, exp.policy_versions v WHERE v.version = 3;
"""
"""Version 3, which MLflow has as a candidate, gets traffic."""


def discrepancies_of(engine: Engine, registry: Registry) -> list[tuple[str, Any]]:
    """What the comparison of the model finds."""
    with db.transaction(engine) as session:
        found = discrepancies.compare_model(session, MODEL, registry)
        return [(each.kind, each.found) for each in found]


class Watching(Registry):
    """Notes at each question who holds a transaction open for the answer."""

    def __init__(self, uri: str, engine: Engine) -> None:
        super().__init__(uri)
        self.waiting: list[int] = []
        self._engine = engine

    def versions(self, name: str) -> list[ModelVersion]:
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        with self._engine.connect() as connection:
            here = " AND datname = current_database()"
            self.waiting.append(connection.execute(text(idle + here)).scalar_one())
        return super().versions(name)


def test_no_transaction_waits_for_mlflow(empty: Engine, mlflow_uri: str) -> None:  # noqa: F811
    run(empty, PLATFORM)
    registry = Watching(mlflow_uri, empty)
    adoption.survey(empty, registry)
    adoption.adopt(empty, registry)
    assert registry.waiting == [0, 0], "PostgreSQL ends a transaction that is left alone for a minute"


def test_what_sends_nothing_and_what_is_tagged_in_other_words(
    empty: Engine,  # noqa: F811
    registry: Registry,
    client: MlflowClient,
) -> None:
    run(empty, PLATFORM, "UPDATE exp.variants SET allocation = 1", "CREATE INDEX ON exp.events (timestamp)")
    client.set_model_version_tag(MODEL, "4", "stage", "Production")
    tagged = {"Unknown stages in MLflow": [(MODEL, "version 4 is tagged 'Production'")]}
    assert said(empty, registry) == tagged  # what began just now is not expected to have sent anything
    run(empty, "UPDATE exp.experiments SET start_at = now() - interval '8 days'")
    mute = {"Active experiments of which nothing is heard": [("planner_policy_exp", "no plan in the last seven days")]}
    assert said(empty, registry) == mute | tagged
    run(empty, """INSERT INTO exp.events (event_type, unit_type, unit_id, timestamp, experiments)
                  SELECT 'plan_generated', 'user', 'u', now(),
                         jsonb_build_array(3, jsonb_build_object('experiment_id', id)) FROM exp.experiments
                   UNION ALL SELECT 'plan_generated', 'user', 'u', now(), '{"a": 1}'""")  # fmt: skip
    assert said(empty, registry) == tagged


ROLE = "promotion_bot_of_tests"


@pytest.fixture
def least(empty: Engine) -> Iterator[Engine]:  # noqa: F811
    """A connection as a role that has what `--grants` prints and nothing else; the schema exp is another's."""
    role = f"{ROLE}_{os.getpid()}"
    run(empty, PLATFORM, "UPDATE exp.variants SET allocation = 1", f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    run(empty, f"REVOKE ALL ON DATABASE {empty.url.database} FROM public")
    with empty.begin() as connection:  # the driver takes several statements at once where none has parameters
        connection.exec_driver_sql(rights.script(role, str(empty.url.database)))
    engine = db.connect(empty.url.set(username=role, password="x").render_as_string(hide_password=False))
    yield engine
    engine.dispose()
    run(empty, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_row_security_is_told_to_the_role_that_it_holds_for(
    least: Engine,
    empty: Engine,  # noqa: F811
    registry: Registry,
) -> None:
    run(empty, "ALTER TABLE exp.variants ENABLE ROW LEVEL SECURITY")
    told = {"Tables with row security": [("exp.variants", "row security holds for this role")]}
    assert told.items() <= said(least, registry).items()
    assert not told.keys() & said(empty, registry).keys(), "its owner sees all rows"


def test_a_role_of_least_rights_carries_whole_rollouts(
    least: Engine,
    empty: Engine,  # noqa: F811
    registry: Registry,
) -> None:
    assert adoption.survey(least, registry).blockers == ()
    assert adoption.adopt(least, registry) == 1
    with db.transaction(least, patience_ms=30_000) as session:
        steps.notice(session)
    steps.count_assigned(partial(db.transaction, least))
    with db.transaction(least, patience_ms=30_000) as session:
        desk.qualified(session, 3)
        made = experiments.create_policy_version(
            session, policy="planner_policy", mlflow_model_name=MODEL, mlflow_model_version="3", registry=registry
        )
        experiments.create_policy_version(
            session, policy="new", mlflow_model_name=MODEL, mlflow_model_version="4", create_policy=True,
            override_reason="to try", registry=registry,
        )  # fmt: skip
    desk.change(least, "start", policy_version_id=made.id)
    run(empty, "UPDATE exp.policy_versions SET status = 'archived' WHERE version = 4")
    assert "Reverted" in settle(least, compare(least)[0], "revert")
    desk.serve_all(least, 40)
    desk.watch(least)
    desk.change(least, "increase", override=desk.BECAUSE)
    desk.change(least, "promote", override=desk.BECAUSE)
    desk.change(least, "rollback", variant="candidate_v4", reason="slow")
    run(empty, f"REVOKE DELETE ON exp.assignments FROM {least.url.username}")
    with pytest.raises(Refused, match="`promotion-bot adopt` tells which rights I lack"):
        desk.ask(least, "retire", mode="delete")
    run(empty, f"GRANT DELETE ON exp.assignments TO {least.url.username}")
    desk.change(least, "retire", mode="delete")
    desk.erase(least)
    for status in ("paused", "active"):
        with db.transaction(least) as session:
            experiments.set_status(session, experiment="planner_policy_exp", status=status, actor="U1", reason=None)
    with db.transaction(least, patience_ms=30_000) as session:
        assert rollup.rebuild(session)
    assert desk.shares(least) == desk.shares_of(control="1")
    with empty.connect() as connection:
        assert connection.scalars(text("SELECT name FROM exp.variants")).all() == ["control"]
    with (
        pytest.raises(Refused, match="`promotion-bot adopt` tells which rights I lack"),
        db.transaction(least) as session,
    ):
        session.execute(text("UPDATE exp.variants SET config = '{}'"))
    run(empty, "ALTER TABLE exp.events ADD team text NOT NULL DEFAULT 'a'",
        "ALTER TABLE exp.events ALTER team DROP DEFAULT",
        "ALTER TABLE exp.variants ADD CONSTRAINT short_names CHECK (length(name) < 99)")  # fmt: skip
    with pytest.raises(Refused, match="takes no row without team"), db.transaction(least) as session:
        session.add(Event(event_type="model_promoted", unit_type="control", unit_id="bot", timestamp=func.now()))
    with pytest.raises(Refused, match="by its rule short_names"), db.transaction(least) as session:
        session.execute(text("UPDATE exp.variants SET name = repeat('a', 100)"))
    run(empty, "DELETE FROM exp.variants", "DELETE FROM exp.experiments")  # the owner's, rows of the bot go along


def test_a_right_that_is_missing_is_told_with_the_statement_that_gives_it(
    least: Engine,
    empty: Engine,  # noqa: F811
) -> None:
    role = least.url.username
    run(empty, f"REVOKE UPDATE (name, allocation) ON exp.variants FROM {role}", "DROP SCHEMA promotion",
        f"REVOKE SELECT ON exp.events FROM {role}")  # fmt: skip
    assert adoption.survey(least, None).blockers == (
        f"The role {role} lacks rights. Somebody who may runs this, or all of `adopt --grants {role}`:",
        f'GRANT SELECT ON exp.events TO "{role}";',
        f'GRANT UPDATE (name, allocation) ON exp.variants TO "{role}";',
        f'CREATE SCHEMA promotion AUTHORIZATION "{role}";',
    )


@pytest.mark.parametrize("held", ["USAGE", "CREATE"])
def test_half_of_the_rights_on_its_own_schema_is_too_little(
    least: Engine,
    empty: Engine,  # noqa: F811
    held: str,
) -> None:
    role = least.url.username
    run(empty, "ALTER SCHEMA promotion OWNER TO CURRENT_USER", f"GRANT {held} ON SCHEMA promotion TO {role}")
    assert adoption.survey(least, None).blockers[1:] == (f'ALTER SCHEMA promotion OWNER TO "{role}";',)
    run(empty, f"GRANT USAGE, CREATE ON SCHEMA promotion TO {role}")
    assert adoption.survey(least, None).blockers == ()


@pytest.mark.parametrize("held", ["3,2", "4,3", "4,4", "3", "6,-1"])
def test_shares_that_the_table_would_round_keep_the_bot_from_starting(
    empty: Engine,  # noqa: F811
    held: str,
) -> None:
    run(empty, PLATFORM, "DELETE FROM exp.variants", f"ALTER TABLE exp.variants ALTER allocation TYPE numeric({held})")
    written = held if "," in held else f"{held},0"
    told = (
        f"exp.variants.allocation is numeric({written}), which does not hold every share from 0.0000 to 1.0000; "
        "the bot needs numeric with at least four decimals, as numeric(5,4), or without a limit."
    )
    assert adoption.survey(empty, None).blockers == (told,)
    with db.transaction(empty) as session:
        assert adoption.blockers(session) == [told], "as `check` and `run` ask"
    for enough in ("numeric(5,4)", "numeric(9,6)", "numeric"):
        run(empty, f"ALTER TABLE exp.variants ALTER allocation TYPE {enough}")
        assert adoption.survey(empty, None).blockers == ()


MANY = """
INSERT INTO exp.policy_versions (policy_id, version, mlflow_model_name, mlflow_model_version)
    SELECT id, n, 'planner_model', '3' FROM exp.policies, generate_series(10, 1009) n;
INSERT INTO exp.experiments (name, status, start_at) SELECT 'e' || n, 'active', now() FROM generate_series(1, 10000) n;
INSERT INTO exp.variants (experiment_id, name, allocation, config)
    SELECT e.id, w.name, w.share, jsonb_build_object('policy_version_id', v.id) FROM exp.experiments e
      JOIN (VALUES ('control', 0.7, 1), ('a', 0.2, 2), ('b', 0.2, 3)) w (name, share, nth) ON true
      JOIN exp.policy_versions v ON v.version = 10 + mod(CAST(replace(e.name, 'e', '0') AS int) + nth, 1000)
     WHERE e.name LIKE 'e%';
"""


def test_the_command_on_ten_thousand_experiments(
    empty: Engine,  # noqa: F811
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(empty, PLATFORM, MANY)
    monkeypatch.setenv("DATABASE_URL", empty.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    assert main(["adopt"]) == 1
    printed = capsys.readouterr().out
    assert "  10,001 experiments: 10,001 active\n  30,001 variants, 0 with a config of the new shape" in printed
    assert "  Shares that do not add up to 1 (10,001). The bot changes no share there" in printed
    assert "    and 9,981 more (--all)" in printed
    assert "    The bot's own schema: stages" in printed
    assert main(["adopt", "--all"]) == 1
    assert capsys.readouterr().out.count("the shares add up to 1.1") == 10_000
    assert main(["adopt", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["found"]["experiments"] == {"active": 10_001}
    assert main(["adopt", "--grants", " "]) == 2
    assert main(["adopt", "--grants", 'b"ot']) == 0
    assert 'GRANT UPDATE (name, allocation) ON exp.variants TO "b""ot";' in capsys.readouterr().out
    run(empty, "UPDATE exp.variants SET allocation = 0.1 WHERE name = 'a'",
        "UPDATE exp.variants SET allocation = 1 WHERE allocation = 0.9999",
        "CREATE INDEX ON exp.events (timestamp)")  # fmt: skip
    assert main(["adopt", "--apply"]) == 0
    assert "Everything fits." in (printed := capsys.readouterr().out)
    assert "Adopted: the schema promotion is up to date" in printed


def test_what_does_not_fit_is_no_failure_of_what_was_applied(
    empty: Engine,  # noqa: F811
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(empty, PLATFORM)
    monkeypatch.setenv("DATABASE_URL", empty.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    assert [main(["adopt"]), main(["adopt", "--apply"]), main(["adopt"])] == [1, 0, 1]


def test_few_events_are_counted_and_many_are_estimated(
    empty: Engine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(empty, PLATFORM, "ALTER TABLE exp.events SET (autovacuum_enabled = false)")

    def told() -> list[str]:
        return [line for line in adopting.report(adoption.survey(empty, None)).splitlines() if "event" in line][:1]

    assert told() == ["  0 events"]
    run(empty, "INSERT INTO exp.events (event_type, unit_type, unit_id, timestamp) VALUES ('x', 'user', 'u', now())")
    assert told() == ["  1 event"]
    monkeypatch.setattr(adoption, "COUNTED", 0)
    assert "  about " in told()[0]


def test_a_pipe_that_is_closed_ends_it_quietly(empty: Engine) -> None:  # noqa: F811
    run(empty, PLATFORM, MANY)
    plain = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH") if key in os.environ}
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "adopt", "--all"],
        env=plain | {"DATABASE_URL": empty.url.render_as_string(hide_password=False)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        assert asked.stdout.readline() == b"Found\n"
        asked.stdout.close()
        assert asked.stderr.read() == b""
    assert asked.returncode == 141


def test_a_database_that_cannot_be_adopted(
    empty: Engine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url.render_as_string(hide_password=False))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for itself
    assert main(["adopt"]) == 2
    assert "has no schema exp, so there is nothing to adopt" in capsys.readouterr().out
    run(empty, PLATFORM, "DROP TABLE exp.assignments", "ALTER TABLE exp.variants ALTER allocation TYPE float8",
        "ALTER TABLE exp.events DROP COLUMN payload")  # fmt: skip
    assert main(["adopt"]) == 2
    printed = capsys.readouterr().out
    for fault in ("exp.assignments is missing. An empty one will do, with experiment_id uuid, variant_id uuid,",
                  "exp.variants.allocation is float8; the bot reads numeric.",
                  "exp.events.payload is missing (jsonb)."):  # fmt: skip
        assert fault in printed
    assert main(["adopt", "--apply"]) == 2  # without MLflow nobody knows what is in production
    assert "Set MLFLOW_TRACKING_URI" in capsys.readouterr().err
