"""The stage of every policy version, and the effect that makes the registry mirror it."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import ledger, outbox
from core.errors import Refused
from core.registry import Alignment, Registry
from core.rules import lifecycle
from core.rules.lifecycle import Stage
from core.rules.mirroring import Part, Tags, Written
from core.tables import Effect, LedgerEntry, Policy, PolicyStage, PolicyVersion, Qualification

MIRROR = "mirror"
"""What the record calls it that the registry was brought in line."""
TAKE_OVER = "take over"
"""What the record calls it that a stage which was there before the bot is known."""


def label(policy_version: PolicyVersion) -> str:
    """How people call a policy version: `planner_policy v3`."""
    return f"{policy_version.policy.name} v{policy_version.version}"


def as_id(text: str) -> uuid.UUID:
    """A policy version's id as it came from outside.

    Raises:
        Refused: where it is none.
    """
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Refused(f"{text[:40]} is not the id of a policy version.") from None


def of(session: Session, policy_version_id: uuid.UUID) -> Stage:
    """The stage of a policy version; NONE where nothing was decided yet."""
    found = session.scalar(select(PolicyStage.stage).where(PolicyStage.policy_version_id == policy_version_id))
    return Stage(found) if found else Stage.NONE


def those_in_production(session: Session, policy_versions: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of some policy versions are in production."""
    if not policy_versions:
        return set()
    query = select(PolicyStage.policy_version_id).where(PolicyStage.policy_version_id.in_(policy_versions))
    return set(session.scalars(query.where(PolicyStage.stage == Stage.PRODUCTION)))


def in_production(session: Session, mlflow_model_name: str) -> PolicyVersion | None:
    """The one policy version of a model that is in production."""
    return session.scalar(
        select(PolicyVersion)
        .join(PolicyStage, PolicyStage.policy_version_id == PolicyVersion.id)
        .where(PolicyStage.mlflow_model_name == mlflow_model_name, PolicyStage.stage == Stage.PRODUCTION)
    )


def predecessor(session: Session, policy_version_id: uuid.UUID) -> PolicyVersion | None:
    """What a policy version replaced when it went to production."""
    found = session.scalar(select(PolicyStage.predecessor_id).where(PolicyStage.policy_version_id == policy_version_id))
    return session.get(PolicyVersion, found) if found else None


def has_model(policy_version: PolicyVersion) -> bool:
    """True where a policy version links to a model version; prompts and plain rules have none."""
    return bool(policy_version.mlflow_model_name and policy_version.mlflow_model_version)


def model_of(policy_version: PolicyVersion) -> tuple[str, str]:
    """Model name and version that a policy version links to.

    Raises:
        Refused: where it links to none.
    """
    name, version = policy_version.mlflow_model_name, policy_version.mlflow_model_version
    if not name or not version:
        raise Refused(f"{label(policy_version)} links to no MLflow model version, so it cannot be promoted.")
    return name, version


def lock(session: Session, mlflow_model_name: str) -> None:
    """Until the end of the transaction nobody else decides about stages of this model; read them after it."""
    outbox.take_lane(session, f"stages:{mlflow_model_name}")


def has_failed(session: Session, policy_version_id: uuid.UUID | None) -> bool:
    """True where a policy version was rolled back and has not qualified anew since."""
    return (
        session.scalar(select(PolicyStage.failed_at).where(PolicyStage.policy_version_id == policy_version_id))
        is not None
    )


def move(
    session: Session,
    policy_version: PolicyVersion,
    stage: Stage,
    *,
    predecessor_id: uuid.UUID | None = None,
    is_adoption: bool = False,
    has_failed: bool = False,
) -> None:
    """Moves a policy version to a stage. `is_adoption` records a stage that was reached before the bot knew of it,
    `has_failed` that it leaves because it did harm; such a version comes back only by qualifying anew.

    Raises:
        Refused: where the lifecycle has no such move.
    """
    name, version = model_of(policy_version)
    lock(session, name)
    present = of(session, policy_version.id)
    if not is_adoption and not lifecycle.is_legal(present, stage):
        raise Refused(f"{label(policy_version)} is in stage “{present}” and cannot become “{stage}” from there.")
    values: dict[str, Any] = {
        "stage": stage.value,
        "changed_at": func.now(),
        "failed_at": func.now() if has_failed else None,
    }
    if predecessor_id is not None:
        values["predecessor_id"] = predecessor_id
    row = {"policy_version_id": policy_version.id, "mlflow_model_name": name, "mlflow_model_version": version}
    session.execute(
        insert(PolicyStage)
        .values(row | values)
        .on_conflict_do_update(index_elements=["policy_version_id"], set_=values)
    )
    if stage == Stage.ARCHIVED:  # what failed has to qualify anew before it comes back
        forget_qualification(session, name, version)


def forget_qualification(session: Session, name: str, version: str) -> None:
    """A model version is no candidate any more until it qualifies anew."""
    found = session.get(Qualification, (name, version))
    if found is not None:
        session.delete(found)


def model_subject(mlflow_model_name: str) -> str:
    """The subject of the effects about a model, of which one is carried out at a time."""
    return f"model:{mlflow_model_name}"


def mirror(
    session: Session,
    mlflow_model_name: str,
    *,
    occasion: str,
    request_id: int | None = None,
    reverts: Part | None = None,
    shown: Tags | None = None,
) -> None:
    """Asks for the registry to be brought in line with the stages of a model; `occasion` names it once.

    What others have set there is left alone, but for the part that it `reverts`, as far as that still says what was
    `shown` to whoever put it back. What is decided now is kept with it,
    so that nobody takes for another's what an attempt wrote that was broken off.
    """
    outbox.put(
        session,
        kind="registry",
        subject=model_subject(mlflow_model_name),
        key=f"registry:{mlflow_model_name}:{occasion}",
        request_id=request_id,
        mlflow_model_name=mlflow_model_name,
        decided=decided(session, mlflow_model_name),
        **({"reverts": reverts, "shown": shown} if reverts else {}),
    )


def decided(session: Session, mlflow_model_name: str) -> dict[str, Stage]:
    """The decided stage of each version of a model, whichever policy versions use it, and qualified candidates."""
    rows = session.execute(
        select(PolicyStage.mlflow_model_version, PolicyStage.stage).where(
            PolicyStage.mlflow_model_name == mlflow_model_name
        )
    )
    found: dict[str, set[Stage]] = {}
    for version, stage in rows:
        found.setdefault(version, set()).add(Stage(stage))
    qualified = select(Qualification.mlflow_model_version).where(Qualification.mlflow_model_name == mlflow_model_name)
    for version in session.scalars(qualified):
        found.setdefault(version, set()).add(Stage.CANDIDATE)
    return {version: lifecycle.model_stage(stages) for version, stages in found.items()}


def told(session: Session, mlflow_model_name: str) -> Written:
    """What the registry was last told about a model, and what attempts may have told it whose end nobody knows."""
    unfinished = select(Effect).where(Effect.subject == model_subject(mlflow_model_name), Effect.done_at.is_(None))
    maybe = tuple(effect.payload.get("decided", {}) for effect in session.scalars(unfinished))
    query = select(LedgerEntry).where(LedgerEntry.action == MIRROR, LedgerEntry.subject == mlflow_model_name)
    last = session.scalar(query.order_by(LedgerEntry.id.desc()).limit(1))
    if last is None:
        return Written(_taken_over(session, mlflow_model_name), None, is_known=False, maybe=maybe)
    evidence, after = last.evidence or {}, last.after or {}
    stages = {v: stage for v, stage in evidence["decided"].items() if stage != Stage.NONE}
    return Written(stages, evidence.get("alias", after.get("alias")), maybe=maybe)


def _taken_over(session: Session, mlflow_model_name: str) -> dict[str, str]:
    """The versions that were known to be in production by their tags; those in an experiment are by their traffic."""
    versions = select(PolicyVersion).where(PolicyVersion.mlflow_model_name == mlflow_model_name)
    labels = {label(version): version.mlflow_model_version for version in session.scalars(versions)}
    in_production = LedgerEntry.after["stage"].as_string() == Stage.PRODUCTION
    known = session.scalars(select(LedgerEntry.subject).where(LedgerEntry.action == TAKE_OVER, in_production))
    found = (labels.get(subject) for subject in known)
    return {version: Stage.PRODUCTION.value for version in found if version}


def align_registry(session: Session, due: outbox.Due, registry: Registry) -> Alignment:
    """Effect handler: the registry gets the stages as they are decided now; record and card say so."""
    name = due.payload["mlflow_model_name"]
    wanted = decided(session, name)
    reverts, shown = due.payload.get("reverts"), due.payload.get("shown")
    found = registry.align(name, wanted, replace(told(session, name), reverts=reverts, shown=shown))
    production = next((v for v, stage in wanted.items() if stage == Stage.PRODUCTION), None)
    ledger.record(
        session,
        actor=ledger.BOT,
        action=MIRROR,
        subject=name,
        request_id=due.request_id,
        before={"tags": dict(found.tags_before), "alias": found.alias_before},
        after={"tags": dict(found.tags), "alias": found.alias},
        evidence={
            "effect": due.key,
            "decided": wanted,
            **({"alias": production} if found.is_alias_spared else {}),
            **({"set by others": dict(found.spared)} if found.spared else {}),
        },
    )
    if due.request_id is not None:
        outbox.put_card(session, request_id=due.request_id, why=f"done-{due.id}")
    return found


def versions_of_model(session: Session, mlflow_model_name: str, mlflow_model_version: str) -> list[PolicyVersion]:
    """Every policy version that serves this model version, oldest first."""
    return list(
        session.scalars(
            select(PolicyVersion)
            .where(
                PolicyVersion.mlflow_model_name == mlflow_model_name,
                PolicyVersion.mlflow_model_version == mlflow_model_version,
            )
            .order_by(PolicyVersion.created_at, PolicyVersion.version)
        )
    )


def policy_versions(session: Session) -> list[PolicyVersion]:
    """All policy versions, by policy and newest first."""
    return list(session.scalars(select(PolicyVersion).join(Policy).order_by(Policy.name, PolicyVersion.version.desc())))
