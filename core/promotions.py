"""Moving a candidate on, to production, or back: the document's sections 4.3, 5.1 and 6.2."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeVar

from sqlalchemy import func
from sqlalchemy.orm import Session

from core import ledger, measure, stages
from core.errors import Refused
from core.evidence import checklist
from core.experiments import candidate_name, existing_version, insert_variant
from core.rules import allocation, decision, returns
from core.rules.decision import AllTerms, CheckRow, Terms
from core.rules.lifecycle import Stage
from core.tables import Event, Experiment, PolicyVersion, Variant
from core.variants import (
    baseline,
    baseline_or_note,
    candidate,
    find_experiment,
    find_variant,
    former_baseline,
    linked_version,
    linked_version_id,
    named_shares,
    restore_name,
    set_shares,
    shares,
    variant_serving,
    variants,
)

K = TypeVar("K")
Scope = Literal["all", "share", "previous"]
"""What a rollback gives back to the baseline: all traffic, the failed variant's share, or what it was given last."""

# --- Changes --------------------------------------------------------------------------------------------------------


def _control_event(session: Session, experiment: Experiment, event_type: str, payload: dict[str, Any]) -> None:
    """A control event names its experiment in the payload only, so that it never counts as traffic."""
    session.add(
        Event(
            event_type=event_type,
            unit_type="control",
            unit_id=ledger.BOT,
            experiments=[],
            payload={**payload, "experiment_id": str(experiment.id)},
            timestamp=func.now(),
        )
    )


def check_active(experiment: Experiment) -> None:
    """Raises `Refused` where the experiment is not active."""
    if experiment.status != "active":
        raise Refused(f"{experiment.name} is {experiment.status}; its shares change only while it is active.")


def next_shares(session: Session, experiment: Experiment, variant: Variant, terms: Terms) -> dict[uuid.UUID, Decimal]:
    """The shares after one step up for a candidate.

    Raises:
        Refused: where the next step would be production, or the experiment is not active.
    """
    check_active(experiment)
    if variant.allocation == 0:
        raise Refused(f"{variant.name} has no traffic. Start it first.")
    present = shares(session, experiment)
    allocation.check_whole(present)
    step = allocation.next_step(variant.allocation, terms.steps)
    if step is None or step == 1:
        raise Refused(f"After {decision.percent(variant.allocation)} comes production. Promote {variant.name} instead.")
    return allocation.with_share(present, variant.id, step)


def increase_allocation(
    session: Session,
    *,
    experiment: str | uuid.UUID | Experiment,
    variant: str | uuid.UUID | Variant | None = None,
    terms: AllTerms = Terms(),  # noqa: B008 - frozen
    actor: str = ledger.BOT,
    reason: str | None = None,
    request_id: int | None = None,
) -> Variant:
    """Moves a candidate one step up; the others shrink proportionally (model-promotion.md, 3.3).

    Raises:
        Refused: where there is no such step, or the experiment is not active.
    """
    place = find_experiment(session, experiment)
    chosen = candidate(session, place) if variant is None else find_variant(session, place, variant)
    before = named_shares(session, place)
    set_shares(session, place, next_shares(session, place, chosen, terms.of(place.name)), request_id=request_id)
    ledger.record(
        session,
        actor=actor,
        action="increase",
        subject=chosen.name,
        experiment_id=place.id,
        request_id=request_id,
        reason=reason,
        before={"shares": before},
        after={"shares": named_shares(session, place)},
    )
    return chosen


def failing(rows: Sequence[CheckRow]) -> list[CheckRow]:
    """The rows that need an override: those that fail and those without evidence."""
    return [row for row in rows if row.passed is not True]


def _require(rows: Sequence[CheckRow], override: str | None) -> None:
    short = failing(rows)
    if short and not override:
        listed = "; ".join(f"{row.title} ({row.detail})" for row in short)
        raise Refused(f"Not ready for production: {listed}. To promote all the same, say why.")


def _send_back_others(session: Session, experiment: Experiment, keep: set[uuid.UUID]) -> list[PolicyVersion]:
    """Policy versions that lost their traffic without having failed become candidates again; returns those."""
    moved = []
    there = variants(session, experiment)
    serving = keep | {linked_version_id(v.config) for v in there if v.allocation > 0}
    for variant in there:
        linked = linked_version(session, variant)
        if linked and linked.id not in serving and stages.of(session, linked.id) == Stage.EXPERIMENT:
            stages.move(session, linked, Stage.CANDIDATE)
            moved.append(linked)
    return moved


def _predecessors(session: Session, experiment: Experiment, version: PolicyVersion) -> list[PolicyVersion]:
    """What goes out of production: the baseline that is being replaced, and the model's version in production."""
    replaced = [linked_version(session, baseline(session, experiment))]
    replaced.append(stages.in_production(session, stages.model_of(version)[0]))
    found = {old.id: old for old in replaced if old is not None and old.id != version.id}
    return list(found.values())


def promote_to_production(
    session: Session,
    *,
    experiment: str | uuid.UUID | Experiment,
    policy_version: PolicyVersion | uuid.UUID,
    terms: AllTerms = Terms(),  # noqa: B008 - frozen
    checked: Sequence[CheckRow] | None = None,
    override: str | None = None,
    actor: str = ledger.BOT,
    reason: str | None = None,
    request_id: int | None = None,
) -> Variant:
    """The document's four steps (5.1): stage and tags, previous production archived, 100 % of traffic, event.

    `checked` is the checklist that the deciders saw; it is evaluated here where it is not given.

    Raises:
        Refused: where a row of the checklist does not pass and no `override` reason is given, the policy version
            has no variant here, or the experiment is not active.
    """
    version = policy_version if isinstance(policy_version, PolicyVersion) else existing_version(session, policy_version)
    place = find_experiment(session, experiment, lock=False)
    variant = variant_serving(variants(session, place), version)
    if variant is None:
        raise Refused(f"{stages.label(version)} has no variant in {place.name}. Start it first.")
    rows = checklist(session, place, variant, terms.of(place.name)) if checked is None else checked
    place = find_experiment(session, place)
    check_active(place)
    _require(rows, override)
    before = named_shares(session, place)
    replaced = _predecessors(session, place, version)
    for old in filter(stages.has_model, replaced):
        stages.move(session, old, Stage.ARCHIVED, is_adoption=stages.of(session, old.id) != Stage.PRODUCTION)
    stages.move(session, version, Stage.PRODUCTION, predecessor_id=replaced[0].id if replaced else None)
    set_shares(session, place, allocation.all_to(shares(session, place), variant.id), request_id=request_id)
    sent_back = _send_back_others(session, place, {version.id})
    _control_event(
        session,
        place,
        "model_promoted",
        {"policy_version_id": str(version.id), "mlflow_model_version": version.mlflow_model_version},
    )
    entry = ledger.record(
        session,
        actor=actor,
        action="promote",
        subject=variant.name,
        experiment_id=place.id,
        request_id=request_id,
        reason=override or reason,
        before={"shares": before, "production": [stages.label(old) for old in replaced]},
        after={"shares": named_shares(session, place), "production": [stages.label(version)]},
        evidence={"checklist": [{"title": r.title, "passed": r.passed, "detail": r.detail} for r in rows]},
    )
    _mirror_all(session, [version, *replaced, *sent_back], entry.id, request_id)
    return variant


def _mirror_all(session: Session, versions: list[PolicyVersion], ledger_id: int, request_id: int | None) -> None:
    for name in sorted({stages.model_of(version)[0] for version in versions if stages.has_model(version)}):
        stages.mirror(session, name, occasion=f"ledger-{ledger_id}", request_id=request_id)


# --- Rollback -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retreat:
    """Where traffic goes in a rollback: to a present variant, or to a restored predecessor of what failed."""

    target: Variant | None
    restored: PolicyVersion | None
    """The policy version that becomes production again; None where the failed one never was."""

    @property
    def target_name(self) -> str:
        """The name of the variant that takes the traffic."""
        if self.target is not None:
            return self.target.name
        return candidate_name(self.restored) if self.restored else ""


def retreat(
    session: Session, experiment: Experiment, failed: Variant, baseline_variant: str | uuid.UUID | Variant | None
) -> Retreat:
    """Finds what a rollback of `failed` returns to.

    Raises:
        Refused: where that is the failed variant itself, or nothing is known to return to.
    """
    linked = linked_version(session, failed)
    base, _ = baseline_or_note(session, experiment)
    is_base = base is not None and base.id == failed.id
    was_production = is_base and linked is not None and stages.of(session, linked.id) == Stage.PRODUCTION
    named = find_variant(session, experiment, baseline_variant) if baseline_variant is not None else None
    if linked is None or not was_production:
        target = named or baseline(session, experiment)
        _must_differ(failed, target)
        return Retreat(target, None)
    if named is not None:
        _must_differ(failed, named)
        return Retreat(named, linked_version(session, named))
    before = stages.predecessor(session, linked.id)
    if before is not None and not stages.has_failed(session, before.id):
        return Retreat(variant_serving(variants(session, experiment), before), before)
    former = former_baseline(session, experiment, failed)
    if former is None:
        raise Refused(
            f"{failed.name} is in production, and no version before it that did not fail is on record. "
            "Rename the variant that traffic should return to: call it `control`."
        )
    return Retreat(former, linked_version(session, former))


def _must_differ(failed: Variant, target: Variant) -> None:
    if target.id == failed.id:
        raise Refused(f"{failed.name} is the baseline itself; there is nothing to return to.")


def previous_share(session: Session, experiment: Experiment, failed: Variant) -> Decimal:
    """What a variant had before it was given its present share.

    Raises:
        Refused: where others changed the shares by hand, or its share before is not on record.
    """
    steps = measure.steps(session, experiment.id)
    present = {str(key): share for key, share in shares(session, experiment).items() if share}
    known = {key: Decimal(str(share)) for key, share in steps[-1].shares.items()} if steps else {}
    if {key: share for key, share in known.items() if share} != present or steps[-1].source != "bot":
        raise Refused(f"The shares of {experiment.name} were changed by hand.")
    found = returns.previous_share([Decimal(str(step.shares.get(str(failed.id), 0))) for step in steps])
    if found is None:
        raise Refused(f"It is not on record what share {failed.name} had before.")
    return found


def kept_share(session: Session, experiment: Experiment, failed: Variant, scope: Scope) -> Decimal:
    """What a rollback leaves the failed variant with.

    Raises:
        Refused: where that is its previous share, and nobody knows it.
    """
    return previous_share(session, experiment, failed) if scope == "previous" else Decimal(0)


def retreat_shares(present: Mapping[K, Decimal], failed: K, target: K, scope: Scope, kept: Decimal) -> dict[K, Decimal]:
    """The shares after a rollback that leaves the failed variant with `kept`, as fractions of 1."""
    known = {**present, target: present.get(target, Decimal(0))}
    return allocation.all_to(known, target) if scope == "all" else allocation.returned(known, failed, target, kept)


def rollback_variant(
    session: Session,
    *,
    experiment: str | uuid.UUID | Experiment,
    failed_variant: str | uuid.UUID | Variant,
    baseline_variant: str | uuid.UUID | Variant | None = None,
    reason: str,
    scope: Scope = "all",
    actor: str = ledger.BOT,
    request_id: int | None = None,
) -> Variant:
    """Returns traffic to the baseline and archives what failed (model-promotion.md, 6.2); returns the baseline.

    With scope "share" other candidates keep their traffic; with "previous" the failed one is left with the share it had
    before, and nothing is archived. A variant in production gives way to the version it replaced, which gets back its
    stage, name and traffic. Works in any status of the experiment and for a variant that links to no policy version:
    getting out of harm's way is never refused for tidiness.

    Raises:
        Refused: where nothing is known to return to.
    """
    place = find_experiment(session, experiment)
    failed = find_variant(session, place, failed_variant)
    version = linked_version(session, failed)
    way = retreat(session, place, failed, baseline_variant)
    before = named_shares(session, place)
    target = way.target or insert_variant(session, place, _restored(way))
    restore_name(session, target)
    kept = kept_share(session, place, failed, scope)
    after = retreat_shares(shares(session, place), failed.id, target.id, scope, kept)
    set_shares(session, place, after, request_id=request_id)
    touched = _restage(session, place, version, way.restored) if scope != "previous" else []
    if scope != "share":
        touched += _send_back_others(session, place, {v.id for v in touched})
    _control_event(session, place, "model_rollback", {"failed_variant_id": str(failed.id), "reason": reason})
    entry = ledger.record(
        session,
        actor=actor,
        action="rollback",
        subject=failed.name,
        experiment_id=place.id,
        request_id=request_id,
        reason=reason,
        before={"shares": before},
        after={"shares": named_shares(session, place), "restored": way.restored and stages.label(way.restored)},
    )
    _mirror_all(session, touched, entry.id, request_id)
    return target


def _restored(way: Retreat) -> PolicyVersion:
    if way.restored is None:
        raise AssertionError("a retreat without a target always restores a version")
    return way.restored


def _restage(
    session: Session, place: Experiment, failed: PolicyVersion | None, restored: PolicyVersion | None
) -> list[PolicyVersion]:
    """Archives the failed version and puts its predecessor back in production; returns both, where they exist.

    A version that another variant goes on serving, with other params, did not fail: only that variant did.
    """
    serving = {linked_version_id(v.config) for v in variants(session, place) if v.allocation > 0}
    if failed is not None and stages.has_model(failed) and failed.id not in serving:
        is_unknown = stages.of(session, failed.id) in (Stage.NONE, Stage.CANDIDATE)
        stages.move(session, failed, Stage.ARCHIVED, is_adoption=is_unknown, has_failed=True)
    # Another experiment may have put a version of the same model into production since; that one stays.
    if restored is not None and _is_vacant(session, restored):
        stages.move(session, restored, Stage.PRODUCTION, is_adoption=True)
    return [v for v in (failed, restored) if v is not None]


def _is_vacant(session: Session, version: PolicyVersion) -> bool:
    """True where the model that a policy version links to has nothing in production."""
    return stages.has_model(version) and stages.in_production(session, stages.model_of(version)[0]) is None
