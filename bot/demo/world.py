"""The platform's database as a newcomer finds it: policies, experiments, replay results and two weeks of traffic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from bot.demo import breakfast, models, outcomes
from bot.demo.history import PLANS_A_DAY, History, Stretch
from bot.demo.rows import Line, Replay, Stood, add_replays, add_stages, add_versions, demo_id, new_variant, served
from core.tables import AllocationStep, Experiment, Policy, PolicyVersion, Variant

POLICY = "planner_policy"
EXPERIMENT = "planner_policy_exp"
UNIT_TYPE = "user"
SNACK_POLICY = "snack_policy"
SNACK_EXPERIMENT = "snack_policy_exp"
PERIOD = timedelta(days=14)

_LINE = Line(POLICY, "Plans a household's meals for the week.", models.PLANNER)
_REPLAYS = (
    Replay("2", "1", PERIOD + timedelta(days=3)),
    Replay("1", "2", PERIOD + timedelta(days=2)),
    Replay("3", "2", timedelta(hours=20)),
)
"""Version 2 was better than 1, version 1 is not better than 2, version 3 is better than 2; all on one dataset."""


def seed(engine: Engine, *, seed: int, now: datetime, plans_a_day: int = PLANS_A_DAY) -> bool:
    """Fills an empty database in one transaction; False, and nothing changed, where it was filled before.

    The same `seed` and `now` give the same rows; `plans_a_day` are those of the experiment without a candidate.
    Expects the migrated schema.
    """
    with Session(engine) as session, session.begin():
        if session.scalar(select(Policy.id).where(Policy.name == POLICY)) is not None:
            return False
        versions = _versions(session, now)
        alone = _experiment(session, versions["2"], now, plans_a_day)
        rollout = breakfast.add(session, now, plans_a_day=round(plans_a_day * breakfast.PART_OF_PLANS))
        _draft(session, now)
        session.flush()
        _traffic(session, alone, np.random.default_rng(seed))
        _traffic(session, rollout, np.random.default_rng((seed, 1)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE exp.events (event_type, unit_id, timestamp), exp.assignments"))
    return True


def link_runs(engine: Engine, runs: Mapping[str, Mapping[str, str]]) -> None:
    """Names in each replay result its MLflow run; `runs` by model and version, as `models.set_up` returns."""
    statement = text(
        "UPDATE exp.offline_replay_results r SET mlflow_run_id = :run FROM exp.policy_versions pv "
        "WHERE pv.id = r.policy_version_id AND pv.mlflow_model_name = :model AND pv.mlflow_model_version = :version "
        "AND r.dataset_version = :dataset AND r.mlflow_run_id IS NULL"
    )
    with engine.begin() as connection:
        for model in models.REGISTERED:
            for version, run in runs.get(model.name, {}).items():
                values = {"run": run, "version": version, "model": model.name, "dataset": model.dataset}
                connection.execute(statement, values)


def _versions(session: Session, now: datetime) -> dict[str, PolicyVersion]:
    ages = {"1": timedelta(days=60), "2": PERIOD + timedelta(days=4), "3": timedelta(days=1)}
    versions = add_versions(session, _LINE, ages, policy_age=timedelta(days=90), now=now)
    stood = {
        "1": Stood("archived", now - PERIOD),
        "2": Stood("production", now - PERIOD, predecessor="1"),
        "3": Stood("none", versions["3"].created_at),
    }
    add_stages(session, versions, stood)
    add_replays(session, _LINE, versions, _REPLAYS, now)
    return versions


def _experiment(session: Session, version: PolicyVersion, now: datetime, plans_a_day: int) -> Stretch:
    """The experiment in which one variant has all the traffic since two weeks."""
    start = now - PERIOD
    experiment = Experiment(
        id=demo_id("experiment", EXPERIMENT),
        name=EXPERIMENT,
        description="Which planner do people like best?",
        status="active",
        unit_type=UNIT_TYPE,
        start_at=start,
        created_at=start,
    )
    session.add(experiment)
    session.flush()
    control = new_variant(experiment, "control", "The planner in production.", "1.0000", version, start)
    session.add_all(
        [control, AllocationStep(experiment_id=experiment.id, shares={str(control.id): "1.0000"}, started_at=start)]
    )
    return Stretch(
        start=start,
        end=now,
        experiment_id=experiment.id,
        unit_type=UNIT_TYPE,
        arms={control.id: served(_LINE, UNIT_TYPE, control, version)},
        steps=[(start, [(control.id, control.allocation)])],
        plans_a_day=plans_a_day,
    )


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
