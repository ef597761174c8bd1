"""What the documents point at is there, and what they tell people to run works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine

from bot import screens
from core import adoption, candidates, db, evidence, plans, requests, rollout_cards
from core.registry import Registry
from core.rules.lifecycle import Stage
from core.steps import notice
from core.variants import is_new_shape, linked_version_id
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL
from tests.dockerfile import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/SECURITY.md", ".github/PLATFORM.md")
PLATFORM = ROOT / ".github/PLATFORM.md"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    document = ROOT / name
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_each_promise_of_the_threat_model_names_tests_that_there_are() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / ".github/SECURITY.md").read_text())
    assert len(named) > 15
    assert [test for file, test in named if f"\ndef {test}(" not in (ROOT / file).read_text()] == []
    fences = re.findall(r"(?:trigger|constraint)s? `(\w+)`", (ROOT / ".github/SECURITY.md").read_text())
    schema = "\n".join(path.read_text() for path in (ROOT / "core/migrations/versions").glob("*.py"))
    assert len(fences) > 5
    assert [fence for fence in fences if fence not in schema] == []


# --- A platform by the examples of PLATFORM.md ----------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """The examples in one language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PLATFORM.read_text(), re.MULTILINE | re.DOTALL)


def sql(engine: Engine, statements: Sequence[str]) -> None:
    """What psql does with the examples."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for each in statements:
            connection.exec_driver_sql(each)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An empty store, where the environment says that MLflow is; what another test told MLflow would go before that."""
    uri, before = f"sqlite:///{tmp_path / 'mlflow.db'}", (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    yield Registry(uri)
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def listed(engine: Engine) -> str:
    """What `list` answers."""
    with db.transaction(engine) as session:
        return json.dumps(screens.experiments(*rollout_cards.experiments(session, terms=steps.TERMS)).blocks)


def status(engine: Engine) -> rollout_cards.ExperimentCard:
    with db.transaction(engine) as session:
        return rollout_cards.experiment_card(session, EXPERIMENT, terms=steps.TERMS)


def plans_of_control(engine: Engine) -> int:
    with db.transaction(engine) as session:
        measured = evidence.measure_step(session, steps.place(session), steps.TERMS)
        return measured[steps.variant(session, "control").id].sample_size


def counted(engine: Engine) -> None:
    """What the bot does every minute."""
    steps.roll_up(engine)
    with db.transaction(engine) as session:
        notice(session)
    steps.roll_up(engine)


def test_the_sql_makes_an_experiment_whose_plans_are_counted(engine: Engine) -> None:
    experiment, plan = blocks("sql")
    assert EXPERIMENT not in listed(engine)
    sql(engine, [experiment])
    assert f"`{EXPERIMENT}`" in listed(engine)
    (control,) = status(engine).variants
    assert (control.name, control.role, control.share) == ("control", "baseline", Decimal(1))
    assert (control.version, control.model) == ("planner_policy v1", "planner_model 1")
    sql(engine, [plan])
    counted(engine)
    assert plans_of_control(engine) == 1
    shown = status(engine).baseline_metrics
    assert (shown["Acceptance"], shown["Edits per plan"], shown["Cost per plan"]) == ("100.0 %", "0.00", "0.011")


def test_a_version_evaluated_by_the_python_qualifies_and_joins(engine: Engine, registry: Registry) -> None:
    sql(engine, blocks("sql"))
    (evaluations,) = blocks("python")
    exec(compile(evaluations, PLATFORM.name, "exec"), {})
    assert adoption.survey(engine, registry).misfits == {}
    assert adoption.adopt(engine, registry) == 1
    counted(engine)
    with db.transaction(engine) as session:
        found = candidates.qualify(
            session, mlflow_model_name=MODEL, mlflow_model_version="2", actor="U1", registry=registry
        )
    assert (found.passed, found.source, found.baseline) == (True, "run", "planner_model 1")
    assert steps.stages_of(engine, 1, 2) == [Stage.PRODUCTION, Stage.CANDIDATE]
    with db.transaction(engine) as session:
        wish = plans.Ask("start", EXPERIMENT, policy_version_id=steps.version(session, 2).id)
        number = requests.ask(session, wish, requester=steps.ALICE.id, terms=steps.TERMS).id
    assert steps.approve(engine, number).outcome == "applied"
    assert steps.shares(engine) == steps.shares_of(control="0.9", candidate_v2="0.1")
    steps.deliver_registry(engine, registry)
    assert steps.tags(MlflowClient()) == {"1": "production", "2": "experiment"}


def test_where_something_is_missing_people_are_told_where_it_is_described(engine: Engine, registry: Registry) -> None:
    named = f"{PLATFORM.relative_to(ROOT)}"
    assert f"`{named}`" in listed(engine)
    client = MlflowClient()
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, source="s3://models/planner")
    with db.transaction(engine) as session:
        found = candidates.evaluate(session, mlflow_model_name=MODEL, mlflow_model_version="1", registry=registry)
    assert named in (found.note or "")


def test_both_shapes_of_a_config_are_read() -> None:
    version = "6a1c2b9e-0d57-4f5e-9b1e-3f6f6f0c1a11"
    shapes = [json.loads(line.replace("…", version)) for line in blocks("json")[0].splitlines()]
    assert [is_new_shape(shape) for shape in shapes] == [False, True]
    assert [str(linked_version_id(shape)) for shape in shapes] == [version, version]
