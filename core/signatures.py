"""What owners sign: that one run of a candidate returns to its previous share where nobody answers a critical alert."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import ledger, looks, measure, outbox, rollouts
from core.errors import Refused
from core.rules import approval, returns
from core.rules.approval import Actor, Roles
from core.tables import Experiment, PolicyVersion, Request, SafetySignature
from core.variants import find_experiment, running_of, variant_serving, variants

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Signature:
    """A signature as people are shown it."""

    signed_by: str
    at: datetime
    minutes: int
    reason: str


@dataclass(frozen=True)
class Run:
    """One run of a candidate that can be signed for: by the request of its start, or by its variant and first step."""

    variant: str
    request_id: int | None = None
    variant_id: uuid.UUID | None = None
    first_step_id: int | None = None


# --- Which runs there are -------------------------------------------------------------------------------------------


def runs(session: Session, place: Experiment) -> list[Run]:
    """The runs of an experiment that can be signed for: of candidates with traffic, and one that is asked for."""
    _, running = running_of(session, place)
    steps = measure.steps(session, place.id)
    there = [Run(v.name, None, v.id, looks.first_step(steps, v.id)) for v in running]
    query = select(Request).where(Request.experiment_id == place.id, Request.state == "open", Request.action == "start")
    asked = session.scalar(query)
    return [*there, *([Run(_joining(asked), asked.id)] if asked else [])]


def _joining(request: Request) -> str:
    """The name of the variant that a request lets join: the only one whose share it raises."""
    return next(str(c["variant"]) for c in request.changes if float(c["after"]) > float(c["before"]))


def _run(session: Session, place: Experiment, variant: str | None) -> Run:
    found = [run for run in runs(session, place) if variant in (None, run.variant)]
    if len(found) == 1:
        return found[0]
    if not found:
        what = f"{variant} has no traffic in" if variant else "No candidate has traffic in"
        raise Refused(f"{what} {place.name}, and nobody asked to start it. There is nothing to sign for.")
    raise Refused(f"Several candidates are there: {', '.join(run.variant for run in found)}. Say which one.")


def _standing(session: Session, run: Run) -> SafetySignature | None:
    is_it = (
        SafetySignature.variant_id.is_not_distinct_from(run.variant_id)
        & SafetySignature.first_step_id.is_not_distinct_from(run.first_step_id)
        if run.request_id is None
        else SafetySignature.request_id == run.request_id
    )
    return session.scalar(select(SafetySignature).where(is_it, SafetySignature.withdrawn_at.is_(None)))


def of_candidate(session: Session, place: Experiment, variant_id: uuid.UUID) -> SafetySignature | None:
    """The signature that stands for the present run of a candidate."""
    run = next((run for run in runs(session, place) if run.variant_id == variant_id), None)
    return _standing(session, run) if run else None


def of_request(session: Session, request_id: int) -> SafetySignature | None:
    """The signature that stands for what a request starts."""
    return _standing(session, Run("", request_id))


def shown(row: SafetySignature | None) -> Signature | None:
    """A signature for people."""
    return Signature(row.signed_by, row.at, row.minutes, row.reason) if row else None


def of_experiment(session: Session, experiment: str) -> tuple[str, list[tuple[str, Signature | None]]]:
    """The name of an experiment, and its runs with what is signed for each.

    Raises:
        Refused: where there is no such experiment.
    """
    place = find_experiment(session, experiment, lock=False)
    return place.name, [(run.variant, shown(_standing(session, run))) for run in runs(session, place)]


# --- Signing --------------------------------------------------------------------------------------------------------


def check_may_sign(session: Session, request_id: int, *, actor: Actor, roles: Roles) -> str:
    """Passes where this person may sign for what an open request starts; returns the name of the candidate.

    Raises:
        Refused: where they may not, the request was decided meanwhile, or somebody has signed already.
    """
    place, run = _asked(session, request_id)
    _check(session, place, run, actor, roles)
    return run.variant


def _asked(session: Session, request_id: int) -> tuple[Experiment, Run]:
    experiment_id = session.scalar(select(Request.experiment_id).where(Request.id == request_id))
    if experiment_id is None:
        raise Refused(f"There is no request #{request_id}.")
    place = find_experiment(session, experiment_id)
    run = next((run for run in runs(session, place) if run.request_id == request_id), None)
    if run is None:
        raise Refused(
            f"Request #{request_id} is decided already. Where its candidate runs, type `safety {place.name}`."
        )
    return place, run


def _check(session: Session, place: Experiment, run: Run, actor: Actor, roles: Roles) -> None:
    against = approval.signing_objection(place.name, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    before = _standing(session, run)
    if before is not None:
        raise Refused(f"This is signed already, for {before.minutes} minutes. Withdraw that first to change it.")


def sign_request(
    session: Session, request_id: int, *, length: timedelta, reason: str | None, actor: Actor, roles: Roles
) -> Run:
    """Signs for the candidate that an open request starts.

    Raises:
        Refused: as `sign`, or where the request was decided meanwhile.
    """
    place, run = _asked(session, request_id)
    return _sign(session, place, run, length, reason, actor, roles)


def sign(
    session: Session,
    experiment: str,
    variant: str | None,
    *,
    length: timedelta,
    reason: str | None,
    actor: Actor,
    roles: Roles,
) -> Run:
    """Signs that a candidate returns to its previous share where a critical alert is unanswered for so long.

    Raises:
        Refused: without a reason, where that is too short or too long, this person is no owner, or it is signed.
    """
    place = find_experiment(session, experiment)
    return _sign(session, place, _run(session, place, variant), length, reason, actor, roles)


def _sign(
    session: Session, place: Experiment, run: Run, length: timedelta, reason: str | None, actor: Actor, roles: Roles
) -> Run:
    _check(session, place, run, actor, roles)
    returns.check_length(length)
    why = (reason or "").strip()
    if not why:
        raise Refused("Say why: whoever is on call at night reads it on the alert.")
    row = SafetySignature(
        experiment_id=place.id,
        request_id=run.request_id,
        variant_id=run.variant_id,
        first_step_id=run.first_step_id,
        minutes=length // MINUTE,
        signed_by=actor.id,
        reason=why,
    )
    session.add(row)
    session.flush()
    _tell(session, place, run, row, by=actor.id, action="sign safety", reason=why)
    return run


def withdraw(
    session: Session, experiment: str, variant: str | None, *, reason: str | None, actor: Actor, roles: Roles
) -> Run:
    """Takes a signature back, one's own or another owner's: from now on nothing acts by itself.

    Raises:
        Refused: where nothing is signed, or this person is no owner.
    """
    place = find_experiment(session, experiment)
    against = approval.signing_objection(place.name, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    run = _run(session, place, variant)
    row = _standing(session, run)
    if row is None:
        raise Refused(f"Nothing is signed for {run.variant}, so nothing acts by itself.")
    row.withdrawn_at, row.withdrawn_by = func.now(), actor.id
    session.flush()
    _tell(session, place, run, row, by=actor.id, action="withdraw safety", reason=(reason or "").strip() or None)
    return run


def _tell(
    session: Session, place: Experiment, run: Run, row: SafetySignature, *, by: str, action: str, reason: str | None
) -> None:
    """Records it and has the cards redrawn that show it; where there is no request card, it is announced."""
    entry = ledger.record(
        session,
        actor=by,
        action=action,
        subject=run.variant,
        experiment_id=place.id,
        request_id=run.request_id,
        reason=reason,
        after={"signature": row.id, "minutes": row.minutes},
    )
    if run.request_id is None:
        outbox.put_notice(session, ledger_id=entry.id)
        rollouts.touch(session, place.id)
    else:
        outbox.put_card(session, request_id=run.request_id, why=f"ledger-{entry.id}")


def bind(session: Session, place: Experiment, request: Request) -> None:
    """What was signed for a request is signed for the run that it has begun."""
    row = of_request(session, request.id) if request.action == "start" else None
    if row is None:
        return
    there = [v for v in variants(session, place) if v.allocation > 0]
    version = session.get_one(PolicyVersion, uuid.UUID(request.params["policy_version_id"]))
    joined = variant_serving(there, version)
    if joined is not None:
        row.variant_id, row.first_step_id = joined.id, looks.first_step(measure.steps(session, place.id), joined.id)
        session.flush()
