"""Rows that every policy of the demo has: versions, their stages, the replays that judged them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from bot.demo import outcomes
from bot.demo.history import Served
from bot.demo.models import Model
from core.rules.evaluation import accept
from core.tables import Experiment, Policy, PolicyStage, PolicyVersion, ReplayResult, Variant

CONFIG_DEFAULTS = {"temperature": 0.7, "max_tokens": 2048}

_NAMESPACE = uuid.UUID("6f7c2f5e-0f43-4a35-9a0e-5b9d6d2f6c11")


def demo_id(*names: object) -> uuid.UUID:
    """The id of a thing in the demo, the same in every demo: `demo_id("policy version", 3)`."""
    return uuid.uuid5(_NAMESPACE, "/".join(map(str, names)))


@dataclass(frozen=True)
class Line:
    """A policy and the model behind it; `key` tells its versions' ids from those of other policies."""

    policy: str
    description: str
    model: Model
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stood:
    """Where a policy version stands since `since`, and the number of the one it replaced."""

    stage: str
    since: datetime
    predecessor: str | None = None


@dataclass(frozen=True)
class Replay:
    """An offline replay of one version against another, `age` ago."""

    version: str
    baseline: str
    age: timedelta


def add_versions(
    session: Session, line: Line, ages: Mapping[str, timedelta], *, policy_age: timedelta, now: datetime
) -> dict[str, PolicyVersion]:
    """The policy and its versions by number, each on the model version of the same number."""
    policy = Policy(
        id=demo_id("policy", line.policy),
        name=line.policy,
        description=line.description,
        created_at=now - policy_age,
    )
    versions = {
        number: PolicyVersion(
            id=demo_id("policy version", *line.key, number),
            policy=policy,
            version=int(number),
            mlflow_model_name=line.model.name,
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


def add_stages(session: Session, versions: Mapping[str, PolicyVersion], stood: Mapping[str, Stood]) -> None:
    """The stage of each version, by number."""
    session.add_all(
        PolicyStage(
            policy_version_id=versions[number].id,
            mlflow_model_name=versions[number].mlflow_model_name,
            mlflow_model_version=versions[number].mlflow_model_version,
            stage=here.stage,
            predecessor_id=versions[here.predecessor].id if here.predecessor else None,
            changed_at=here.since,
        )
        for number, here in stood.items()
    )


def add_replays(
    session: Session, line: Line, versions: Mapping[str, PolicyVersion], replays: Sequence[Replay], now: datetime
) -> None:
    """Completed replays on the model's dataset, with the verdict that the platform's rule gives."""
    scores = {version.number: version.scores for version in line.model.versions}
    session.add_all(
        ReplayResult(
            id=demo_id("replay", *line.key, replay.version),
            policy_version_id=versions[replay.version].id,
            baseline_version_id=versions[replay.baseline].id,
            dataset_version=line.model.dataset,
            is_better_than_baseline=accept(scores[replay.version], scores[replay.baseline]).passed,
            status="completed",
            created_at=now - replay.age,
            **{name: Decimal(str(value)) for name, value in scores[replay.version].items()},
        )
        for replay in replays
    )


def new_variant(
    place: Experiment, name: str, description: str, share: str, version: PolicyVersion, created_at: datetime
) -> Variant:
    """A variant that serves a policy version to `share` of new units."""
    return Variant(
        id=demo_id("variant", place.name, name),
        experiment_id=place.id,
        name=name,
        description=description,
        allocation=Decimal(share),
        config={"policy_version_id": str(version.id), "params": {}},
        created_at=created_at,
    )


def served(line: Line, unit_type: str, variant: Variant, version: PolicyVersion) -> Served:
    """What a variant serves, as `history` plays it."""
    return Served(
        where=outcomes.place(unit_type, variant.experiment_id, variant.id, version.id),
        behaviour=next(v.behaviour for v in line.model.versions if v.number == version.mlflow_model_version),
        config={name: float(value) for name, value in CONFIG_DEFAULTS.items()},
    )
