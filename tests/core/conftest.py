"""A platform to promote on: a policy with versions, an experiment with traffic, and a real MLflow store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, create_engine, func, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import db
from core.registry import Registry
from core.rules.lifecycle import Stage
from core.tables import AllocationStep, Experiment, Policy, PolicyStage, PolicyVersion, Variant

MODEL = "planner_model"
EXPERIMENT = "planner_policy_exp"


@pytest.fixture(scope="session")
def emptied(postgres: str) -> Iterator[tuple[str, Engine]]:
    """One database for all tests of core, and an engine to empty it with: a clone for each costs 0.3 s, this 0.02 s."""
    url = db.psycopg_url(postgres)
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"core_{os.getpid()}"
    with admin.connect() as connection:
        if not os.environ.get("TEST_DATABASE_URL"):  # our own server may forget everything when the machine dies
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_promotion_{os.getpid()}"))
        clock.use(connection, name)
    engine = create_engine(url.set(database=name))
    yield url.set(database=name).render_as_string(hide_password=False), engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database_url(emptied: tuple[str, Engine]) -> Iterator[str]:
    """The URL of a database with the schema in place and nothing in it. A test leaves the schema as it was."""
    url, admin = emptied
    yield url
    with admin.begin() as connection:
        tables = connection.scalars(
            text(
                "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables"
                " WHERE schemaname IN ('exp', 'promotion') AND tablename <> 'alembic_version'"
            )
        ).one()
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # the ledger's trigger would refuse
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        connection.execute(text("INSERT INTO promotion.measure_cursor DEFAULT VALUES"))
        connection.execute(text("UPDATE clock.passed SET ahead = '0'"))


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `planner_model` in four versions; making one costs seconds, copying it does not."""
    return make_mlflow_store(tmp_path_factory.mktemp("mlflow"))


def make_mlflow_store(folder: Path) -> Path:
    """What the fixture `mlflow_template` stands for, in a file of this folder."""
    path = folder / "template.db"
    fill_mlflow(MlflowClient(tracking_uri=f"sqlite:///{path}", registry_uri=f"sqlite:///{path}"))
    return path


def fill_mlflow(client: MlflowClient) -> None:
    """`planner_model` in four versions, where there is nothing yet."""
    client.create_registered_model(MODEL)
    for tag in ("archived", "production", "candidate", None):
        version = client.create_model_version(MODEL, source="s3://models/planner").version
        if tag:
            client.set_model_version_tag(MODEL, version, "stage", tag)
    client.set_registered_model_alias(MODEL, "production", "2")


@pytest.fixture
def mlflow_uri(mlflow_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "mlflow.db"
    path.write_bytes(mlflow_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    """A registry with `planner_model` in four versions: 1 archived, 2 production, 3 candidate, 4 untouched."""
    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


@pytest.fixture
def registry(mlflow_uri: str) -> Registry:
    return Registry(mlflow_uri)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A transaction of one test; committed by the test where constraints are to be seen."""
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def desk(engine: Engine) -> Engine:
    """`planner_policy` v1 archived, v2 in production as `control`, v3 a candidate, in an active experiment."""
    set_up_desk(engine)
    return engine


def set_up_desk(engine: Engine) -> None:
    """What the fixture `desk` stands for, in an empty database."""
    with db.transaction(engine) as session:
        policy = Policy(name="planner_policy")
        session.add(policy)
        session.flush()
        versions = [add_version(session, policy, n) for n in (1, 2, 3)]
        for version, stage in zip(versions, (Stage.ARCHIVED, Stage.PRODUCTION, Stage.CANDIDATE), strict=True):
            set_stage(session, version, stage)
        experiment = Experiment(name=EXPERIMENT, status="active")
        session.add(experiment)
        session.flush()
        control = add_variant(session, experiment, "control", "1", versions[1])
        session.add(AllocationStep(experiment_id=experiment.id, shares={str(control.id): "1"}))


def add_version(session: Session, policy: Policy, number: int) -> PolicyVersion:
    made = PolicyVersion(
        policy_id=policy.id, version=number, mlflow_model_name=MODEL, mlflow_model_version=str(number), status="active"
    )
    session.add(made)
    session.flush()
    return made


def set_stage(session: Session, version: PolicyVersion, stage: Stage) -> None:
    session.merge(
        PolicyStage(
            policy_version_id=version.id,
            mlflow_model_name=MODEL,
            mlflow_model_version=version.mlflow_model_version,
            stage=stage.value,
        )
    )
    session.flush()


def add_variant(
    session: Session, experiment: Experiment, name: str, share: str, version: PolicyVersion | None = None
) -> Variant:
    config = {"policy_version_id": str(version.id), "params": {}} if version else {}
    made = Variant(
        id=uuid.uuid4(),
        experiment_id=experiment.id,
        name=name,
        allocation=share,
        config=config,
        created_at=func.clock_timestamp(),  # variants of one transaction are in order, too
    )
    session.add(made)
    session.flush()
    return made


@pytest.fixture
def platform(engine: Engine) -> Engine:
    """Experiment ONE with control and candidate in two steps, experiment TWO with one variant in one step."""
    from tests.core import raw_events  # which needs this module itself

    raw_events.add_experiments(engine)
    return engine
