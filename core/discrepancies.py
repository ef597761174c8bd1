"""Discrepancies: what others changed after it was decided, noticed and kept until somebody settles it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from core import erasure, ledger, outbox, stages
from core.errors import Refused
from core.registry import Registry, production_alias
from core.rules import chain
from core.rules import discrepancies as rules
from core.rules.discrepancies import Decided, Found
from core.rules.lifecycle import Stage
from core.tables import (
    AllocationStep,
    Discrepancy,
    Effect,
    Experiment,
    LedgerEntry,
    PolicyStage,
    PolicyVersion,
    Recommendation,
    Rollout,
    Variant,
)
from core.variants import find_experiment, linked_version_id, variants

DECIDED_BY: Final = ("bot", "adopted")
"""The sources of steps that somebody decided. Where there is none, nothing was decided that could be other."""
SETTLED: Final = "It is not so any more."
DELETED: Final = "The experiment was deleted."


# --- What was decided, and what is there ----------------------------------------------------------------------------


def decided_steps(
    session: Session, experiments: Collection[uuid.UUID] | None = None
) -> dict[uuid.UUID, AllocationStep]:
    """The newest step of each experiment (of these, or of all) that was decided."""
    query = select(AllocationStep).where(AllocationStep.source.in_(DECIDED_BY))
    if experiments is not None:
        query = query.where(AllocationStep.experiment_id.in_(experiments))
    newest = query.ext(distinct_on(AllocationStep.experiment_id)).order_by(
        AllocationStep.experiment_id, AllocationStep.started_at.desc(), AllocationStep.id.desc()
    )
    return {step.experiment_id: step for step in session.scalars(newest.execution_options(populate_existing=True))}


def _found(
    session: Session, steps: Mapping[uuid.UUID, AllocationStep]
) -> Iterable[tuple[uuid.UUID, list[rules.Discrepancy]]]:
    """The discrepancies of the experiments that have these steps; those without any come with none."""
    query = select(Experiment).where(Experiment.id.in_(steps)).execution_options(populate_existing=True)
    places = list(session.scalars(query))
    there: dict[uuid.UUID, list[Variant]] = {key: [] for key in steps}
    arms = select(Variant).where(Variant.experiment_id.in_(steps), erasure.is_there())
    arms = arms.order_by(Variant.created_at, Variant.name)
    for variant in session.scalars(arms.execution_options(populate_existing=True)):
        there[variant.experiment_id].append(variant)
    statuses, names = _decided_statuses(session, places), _former_names(session, steps)
    versions, adopted = _versions(session, there), _adopted_versions(session, steps)
    for place in places:
        variants = there[place.id]
        called = {str(v.id): v.name for v in variants}
        shares = {
            called.get(key) or names.get(key) or f"variant {key[:8]}": Decimal(share)
            for key, share in steps[place.id].shares.items()
            if Decimal(share)
        }
        decided = Decided(shares, statuses.get(place.id), adopted.get(place.id, {}))
        found = Found({v.name: v.allocation for v in variants}, place.status, versions.get(place.id, {}))
        yield place.id, rules.of_experiment(decided, found)


def _decided_statuses(session: Session, places: Collection[Experiment]) -> dict[uuid.UUID, str | None]:
    """The status that each experiment was given on record, or has had to be looked at; none of those put together."""
    keys, drafts = [place.id for place in places], [place.id for place in places if place.status == "draft"]
    is_about = LedgerEntry.experiment_id.in_(keys), LedgerEntry.action.in_(("pause", "resume", "adopt"))
    query = select(LedgerEntry).where(*is_about, LedgerEntry.after.has_key("status")).order_by(LedgerEntry.id)
    given = {
        row.experiment_id: None if row.after["status"] == "draft" else row.after["status"]
        for row in session.scalars(query)
        if row.experiment_id and row.after
    }
    looked_at = select(Recommendation.experiment_id).where(Recommendation.experiment_id.in_(drafts)).distinct()
    return dict.fromkeys(session.scalars(looked_at), "active") | given


def _former_names(session: Session, experiments: Collection[uuid.UUID]) -> dict[str, str]:
    """What candidates were called, by variant id: also those that are deleted."""
    query = select(Rollout.variant_id, Rollout.variant).where(Rollout.experiment_id.in_(experiments))
    return {str(key): name for key, name in session.execute(query.order_by(Rollout.id))}


def _versions(session: Session, there: Mapping[uuid.UUID, list[Variant]]) -> dict[uuid.UUID, dict[str, str]]:
    """By experiment, the platform's status of the policy versions that serve there as experiment or production."""
    served = {
        place: {linked for v in variants if v.allocation > 0 and (linked := linked_version_id(v.config))}
        for place, variants in there.items()
    }
    wanted = {version for versions in served.values() for version in versions}
    query = (
        select(PolicyVersion)
        .join(PolicyStage, PolicyStage.policy_version_id == PolicyVersion.id)
        .where(PolicyVersion.id.in_(wanted), PolicyStage.stage.in_((Stage.EXPERIMENT, Stage.PRODUCTION)))
    )
    found = {v.id: v for v in session.scalars(query.execution_options(populate_existing=True))}
    return {
        place: {stages.label(found[key]): found[key].status for key in versions if key in found}
        for place, versions in served.items()
    }


def _adopted_versions(session: Session, experiments: Collection[uuid.UUID]) -> dict[uuid.UUID, dict[str, str]]:
    """By experiment, the status of policy versions that somebody adopted."""
    query = select(Discrepancy).where(
        Discrepancy.experiment_id.in_(experiments), Discrepancy.kind == "versions", Discrepancy.state == "adopted"
    )
    found: dict[uuid.UUID, dict[str, str]] = {}
    for row in session.scalars(query.order_by(Discrepancy.id)):
        if row.experiment_id:
            found.setdefault(row.experiment_id, {}).update(row.found)
    return found


# --- Comparing ------------------------------------------------------------------------------------------------------


def suspects(session: Session) -> list[uuid.UUID]:
    """The experiments in which something is other than was decided, or was at the last comparison; locks nothing."""
    differing = {key for key, found in _found(session, decided_steps(session)) if found}
    query = select(Discrepancy.experiment_id).where(Discrepancy.state == "open", Discrepancy.experiment_id.is_not(None))
    return sorted(differing | {key for key in session.scalars(query) if key})


def compare(session: Session, experiment_id: uuid.UUID) -> list[Discrepancy]:
    """Brings the discrepancies of an experiment in line with what is there; returns the open ones."""
    try:
        place = find_experiment(session, experiment_id)
    except Refused:  # it was deleted
        for row in _open(session, Discrepancy.experiment_id == experiment_id):
            end(session, row, "gone", by=ledger.BOT, why=DELETED)
        return []
    steps = decided_steps(session, [place.id])
    found = next((there for _, there in _found(session, steps)), [])
    step = steps.get(place.id)
    request = dict.fromkeys(("shares", "variants"), step.request_id) if step else {}
    return _brought_in_line(session, found, request, experiment_id=place.id)


def models(session: Session) -> list[str]:
    """The models whose tags and alias are compared: those with a version in an experiment or in production, and those
    with an open discrepancy."""
    at_work = select(PolicyStage.mlflow_model_name).where(PolicyStage.stage.in_((Stage.EXPERIMENT, Stage.PRODUCTION)))
    is_open = Discrepancy.state == "open", Discrepancy.mlflow_model_name.is_not(None)
    known = session.scalars(at_work.union(select(Discrepancy.mlflow_model_name).where(*is_open)))
    return sorted({name for name in known if name})


def compare_model(session: Session, name: str, registry: Registry, *, besides: int | None = None) -> list[Discrepancy]:
    """Brings the discrepancies of a model in line with what the registry says; returns the open ones.

    Nothing is compared while the registry is on its way to what was decided; the effect `besides` is just carried out.

    Raises:
        RegistryUnavailable: where MLflow does not answer.
    """
    subject = stages.model_subject(name)
    outbox.take_lane(session, subject)  # no decision waits for it
    there, decided = registry.versions(name), stages.decided(session, name)
    # Asked after reading: what is decided meanwhile waits, so nothing is compared with what holds no more.
    waiting = select(Effect.id).where(Effect.subject == subject, Effect.done_at.is_(None), Effect.id != (besides or 0))
    if session.scalar(waiting.limit(1)) is not None:
        return []
    look = partial(rules.of_model, {v.version: v.stage for v in there}, production_alias(there), decided)
    found = look(is_told=True)
    if found and not stages.told(session, name).is_known:  # asked only where it matters: it may read the whole record
        found = look(is_told=False)
    return _brought_in_line(session, found, {}, mlflow_model_name=name)


def _open(session: Session, is_about: Any) -> list[Discrepancy]:
    query = select(Discrepancy).where(Discrepancy.state == "open", is_about).order_by(Discrepancy.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def _brought_in_line(
    session: Session,
    found: list[rules.Discrepancy],
    request: Mapping[str, int | None],
    *,
    experiment_id: uuid.UUID | None = None,
    mlflow_model_name: str | None = None,
) -> list[Discrepancy]:
    is_about = (
        Discrepancy.experiment_id == experiment_id
        if experiment_id
        else Discrepancy.mlflow_model_name == mlflow_model_name
    )
    known = {row.kind: row for row in _open(session, is_about)}
    there: list[Discrepancy] = []
    for each in found:
        row = known.pop(each.kind, None)
        if row is None:
            row = Discrepancy(
                experiment_id=experiment_id,
                mlflow_model_name=mlflow_model_name,
                kind=each.kind,
                decided=dict(each.decided),
                found=dict(each.found),
                request_id=request.get(each.kind),
            )
            session.add(row)
            session.flush()
            record(session, row, "discrepancy", by=ledger.BOT)
            redraw(session, row)
        elif (row.decided, row.found) != (each.decided, each.found):
            row.decided, row.found = dict(each.decided), dict(each.found)
            row.request_id = request.get(each.kind)
            redraw(session, row)
        there.append(row)
    for row in known.values():
        end(session, row, "gone", by=ledger.BOT, why=SETTLED)
    return there


# --- What was deleted -----------------------------------------------------------------------------------------------


def send_back_stranded(session: Session) -> list[PolicyVersion]:
    """Versions in an experiment whose variant was deleted, alone or with it, become candidates again; returns those.

    They did not fail, and nothing is there any more that could be rolled back or increased.
    """
    query = select(PolicyVersion).join(PolicyStage, PolicyStage.policy_version_id == PolicyVersion.id)
    running = list(session.scalars(query.where(PolicyStage.stage == Stage.EXPERIMENT).order_by(PolicyVersion.id)))
    served = {linked_version_id(config) for config in session.scalars(select(Variant.config))} if running else set()
    stranded = [version for version in running if version.id not in served and _is_deleted(session, version)]
    return [version for version in stranded if _send_back(session, version)]


def _is_deleted(session: Session, version: PolicyVersion) -> bool:
    """True where the variant with which a version joined is not there any more, and not only serves another one."""
    joined = LedgerEntry.evidence["policy_version_id"].as_string() == str(version.id)
    is_start = LedgerEntry.action.in_(("start", stages.TAKE_OVER))
    query = select(LedgerEntry.evidence["variant_id"].as_string()).where(is_start, joined)
    newest = session.scalar(query.order_by(LedgerEntry.id.desc()).limit(1))
    return newest is not None and session.get(Variant, uuid.UUID(newest)) is None


def send_back_idle(session: Session, place: Experiment) -> None:
    """Versions in an experiment whose traffic others took, or whose experiment is over, become candidates again."""
    there = {linked_version_id(variant.config) for variant in variants(session, place)}
    query = select(PolicyVersion).join(PolicyStage, PolicyStage.policy_version_id == PolicyVersion.id)
    on_trial = query.where(PolicyStage.stage == Stage.EXPERIMENT, PolicyVersion.id.in_(there - {None}))
    versions = list(session.scalars(on_trial.order_by(PolicyVersion.id)))
    serving = _serving(session) if versions else set()
    for version in versions:
        if version.id not in serving:
            _send_back(session, version)


def _serving(session: Session) -> set[uuid.UUID | None]:
    """The versions with traffic, wherever it goes on."""
    query = select(Variant.config).join(Experiment, Experiment.id == Variant.experiment_id)
    goes_on = Variant.allocation > 0, Experiment.status != "completed"
    return {linked_version_id(config) for config in session.scalars(query.where(*goes_on))}


def _send_back(session: Session, version: PolicyVersion) -> bool:
    name, _ = stages.model_of(version)
    stages.lock(session, name)
    if stages.of(session, version.id) != Stage.EXPERIMENT:
        return False
    stages.move(session, version, Stage.CANDIDATE)
    entry = ledger.record(
        session, actor=ledger.BOT, action="send back", subject=stages.label(version), after={"stage": Stage.CANDIDATE}
    )
    stages.mirror(session, name, occasion=f"ledger-{entry.id}")
    outbox.put_notice(session, ledger_id=entry.id)
    return True


# --- Rows -----------------------------------------------------------------------------------------------------------


def mark(row: Discrepancy) -> str:
    """A short mark of what a card shows, by which a click is known to mean just this."""
    return chain.mark([row.decided, row.found])


def message_key(number: int) -> str:
    """The key of the message in which the card of a discrepancy stands."""
    return f"discrepancy:{number}"


def redraw(session: Session, row: Discrepancy) -> None:
    """Asks for the card to be drawn as things are then."""
    row.edits += 1
    message = message_key(row.id)
    outbox.put(session, kind="discrepancy", subject=message, key=f"{message}:{row.edits}", discrepancy=row.id)
    session.flush()


def record(session: Session, row: Discrepancy, action: str, *, by: str, reason: str | None = None) -> int:
    """Appends what became of a discrepancy: from what was decided to what was found, or back where it is reverted."""
    of_shares = row.kind in ("shares", "variants")
    found = {key: value or "0" for key, value in row.found.items()} if of_shares else row.found
    was, now = (found, row.decided) if action == "revert" else (row.decided, found)
    before, after = ({"shares": was}, {"shares": now}) if of_shares else (was, now)
    entry = ledger.record(
        session,
        actor=by,
        action=action,
        subject=f"{row.kind} of {row.mlflow_model_name}" if row.mlflow_model_name else row.kind,
        experiment_id=row.experiment_id,
        reason=reason,
        before=before,
        after=after,
        evidence={"discrepancy": row.id},
    )
    return entry.id


def end(session: Session, row: Discrepancy, state: str, *, by: str, why: str | None = None) -> int:
    """Ends a discrepancy; the number of the row that records it."""
    row.state, row.ended_by, row.end_reason, row.ended_at = state, by, why, func.now()
    action = {"adopted": "adopt", "reverted": "revert", "gone": ledger.GONE}[state]
    number = record(session, row, action, by=by, reason=why)
    redraw(session, row)
    return number
