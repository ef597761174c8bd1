"""A rollout in progress: a candidate that is faster, and people like its suggestions a little better."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from bot.demo import models
from bot.demo.history import Stretch
from bot.demo.rows import (
    Line,
    Replay,
    Stood,
    add_replays,
    add_stages,
    add_versions,
    demo_id,
    new_variant,
    served,
)
from core.candidates import Evaluated
from core.rules.evaluation import accept
from core.tables import AllocationStep, Experiment, PolicyVersion, Qualification

POLICY = "breakfast_policy"
EXPERIMENT = "breakfast_policy_exp"
CANDIDATE = "candidate_v2"
EXPERIMENT_ID = demo_id("experiment", EXPERIMENT)
UNIT_TYPE = "household"
PERIOD = timedelta(days=12)
JOINED = timedelta(days=8)
INCREASED = timedelta(days=4)
PART_OF_PLANS = 0.75
"""Its plans a day, as a part of those of the running experiment."""
HOUSEHOLDS = 60_000
"""Many who come seldom: only a household that is new gets the candidate."""

_LINE = Line(POLICY, "Suggests breakfasts to a household.", models.BREAKFAST, key=(POLICY,))
_REPLAYS = (
    Replay("2", "1", JOINED + timedelta(hours=30)),
    Replay("1", "2", JOINED + timedelta(hours=28)),
)
"""On the replay version 2 was better than 1: it cannot see what people will do with a suggestion."""


def add(session: Session, now: datetime, *, plans_a_day: int) -> Stretch:
    """Adds the policy, the experiment and its steps; returns the traffic that it has had."""
    ages = {"1": timedelta(days=40), "2": JOINED + timedelta(days=2)}
    versions = add_versions(session, _LINE, ages, policy_age=timedelta(days=70), now=now)
    stood = {"1": Stood("production", now - PERIOD), "2": Stood("experiment", now - JOINED)}
    add_stages(session, versions, stood)
    add_replays(session, _LINE, versions, _REPLAYS, now)
    session.add(_qualification(now))
    return _experiment(session, versions, now, plans_a_day)


def _qualification(now: datetime) -> Qualification:
    scores = {version.number: version.scores for version in models.BREAKFAST.versions}
    acceptance = accept(scores["2"], scores["1"])
    found = Evaluated(
        models.BREAKFAST.name,
        "2",
        "replay",
        passed=acceptance.passed,
        acceptance=acceptance,
        dataset_version=models.BREAKFAST.dataset,
        baseline=f"{POLICY} v1",
        evaluated_at=now - _REPLAYS[0].age,
    )
    return Qualification(
        mlflow_model_name=found.mlflow_model_name,
        mlflow_model_version=found.mlflow_model_version,
        source=found.source,
        evidence=found.as_evidence(),
        actor="pipeline",
        at=now - JOINED - timedelta(days=1),
    )


def _experiment(session: Session, versions: dict[str, PolicyVersion], now: datetime, plans_a_day: int) -> Stretch:
    start = now - PERIOD
    place = Experiment(
        id=EXPERIMENT_ID,
        name=EXPERIMENT,
        description="Are quicker breakfast suggestions as good?",
        status="active",
        unit_type=UNIT_TYPE,
        start_at=start,
        created_at=start,
    )
    session.add(place)
    session.flush()
    control = new_variant(place, "control", "The suggestions in production.", "0.7500", versions["1"], start)
    candidate = new_variant(
        place, CANDIDATE, "Quicker suggestions from a smaller model.", "0.2500", versions["2"], now - JOINED
    )
    steps = [
        (start, {control.id: "1.0000"}),
        (now - JOINED, {control.id: "0.9000", candidate.id: "0.1000"}),
        (now - INCREASED, {control.id: "0.7500", candidate.id: "0.2500"}),
    ]
    session.add_all([control, candidate])
    session.add_all(
        AllocationStep(
            experiment_id=place.id, shares={str(key): share for key, share in shares.items()}, started_at=since
        )
        for since, shares in steps
    )
    return Stretch(
        start=start,
        end=now,
        experiment_id=place.id,
        unit_type=UNIT_TYPE,
        arms={
            control.id: served(_LINE, UNIT_TYPE, control, versions["1"]),
            candidate.id: served(_LINE, UNIT_TYPE, candidate, versions["2"]),
        },
        steps=[(since, [(key, Decimal(share)) for key, share in shares.items()]) for since, shares in steps],
        plans_a_day=plans_a_day,
        people=HOUSEHOLDS,
    )
