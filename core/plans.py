"""The kinds of change that can be asked for: how each is planned, and how it is carried out once decided."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy.orm import Session

from core import erasure, evidence, experiments, promotions, rollouts, stages
from core.errors import Refused
from core.recommendations import Standing
from core.rules import allocation
from core.rules.decision import AllTerms, CheckRow, Terms
from core.rules.verdict import Action as Advice
from core.tables import Experiment, Request, Variant
from core.variants import candidate, find_experiment, find_variant, required_version, shares, what_fails


@dataclass(frozen=True)
class Ask:
    """What somebody wants changed; the fields that an action does not use stay empty."""

    action: str
    experiment: str | uuid.UUID
    """Its name, as people type it, or its id."""
    reason: str | None = None
    override: str | None = None
    """Why to go ahead although the checklist or the rule says otherwise."""
    replaces: bool = False
    """Whether it takes the place of an open request of somebody else."""
    policy_version_id: uuid.UUID | None = None
    share: Decimal | None = None
    """What a candidate joins with; the first of the steps where nobody says."""
    variant: str | uuid.UUID | None = None
    """Its name, as people type it, or its id."""
    baseline: str | None = None
    scope: promotions.Scope = "all"
    mode: Literal["archive", "delete"] = "archive"


@dataclass(frozen=True)
class Plan:
    """What a request would do, and on which evidence."""

    params: dict[str, Any]
    after: Mapping[str, Decimal]
    """Shares by variant id, or by name for a variant that does not exist yet."""
    checklist: tuple[CheckRow, ...] = ()
    objections: tuple[str, ...] = ()
    """What stands against it; asking all the same takes an override."""
    share: Decimal = Decimal(0)
    """What the candidate would have."""
    is_against: bool = False
    """True where a row of the checklist was overridden before."""


@dataclass(frozen=True)
class Look:
    """What is read before anything is locked, because measuring takes time."""

    variant: Variant
    share: Decimal
    verdict: Advice
    why: str
    rows: tuple[CheckRow, ...]
    findings: Mapping[str, str]
    """The state of each metric, by its name."""
    standing: Standing


def look_at(session: Session, ask: Ask, terms: AllTerms) -> Look:
    """Measures the candidate that is asked about, before anything is locked."""
    place = find_experiment(session, ask.experiment, lock=False)
    variant = candidate(session, place, ask.variant)
    if variant.allocation == 0:
        raise Refused(f"{variant.name} has no traffic. Start it first.")
    own = terms.of(place.name)
    standing = evidence.standing(session, place, variant, own)
    rows = evidence.checklist(session, place, variant, own, standing)
    found = standing.decision
    states = {finding.metric.name: str(finding.state) for finding in found.findings}
    return Look(variant, standing.share, found.action, found.why, rows, states, standing)


def _plan_start(session: Session, place: Experiment, ask: Ask, _: Look | None, terms: Terms) -> Plan:
    if ask.policy_version_id is None:
        raise Refused("Say which policy version to start.")
    version = experiments.existing_version(session, ask.policy_version_id)
    share = terms.steps[0] if ask.share is None else ask.share
    joining = experiments.check_may_join(session, place, version, share)
    key = str(joining.id) if joining else experiments.candidate_name(version)
    after = allocation.with_share(_by_id(shares(session, place)), key, share)
    params = {"policy_version_id": str(version.id), "share": str(share)}
    rows = evidence.entry_checklist(session, version, share)
    params |= {"variant_id": str(joining.id)} if joining else {}
    is_against = any(row.passed is False for row in rows)
    return Plan(params, after, rows, share=share, is_against=is_against)


def _by_id(after: Mapping[uuid.UUID, Decimal]) -> dict[str, Decimal]:
    return {str(key): share for key, share in after.items()}


def _measured_params(seen: Look) -> dict[str, Any]:
    return {
        "variant_id": str(seen.variant.id),
        "verdict": seen.verdict,
        "why": seen.why,
        "findings": dict(seen.findings),
    }


def _plan_increase(session: Session, place: Experiment, ask: Ask, look: Look | None, terms: Terms) -> Plan:
    seen = _seen(session, place, look)
    after = promotions.next_shares(session, place, seen.variant, terms)
    params, against = _measured_params(seen), _against(session, seen)
    return Plan(params, _by_id(after), seen.rows, against, share=after[seen.variant.id])


_ADVICE: Mapping[Advice, str] = {
    "wait": "wait.",
    "hold": "hold, the data cannot be trusted.",
    "rollback": "roll back.",
}


def _against(session: Session, seen: Look) -> tuple[str, ...]:
    """What the rule has against moving on, and the person who put the rollout on hold."""
    by_rule = [f"The rollout rule says: {_ADVICE[seen.verdict]} {seen.why}"] if seen.verdict in _ADVICE else []
    held = rollouts.held(session, seen.variant.id)
    by_person = [f"It is on hold until {held.hold_until:%Y-%m-%d %H:%M} UTC: {held.hold_reason}"] if held else []
    return (*by_rule, *by_person)


def _plan_promote(session: Session, place: Experiment, ask: Ask, look: Look | None, terms: Terms) -> Plan:
    seen = _seen(session, place, look)
    promotions.check_active(place)
    version = required_version(session, seen.variant)
    if stages.of(session, version.id) != "experiment":
        raise Refused(
            f"{seen.variant.name} is in stage “{stages.of(session, version.id)}”, not in the experiment stage."
        )
    short = promotions.failing(seen.rows)
    objections = (*_against(session, seen), *(f"{row.title}: {row.detail}" for row in short))
    after = allocation.all_to(shares(session, place), seen.variant.id)
    params = _measured_params(seen) | {"policy_version_id": str(version.id)}
    return Plan(params, _by_id(after), seen.rows, objections, share=after[seen.variant.id])


def _seen(session: Session, place: Experiment, look: Look | None) -> Look:
    if look is None:
        raise AssertionError("measured before it was planned")
    if shares(session, place).get(look.variant.id) != look.share:
        raise Refused("The shares were changed while this was measured. Ask for it again.")
    return look


def _plan_rollback(session: Session, place: Experiment, ask: Ask, _: Look | None, terms: Terms) -> Plan:
    failed = find_variant(session, place, ask.variant) if ask.variant else what_fails(session, place)
    way = promotions.retreat(session, place, failed, ask.baseline)
    if failed.allocation == 0 and way.restored is None:
        raise Refused(f"{failed.name} has no traffic in {place.name}; there is nothing to roll back.")
    target = str(way.target.id) if way.target else way.target_name
    kept = promotions.kept_share(session, place, failed, ask.scope)
    after = promotions.retreat_shares(_by_id(shares(session, place)), str(failed.id), target, ask.scope, kept)
    params = {"variant_id": str(failed.id), "baseline": ask.baseline, "scope": ask.scope}
    return Plan(params, after)


def _plan_retire(session: Session, place: Experiment, ask: Ask, _: Look | None, terms: Terms) -> Plan:
    chosen = experiments.retirable(session, place, ask.mode)
    if not chosen:
        raise Refused(f"{place.name} has no variant at 0 % that could be retired.")
    if ask.mode == "delete":
        erasure.check_may(session)
    lost = {v.name: experiments.history_that_would_go(session, v) for v in chosen} if ask.mode == "delete" else {}
    params = {"mode": ask.mode, "names": [v.name for v in chosen], "lost": lost}
    return Plan(params, _by_id(shares(session, place)))


def _apply_start(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    experiments.add_candidate_variant(
        session,
        experiment=place,
        policy_version=uuid.UUID(request.params["policy_version_id"]),
        initial_allocation=request.params["share"],
        actor=by,
        reason=request.reason,
        request_id=request.id,
    )


def _apply_increase(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    promotions.increase_allocation(
        session,
        experiment=place,
        variant=uuid.UUID(request.params["variant_id"]),
        terms=terms,
        actor=by,
        reason=request.override or request.reason,
        request_id=request.id,
    )


def _apply_promote(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    variant = promotions.promote_to_production(
        session,
        experiment=place,
        policy_version=uuid.UUID(request.params["policy_version_id"]),
        checked=[CheckRow(**row) for row in request.checklist],
        override=request.override,
        actor=by,
        reason=request.reason,
        request_id=request.id,
    )
    experiments.retire_old_variants(
        session, experiment=place, keep_variant=variant, actor=by, reason="after promotion", request_id=request.id
    )


def _apply_rollback(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    promotions.rollback_variant(
        session,
        experiment=place,
        failed_variant=uuid.UUID(request.params["variant_id"]),
        baseline_variant=request.params["baseline"],
        reason=request.reason or "",
        scope=request.params["scope"],
        actor=by,
        request_id=request.id,
    )


def _apply_retire(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    experiments.retire_old_variants(
        session,
        experiment=place,
        mode=request.params["mode"],
        lost=request.params["lost"],  # as the card showed it: a click has no time to count millions
        actor=by,
        reason=request.reason,
        request_id=request.id,
    )


@dataclass(frozen=True)
class Action:
    """One kind of change: how it is planned, how it is carried out, what it needs."""

    plan: Callable[[Session, Experiment, Ask, Look | None, Terms], Plan]
    apply: Callable[[Session, Experiment, Request, str, Terms], None]
    is_measured: bool = False
    needs_reason: bool = False
    waits_for_thaw: bool = False
    """Whether a freeze stops it, as all that gives a candidate more traffic."""


def takes_long(action: str, params: Mapping[str, Any]) -> bool:
    """True where planning such a change reads more than there is time for at a click."""
    return ACTIONS[action].is_measured or params.get("mode") == "delete"


ACTIONS: Mapping[str, Action] = {
    "start": Action(_plan_start, _apply_start, waits_for_thaw=True),
    "increase": Action(_plan_increase, _apply_increase, is_measured=True, waits_for_thaw=True),
    "promote": Action(_plan_promote, _apply_promote, is_measured=True, waits_for_thaw=True),
    "rollback": Action(_plan_rollback, _apply_rollback, needs_reason=True),
    "retire": Action(_plan_retire, _apply_retire),
}


def as_ask(place: Experiment, request: Request) -> Ask:
    """The wish behind a stored request."""
    params = request.params
    version, variant = params.get("policy_version_id"), params.get("variant_id")
    return Ask(
        action=request.action,
        experiment=place.name,
        reason=request.reason,
        override=request.override,
        policy_version_id=uuid.UUID(version) if version else None,
        share=Decimal(params["share"]) if "share" in params else None,
        variant=uuid.UUID(variant) if variant else None,
        baseline=params.get("baseline"),
        scope=params.get("scope", "all"),
        mode=params.get("mode", "archive"),
    )
