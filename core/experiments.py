"""Policy versions, candidate variants and the shares between them: the document's sections 2, 3 and 5.2."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import blocks, candidates, erasure, ledger, outbox, stages
from core import registry as registries
from core.errors import Refused
from core.registry import Registry
from core.rules import allocation
from core.rules.lifecycle import Stage
from core.tables import Experiment, Policy, PolicyVersion, RetiredName, Variant
from core.variants import (
    baseline,
    find_experiment,
    find_policy,
    find_variant,
    forget_name,
    is_new_shape,
    named_shares,
    set_shares,
    shares,
    variant_serving,
    variants,
)

NAME_LIMIT = 255
_ARCHIVED = re.compile(r"_archived_\d{4}-?\d\d-?\d\d[-+.: TZ_\d]*$")
"""Ours, and what the document's `CONCAT(name, '_archived_', NOW())` makes where a team archived by hand."""


def create_policy_version(
    session: Session,
    *,
    policy: str,
    mlflow_model_name: str,
    mlflow_model_version: str | int,
    config_defaults: Mapping[str, Any] | None = None,
    create_policy: bool = False,
    override_reason: str | None = None,
    actor: str = ledger.BOT,
    registry: Registry | None = None,
) -> PolicyVersion:
    """Links the policy's next version number to an MLflow model version (model-promotion.md, 2.2).

    Numbers are given out under a lock on the policy, so two people at once get two numbers. MLflow is read before
    anything is locked; `registry` defaults to the configured one.

    Raises:
        Refused: where the policy or the model version does not exist, or the version is not a candidate and no
            `override_reason` is given.
        RegistryUnavailable: where MLflow does not answer.
    """
    model_version = str(mlflow_model_version)
    override_reason = (override_reason or "").strip() or None
    known = candidates.known_version(registry or registries.configured(), mlflow_model_name, model_version)
    owner = find_policy(session, policy, create=create_policy)
    decided = stages.decided(session, mlflow_model_name).get(model_version)
    stage = decided or Stage(known.stage if known.stage in list(Stage) else Stage.NONE)
    if stage != Stage.CANDIDATE and not override_reason:
        raise Refused(
            f"{mlflow_model_name} {model_version} is not a candidate (its stage is “{stage}”). "
            "Qualify it first, or override with a reason."
        )
    made = _next_version(session, owner, mlflow_model_name, model_version, dict(config_defaults or {}))
    if decided != Stage.CANDIDATE:
        source = "tag" if stage == Stage.CANDIDATE else "override"
        candidates.admit(
            session, {"tag": known.stage}, mlflow_model_name, model_version, source, actor, override_reason
        )
    else:
        stages.move(session, made, Stage.CANDIDATE)
    ledger.record(
        session,
        actor=actor,
        action="create_policy_version",
        subject=stages.label(made),
        reason=override_reason,
        after={"mlflow_model_name": mlflow_model_name, "mlflow_model_version": model_version},
    )
    return made


def _next_version(
    session: Session, owner: Policy, model_name: str, model_version: str, config_defaults: dict[str, Any]
) -> PolicyVersion:
    newest = session.scalar(select(func.max(PolicyVersion.version)).where(PolicyVersion.policy_id == owner.id))
    made = PolicyVersion(
        policy_id=owner.id,
        policy=owner,
        version=(newest or 0) + 1,
        mlflow_model_name=model_name,
        mlflow_model_version=model_version,
        config_defaults=config_defaults,
        status="active",
    )
    session.add(made)
    session.flush()
    return made


@dataclass(frozen=True)
class Serving:
    """What a back end needs to serve a policy version."""

    model_uri: str
    config: Mapping[str, Any]


def serving(session: Session, *, policy_version: PolicyVersion, params: Mapping[str, Any] | None = None) -> Serving:
    """The model to load and its configuration: `config_defaults` overlaid by a variant's `params`."""
    name, version = stages.model_of(policy_version)
    return Serving(f"models:/{name}/{version}", {**(policy_version.config_defaults or {}), **(params or {})})


# --- Candidate variants ------------------------------------------------------------------------------------------


def _config_for(there: list[Variant], policy_version: PolicyVersion) -> dict[str, Any]:
    """The link in the shape that the experiment's other variants use; the old one where there are none."""
    link: dict[str, Any] = {"policy_version_id": str(policy_version.id)}
    if any(is_new_shape(v.config) for v in there):
        named = {**link, "model_name": policy_version.mlflow_model_name}
        return {"execution_strategy": "mlflow_model", "mlflow_model": named, "params": {}}
    return {**link, "params": {}}


def candidate_name(policy_version: PolicyVersion) -> str:
    """What a candidate's variant is called."""
    return f"candidate_v{policy_version.version}"


def _joining(session: Session, experiment: Experiment, policy_version: PolicyVersion) -> Variant | None:
    """The variant of an earlier try that can run again; None where a new one is needed.

    Raises:
        Refused: where this policy version already has traffic, or its name is taken by another.
    """
    there = variants(session, experiment)
    earlier = variant_serving(there, policy_version)
    if earlier is not None and earlier.allocation > 0:
        raise Refused(f"{stages.label(policy_version)} already runs in {experiment.name} as {earlier.name}.")
    name = candidate_name(policy_version)
    holder = next((v for v in there if v.name == name), None)
    if holder is not None and (earlier is None or holder.id != earlier.id):
        raise Refused(f"The name {name} is taken by another variant of {experiment.name}. Retire that one first.")
    return earlier


def check_may_join(
    session: Session, experiment: Experiment, policy_version: PolicyVersion, initial_allocation: Decimal
) -> Variant | None:
    """The variant of an earlier try that would be used again, or None where a new one would join.

    Raises:
        Refused: where this policy version may not join the experiment with that share (a fraction of 1).
    """
    if not 0 < initial_allocation <= allocation.INITIAL_LIMIT:
        raise Refused("A candidate joins with more than 0 % and at most 10 %.")
    if experiment.status not in ("draft", "active"):
        raise Refused(f"{experiment.name} is {experiment.status}, so no candidate can join it. Resume it first.")
    joining = _joining(session, experiment, policy_version)
    stages.lock(session, stages.model_of(policy_version)[0])
    _check_candidate(session, policy_version)
    allocation.check_whole(shares(session, experiment))
    return joining


def _check_candidate(session: Session, policy_version: PolicyVersion) -> None:
    stage = stages.of(session, policy_version.id)
    if stage in (Stage.EXPERIMENT, Stage.PRODUCTION):
        raise Refused(f"{stages.label(policy_version)} is in stage “{stage}” already, in another experiment.")
    if stage != Stage.CANDIDATE:
        name, version = stages.model_of(policy_version)
        raise Refused(
            f"{stages.label(policy_version)} is not a candidate (its stage is “{stage}”). "
            f"Qualify {name} {version} first."
        )


def add_candidate_variant(
    session: Session,
    *,
    experiment: str | uuid.UUID | Experiment,
    policy_version: PolicyVersion | uuid.UUID,
    initial_allocation: Decimal | float | str = allocation.INITIAL_LIMIT,
    actor: str = ledger.BOT,
    reason: str | None = None,
    request_id: int | None = None,
) -> Variant:
    """Lets a candidate join with at most 10 %; the others shrink proportionally (model-promotion.md, 3.2).

    `initial_allocation` is a fraction of 1 with at most four decimals. A variant that this policy version left
    behind at 0 % is used again.

    Raises:
        Refused: for a share above 10 %, an experiment that cannot take it, or a policy version that is no candidate.
    """
    share = allocation.as_share(initial_allocation)
    place = find_experiment(session, experiment)
    version = policy_version if isinstance(policy_version, PolicyVersion) else existing_version(session, policy_version)
    earlier = check_may_join(session, place, version, share)
    before = named_shares(session, place)
    variant = earlier or insert_variant(session, place, version)
    _name_anew(session, variant, version)
    set_shares(session, place, allocation.with_share(shares(session, place), variant.id, share), request_id=request_id)
    stages.move(session, version, Stage.EXPERIMENT)
    entry = ledger.record(
        session,
        actor=actor,
        action="start",
        subject=variant.name,
        experiment_id=place.id,
        request_id=request_id,
        reason=reason,
        before={"shares": before},
        after={"shares": named_shares(session, place)},
        evidence={"policy_version_id": str(version.id), "variant_id": str(variant.id)},
    )
    stages.mirror(session, stages.model_of(version)[0], occasion=f"ledger-{entry.id}", request_id=request_id)
    return variant


def _name_anew(session: Session, variant: Variant, policy_version: PolicyVersion) -> None:
    """A variant that was archived comes back as what it is now: a former baseline is no `control` any more."""
    if _ARCHIVED.search(variant.name):
        variant.name = candidate_name(policy_version)
        forget_name(session, variant)


def existing_version(session: Session, policy_version_id: uuid.UUID) -> PolicyVersion:
    """The policy version of that id.

    Raises:
        Refused: where there is none.
    """
    found = session.get(PolicyVersion, policy_version_id)
    if found is None:
        raise Refused(f"There is no policy version {policy_version_id}.")
    return found


def _free_name(wanted: str, taken: set[str]) -> str:
    return next(name for n in itertools.count(1) if (name := wanted if n == 1 else f"{wanted}_{n}") not in taken)


def insert_variant(session: Session, experiment: Experiment, policy_version: PolicyVersion) -> Variant:
    """Adds a variant at 0 % that serves a policy version, in the config shape the experiment uses.

    Where its name is taken it gets a number: a rollback is not refused because of a name.
    """
    there = variants(session, experiment)
    made = Variant(
        experiment_id=experiment.id,
        name=_free_name(candidate_name(policy_version), {v.name for v in there}),
        allocation=Decimal(0),
        config=_config_for(there, policy_version),
    )
    session.add(made)
    session.flush()
    return made


# --- Retiring -------------------------------------------------------------------------------------------------------


def retirable(session: Session, experiment: Experiment, mode: Literal["archive", "delete"]) -> list[Variant]:
    """The variants at 0 % that retiring would touch; the baseline and variants with traffic never are."""
    base = baseline(session, experiment)
    idle = [v for v in variants(session, experiment) if v.allocation == 0 and v.id != base.id]
    return idle if mode == "delete" else [v for v in idle if not _ARCHIVED.search(v.name)]


HISTORY: Final[Mapping[str, tuple[str, str]]] = {
    "assignments": ("exp.assignments", "variant_id = :id"),
    "aggregates": ("exp.metric_aggregates", "variant_id = :id"),
    "events": (
        "exp.events",
        "experiments @> jsonb_build_array(jsonb_build_object('variant_id', CAST(:id AS text)))",
    ),
}
"""What points to a variant: by its name for people, the table and the condition."""
COUNTED_BLOCKS: Final = 10_000
"""Up to how many blocks, of mostly 8 kB, a table is counted: a fraction of a second."""


def history_that_would_go(session: Session, variant: Variant) -> dict[str, int]:
    """What deleting a variant takes with it or orphans: counts of assignments, aggregates and events.

    Of large tables what the database expects, since counting them would hold up whoever waits for the experiment.
    """
    return {name: _many(session, variant, table, where) for name, (table, where) in HISTORY.items()}


def _many(session: Session, variant: Variant, table: str, where: str) -> int:
    there, rows, about = blocks.extent(session, table), f"FROM {table} WHERE {where}", {"id": variant.id}
    if there.blocks * there.partitions > COUNTED_BLOCKS:
        plan = session.execute(text(f"EXPLAIN (FORMAT JSON) SELECT {rows}"), about).scalar_one()
        return int(plan[0]["Plan"]["Plan Rows"])
    counted: int = session.execute(text(f"SELECT count(*) {rows}"), about).scalar_one()
    return counted


def _archived_name(variant: Variant, taken: set[str], stamp: str) -> str:
    for suffix in (f"_archived_{stamp}Z", *(f"_archived_{stamp}_{n}Z" for n in range(2, 1000))):
        name = variant.name[: NAME_LIMIT - len(suffix)] + suffix
        if name not in taken:
            return name
    raise Refused(f"No free archived name is left for {variant.name}.")


def _archive(session: Session, there: list[Variant], variant: Variant) -> None:
    stamp = str(session.scalar(text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD\"T\"HH24MISS')")))
    session.merge(RetiredName(variant_id=variant.id, name=variant.name))
    variant.name = _archived_name(variant, {v.name for v in there}, stamp)


def _delete(session: Session, variant: Variant, request_id: int | None) -> None:
    forget_name(session, variant)
    erasure.begin(session, variant, request_id=request_id)


def retire_old_variants(
    session: Session,
    *,
    experiment: str | uuid.UUID | Experiment,
    keep_variant: str | uuid.UUID | Variant | None = None,
    mode: Literal["archive", "delete"] = "archive",
    lost: Mapping[str, Mapping[str, int]] | None = None,
    actor: str = ledger.BOT,
    reason: str | None = None,
    request_id: int | None = None,
) -> list[str]:
    """Archives (by default) or deletes the variants at 0 %; returns their former names (model-promotion.md, 5.2).

    Archiving appends `_archived_<UTC time>` once; a name stays unique and within 255 characters. What is deleted is
    gone for everybody at once; effects remove its assignments and aggregates, then the variant. The ledger keeps what
    goes as counts: those of `lost`, by name, or counted here, which with millions of rows takes seconds.

    Raises:
        Refused: where the database lets the bot delete nothing.
    """
    place = find_experiment(session, experiment)
    kept = find_variant(session, place, keep_variant).id if keep_variant is not None else None
    there = variants(session, place)
    chosen = [v for v in retirable(session, place, mode) if v.id != kept]
    names = [v.name for v in chosen]
    if mode == "delete":
        erasure.check_may(session)
        lost = lost or {v.name: history_that_would_go(session, v) for v in chosen}
    for variant in chosen:
        if mode == "archive":
            _archive(session, there, variant)
        else:
            _delete(session, variant, request_id)
    session.flush()
    if chosen:
        after = {"lost": lost} if mode == "delete" else {"names": [v.name for v in chosen]}
        ledger.record(
            session,
            actor=actor,
            action="retire",
            subject=", ".join(names),
            experiment_id=place.id,
            request_id=request_id,
            reason=reason,
            before={"names": names},
            after={"mode": mode, **after},
        )
    return names


# --- Pausing --------------------------------------------------------------------------------------------------------


def set_status(
    session: Session, *, experiment: str, status: Literal["active", "paused"], actor: str, reason: str | None
) -> Experiment:
    """Pauses or resumes an experiment.

    Raises:
        Refused: where it is not in the state that this leaves.
    """
    before = {"active": "paused", "paused": "active"}[status]
    place = find_experiment(session, experiment)
    if place.status != before:
        raise Refused(f"{place.name} is {place.status}; only an experiment that is {before} can become {status}.")
    place.status = status
    entry = ledger.record(
        session,
        actor=actor,
        action={"paused": "pause", "active": "resume"}[status],
        subject=place.name,
        experiment_id=place.id,
        reason=reason,
        before={"status": before},
        after={"status": status},
    )
    outbox.put_notice(session, ledger_id=entry.id)
    return place
