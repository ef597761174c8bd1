"""The platform's database as a newcomer finds it: policies, experiments, replay results and two weeks of traffic."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from bot.demo import outcomes
from bot.demo.history import PLANS_A_DAY, History, Stretch
from bot.demo.models import DATASET, MODEL, VERSIONS
from core.rules.evaluation import accept
from core.tables import AllocationStep, Experiment, Policy, PolicyStage, PolicyVersion, ReplayResult, Variant

POLICY = "planner_policy"
EXPERIMENT = "planner_policy_exp"
SNACK_POLICY = "snack_policy"
SNACK_EXPERIMENT = "snack_policy_exp"
PERIOD = timedelta(days=14)
CONFIG_DEFAULTS = {"temperature": 0.7, "max_tokens": 2048}

_NAMESPACE = uuid.UUID("6f7c2f5e-0f43-4a35-9a0e-5b9d6d2f6c11")


def demo_id(*names: object) -> uuid.UUID:
    """The id of a thing in the demo, the same in every demo: `demo_id("policy version", 3)`."""
    return uuid.uuid5(_NAMESPACE, "/".join(map(str, names)))


def seed(engine: Engine, *, seed: int, now: datetime, plans_a_day: int = PLANS_A_DAY) -> bool:
    """Fills an empty database in one transaction; False, and nothing changed, where it was filled before.

    The same `seed` and `now` give the same rows. Expects the migrated schema.
    """
    with Session(engine) as session, session.begin():
        if session.scalar(select(Policy.id).where(Policy.name == POLICY)) is not None:
            return False
        versions = _policy(session, now)
        _stages(session, versions, now)
        _replays(session, versions, now)
        control = _experiment(session, versions["2"], now)
        _draft(session, now)
        session.flush()
        stretch = replace(_two_weeks(control, versions["2"], now), plans_a_day=plans_a_day)
        _traffic(session, stretch, np.random.default_rng(seed))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE exp.events (event_type, unit_id, timestamp), exp.assignments"))
    return True


def link_runs(engine: Engine, runs: Mapping[str, str]) -> None:
    """Names in each replay result the MLflow run that it came from; `runs` by model version, as `set_up` returns."""
    statement = text(
        "UPDATE exp.offline_replay_results r SET mlflow_run_id = :run FROM exp.policy_versions pv "
        "WHERE pv.id = r.policy_version_id AND pv.mlflow_model_name = :model AND pv.mlflow_model_version = :version "
        "AND r.dataset_version = :dataset AND r.mlflow_run_id IS NULL"
    )
    with engine.begin() as connection:
        for version, run in runs.items():
            connection.execute(statement, {"run": run, "version": version, "model": MODEL, "dataset": DATASET})


def _policy(session: Session, now: datetime) -> dict[str, PolicyVersion]:
    policy = Policy(
        id=demo_id("policy", POLICY),
        name=POLICY,
        description="Plans a household's meals for the week.",
        created_at=now - timedelta(days=90),
    )
    ages = {"1": timedelta(days=60), "2": PERIOD + timedelta(days=4), "3": timedelta(days=1)}
    versions = {
        number: PolicyVersion(
            id=demo_id("policy version", number),
            policy=policy,
            version=int(number),
            mlflow_model_name=MODEL,
            mlflow_model_version=number,
            config_defaults=CONFIG_DEFAULTS,
            status="active",
            created_at=now - age,
        )
        for number, age in ages.items()
    }
    session.add_all(versions.values())
    session.flush()
    return versions


def _stages(session: Session, versions: Mapping[str, PolicyVersion], now: datetime) -> None:
    stages = {"1": "archived", "2": "production", "3": "none"}
    changed = {"1": now - PERIOD, "2": now - PERIOD, "3": versions["3"].created_at}
    predecessors = {"2": versions["1"].id}
    session.add_all(
        PolicyStage(
            policy_version_id=versions[number].id,
            mlflow_model_name=MODEL,
            mlflow_model_version=number,
            stage=stage,
            predecessor_id=predecessors.get(number),
            changed_at=changed[number],
        )
        for number, stage in stages.items()
    )


@dataclass(frozen=True)
class _Replay:
    version: str
    baseline: str
    age: timedelta


_REPLAYS = (
    _Replay("2", "1", PERIOD + timedelta(days=3)),
    _Replay("1", "2", PERIOD + timedelta(days=2)),
    _Replay("3", "2", timedelta(hours=20)),
)
"""Version 2 was better than 1, version 1 is not better than 2, version 3 is better than 2; all on one dataset."""


def _replays(session: Session, versions: Mapping[str, PolicyVersion], now: datetime) -> None:
    scores = {version.number: version.scores for version in VERSIONS}
    session.add_all(
        ReplayResult(
            id=demo_id("replay", replay.version),
            policy_version_id=versions[replay.version].id,
            baseline_version_id=versions[replay.baseline].id,
            dataset_version=DATASET,
            is_better_than_baseline=accept(scores[replay.version], scores[replay.baseline]).passed,
            status="completed",
            created_at=now - replay.age,
            **{name: Decimal(str(value)) for name, value in scores[replay.version].items()},
        )
        for replay in _REPLAYS
    )


def _experiment(session: Session, served: PolicyVersion, now: datetime) -> Variant:
    """The running experiment: one variant has all the traffic since two weeks."""
    start = now - PERIOD
    experiment = Experiment(
        id=demo_id("experiment", EXPERIMENT),
        name=EXPERIMENT,
        description="Which planner do people like best?",
        status="active",
        unit_type="user",
        start_at=start,
        created_at=start,
    )
    control = Variant(
        id=demo_id("variant", EXPERIMENT, "control"),
        experiment_id=experiment.id,
        name="control",
        description="The planner in production.",
        allocation=Decimal("1.0000"),
        config={"policy_version_id": str(served.id), "params": {}},
        created_at=start,
    )
    session.add(experiment)
    session.flush()
    session.add_all(
        [control, AllocationStep(experiment_id=experiment.id, shares={str(control.id): "1.0000"}, started_at=start)]
    )
    return control


def _draft(session: Session, now: datetime) -> None:
    """An experiment that is still being put together; what it serves is not a model yet."""
    created = now - timedelta(days=3)
    experiment = Experiment(
        id=demo_id("experiment", SNACK_EXPERIMENT),
        name=SNACK_EXPERIMENT,
        description="Snacks between meals; rules for now, a model to come.",
        status="draft",
        unit_type="household",
        created_at=created,
    )
    policy = Policy(
        id=demo_id("policy", SNACK_POLICY), name=SNACK_POLICY, description="Suggests snacks.", created_at=created
    )
    session.add_all([policy, experiment])
    session.flush()
    session.add(
        Variant(
            id=demo_id("variant", SNACK_EXPERIMENT, "control"),
            experiment_id=experiment.id,
            name="control",
            description="The rules of thumb.",
            allocation=Decimal("1.0000"),
            config={"params": {}},
            created_at=created,
        )
    )


def _traffic(session: Session, stretch: Stretch, random: np.random.Generator) -> None:
    """Stores the traffic while it is being made up, so that both take their time at once."""
    past = History(random, stretch)
    outcomes.write_events(session, past.events())
    outcomes.write_assignments(session, past.assignments())


def _two_weeks(control: Variant, served: PolicyVersion, now: datetime) -> Stretch:
    return Stretch(
        start=now - PERIOD,
        end=now,
        experiment_id=control.experiment_id,
        variant_id=control.id,
        where=outcomes.place("user", control.experiment_id, control.id, served.id),
        behaviour=next(v.behaviour for v in VERSIONS if v.number == served.mlflow_model_version),
        config={name: float(value) for name, value in CONFIG_DEFAULTS.items()},
    )
