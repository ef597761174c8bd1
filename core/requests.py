"""Asking for a change, and deciding on it: every change of shares or stages passes through here."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import alerts, experiments, ledger, outbox, plans, promotions, recommendations, rollouts
from core.errors import Refused
from core.plans import Ask, Plan
from core.rules import approval
from core.rules.approval import QUORUM, Actor
from core.rules.decision import Terms
from core.tables import Approval, Experiment, Request
from core.variants import find_experiment, shares, variants

_NOTHING: Mapping[str, Any] = {}


def _changes(session: Session, place: Experiment, after: Mapping[str, Decimal]) -> list[dict[str, Any]]:
    there = variants(session, place)
    present = {str(v.id): v for v in there}
    return [
        {
            "variant_id": key if key in present else None,
            "variant": present[key].name if key in present else key,
            "before": str(present[key].allocation if key in present else Decimal(0)),
            "after": str(share),
        }
        for key, share in after.items()
    ]


def _objections(plan: Plan, wish: Ask) -> None:
    if plan.objections and not wish.override:
        listed = "\n".join(f"• {line}" for line in plan.objections)
        raise Refused(f"Not yet:\n{listed}\nTo ask for it all the same, add `because` and your reason.")


def _said(words: str | None) -> str | None:
    """What somebody wrote; None where that is nothing but blanks."""
    return (words or "").strip() or None


def measure(session: Session, wish: Ask, *, terms: Terms) -> None:
    """Makes the look that a request rests on, in a transaction of its own: what was looked at counts as looked at,
    also where the request is then refused."""
    if plans.ACTIONS[wish.action].is_measured:
        plans.look_at(session, wish, terms)


def ask(session: Session, wish: Ask, *, requester: str, terms: Terms) -> Request:
    """Opens a request with the shares and the checklist as they stand, and asks for its card to be posted.

    Raises:
        Refused: where the change is not possible or needs a reason, or another request of the experiment is open.
    """
    action = plans.ACTIONS[wish.action]
    wish = replace(wish, reason=_said(wish.reason), override=_said(wish.override))
    if action.needs_reason and not wish.reason:
        raise Refused(f"Say why: add `because` and the reason to the {wish.action}.")
    look = plans.look_at(session, wish, terms) if action.is_measured else None
    place = find_experiment(session, wish.experiment)
    _make_way(session, place, wish.action, requester)
    plan = action.plan(session, place, wish, look, terms)
    _objections(plan, wish)
    request = Request(
        experiment_id=place.id,
        action=wish.action,
        requester=requester,
        reason=wish.reason,
        override=wish.override if plan.objections else None,
        params=plan.params,
        changes=_changes(session, place, plan.after),
        checklist=[{"title": r.title, "passed": r.passed, "detail": r.detail} for r in plan.checklist],
    )
    session.add(request)
    session.flush()
    rests_on = {"verdict": recommendations.keep_evidence(session, look.standing)} if look else {}
    why = request.override or request.reason
    _record(session, place, request, actor=requester, action="request", reason=why, rests_on=rests_on)
    outbox.put_card(session, request_id=request.id, why="opened")
    rollouts.touch(session, place.id)
    return request


def _make_way(session: Session, place: Experiment, action: str, requester: str) -> None:
    """There is one open request at a time; only a rollback does not wait for others but closes them."""
    found = session.scalar(select(Request).where(Request.experiment_id == place.id, Request.state == "open"))
    if found is None:
        return
    if action != "rollback" or found.action == "rollback":
        raise Refused(
            f"Request #{found.id} ({found.action}) of {place.name} is still open. "
            "Have it approved or rejected first; there is one at a time."
        )
    why = "A rollback was asked for, which goes first."
    _close(session, found, "superseded", by=requester, why=why)
    _record(session, place, found, actor=requester, action="supersede", reason=why)
    outbox.put_card(session, request_id=found.id, why="superseded")


def _record(
    session: Session,
    place: Experiment,
    request: Request,
    *,
    actor: str,
    action: str,
    reason: str | None = None,
    rests_on: Mapping[str, Any] = _NOTHING,
) -> int:
    """Appends what happened to a request, with its checklist as whoever did it saw it."""
    entry = ledger.record(
        session,
        actor=actor,
        action=action,
        subject=f"#{request.id} {request.action}",
        experiment_id=place.id,
        request_id=request.id,
        before={"shares": {c["variant"]: c["before"] for c in request.changes}},
        after={"shares": {c["variant"]: c["after"] for c in request.changes}},
        reason=reason,
        evidence={"params": request.params, "checklist": request.checklist, **rests_on},
    )
    return entry.id


# --- Deciding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What a click came to, in one sentence for the person who clicked."""

    outcome: Literal["applied", "counted", "rejected", "withdrawn", "redrawn"]
    sentence: str


def _open(session: Session, request_id: int) -> tuple[Request, Experiment]:
    """The open request and its experiment, the experiment locked first as in every change.

    Raises:
        Refused: where there is no such request, or it was decided already.
    """
    experiment_id = session.scalar(select(Request.experiment_id).where(Request.id == request_id))
    if experiment_id is None:
        raise Refused(f"There is no request #{request_id}.")
    place = find_experiment(session, experiment_id)
    request = session.get_one(Request, request_id, with_for_update=True, populate_existing=True)
    if request.state != "open":
        raise Refused(f"Request #{request_id} is closed already ({request.state}). The card shows by whom.")
    return request, place


def _is_stale(session: Session, place: Experiment, request: Request) -> bool:
    """True where the shares were changed since the card was drawn, or what was measured no longer speaks for it."""
    shown = {c["variant_id"]: Decimal(c["before"]) for c in request.changes if c["variant_id"]}
    if shown != {str(key): share for key, share in shares(session, place).items()}:
        return True
    return plans.ACTIONS[request.action].is_measured and _is_outdated(session, request)


def _is_outdated(session: Session, request: Request) -> bool:
    """True where the measurements are too old, or a later look speaks against the request."""
    now = session.execute(select(func.now())).scalar_one()
    if now - request.created_at > approval.EVIDENCE_LASTS:
        return True
    variant, then = uuid.UUID(request.params["variant_id"]), request.params["verdict"]
    return recommendations.has_turned(session, variant, verdict_then=then, since=request.created_at)


def _redraw(session: Session, place: Experiment, request: Request, terms: Terms) -> Decided:
    """Plans the request anew on the present shares; where that is not possible any more it is closed.

    A request that rests on measurements is always closed: they were made of what is no longer so.
    """
    try:
        with session.begin_nested():
            if plans.ACTIONS[request.action].is_measured:
                raise Refused("its numbers are out of date, or a later look speaks against it. Ask for it anew.")
            plan = plans.ACTIONS[request.action].plan(session, place, plans.as_ask(place, request), None, terms)
            request.params, request.changes = plan.params, _changes(session, place, plan.after)
            sentence = "The shares have changed since this card was drawn. It is redrawn; look again, then decide."
            action = "redraw"
    except Refused as refused:
        _close(session, request, "superseded", by=experiments.SYSTEM, why=str(refused))
        sentence = f"Things have moved on since this card was drawn, so the request is closed: {refused}"
        action = "supersede"
    number = _record(session, place, request, actor=experiments.SYSTEM, action=action, reason=request.decision_reason)
    outbox.put_card(session, request_id=request.id, why=f"ledger-{number}")
    return Decided("redrawn", sentence)


def approve(session: Session, request_id: int, *, actor: Actor, approvers: Collection[str], terms: Terms) -> Decided:
    """Counts one person's approval and carries the change out once the quorum is there, all in this transaction.

    Raises:
        Refused: where the request is closed, or this person may not approve it.
    """
    request, place = _open(session, request_id)
    against = approval.objection(request.action, requester=request.requester, actor=actor, approvers=approvers)
    if against:
        raise Refused(against)
    if _is_stale(session, place, request):
        return _redraw(session, place, request, terms)
    _note_decision(session, request, actor, "approve")
    given = session.scalar(select(func.count()).where(Approval.request_id == request.id)) or 0
    missing = QUORUM[request.action].approvals - given
    if missing > 0:
        outbox.put_card(session, request_id=request.id, why=f"approved-{actor.id}")
        return Decided("counted", f"Your approval counts. {missing} more needed.")
    _close(session, request, "applied", by=actor.id, why=None)
    number = _record(session, place, request, actor=actor.id, action="approve")
    plans.ACTIONS[request.action].apply(session, place, request, actor.id, terms)
    _tell_of_change(session, place, request, actor)
    outbox.put_card(session, request_id=request.id, why="applied")
    outbox.put_notice(session, ledger_id=number)
    return Decided("applied", f"Approved. {place.name} is changed.")


def _tell_of_change(session: Session, place: Experiment, request: Request, actor: Actor) -> None:
    """What people follow is brought in line with the new shares; alerts that this answers end."""
    if any(change["before"] != change["after"] for change in request.changes):
        rolled_back = uuid.UUID(request.params["variant_id"]) if request.action == "rollback" else None
        alerts.settle(session, place, variant_id=rolled_back, by=actor.id, request_id=request.id)
        outbox.put_follow(session, experiment_id=place.id, why=f"request-{request.id}")


def confirm(
    session: Session,
    alert_id: int,
    *,
    scope: promotions.Scope,
    shown: str,
    actor: Actor,
    approvers: Collection[str],
    terms: Terms,
) -> Decided:
    """Carries out the rollback that an alert proposes: one person's click asks for it and confirms it.

    Where it would leave other shares than were `shown` (their mark), nothing is done and the card is redrawn.

    Raises:
        Refused: where the alert has ended or proposes nothing, or this person may not confirm it.
    """
    alert, place = alerts.open_one(session, alert_id)
    if alert.variant_id is None:
        raise Refused("This alert is not about one candidate alone, so there is nothing to roll back from here.")
    if not alerts.is_as_shown(session, place, alert, scope, shown):
        return Decided("redrawn", "The shares have changed since this card was drawn. Look again, then decide.")
    wish = Ask("rollback", place.id, reason=alert.why, variant=alert.variant_id, scope=scope)
    request = ask(session, wish, requester=actor.id, terms=terms)
    decided = approve(session, request.id, actor=actor, approvers=approvers, terms=terms)
    if decided.outcome != "applied":
        return decided
    return Decided(
        "applied", f"{alert.variant} is rolled back: the shares of {place.name} are changed, MLflow follows."
    )


def _note_decision(session: Session, request: Request, actor: Actor, decision: str) -> None:
    if session.get(Approval, (request.id, actor.id)) is not None:
        raise Refused("You have decided on this already.")
    session.add(Approval(request_id=request.id, person=actor.id, decision=decision))
    session.flush()


def _close(session: Session, request: Request, state: str, *, by: str, why: str | None) -> None:
    request.state = state
    request.decided_by = by
    request.decision_reason = why
    request.decided_at = func.now()
    session.flush()
    rollouts.touch(session, request.experiment_id)


def check_may_reject(session: Session, request_id: int, *, actor: Actor, approvers: Collection[str]) -> None:
    """Passes where the request is open and this person may reject it.

    Raises:
        Refused: where it is closed, or they may not.
    """
    request, _ = _open(session, request_id)
    _may_reject(request, actor, approvers)


def _may_reject(request: Request, actor: Actor, approvers: Collection[str]) -> None:
    against = approval.rejection_objection(
        request.action, requester=request.requester, actor=actor, approvers=approvers
    )
    if against:
        raise Refused(against)


def reject(session: Session, request_id: int, *, actor: Actor, approvers: Collection[str], reason: str) -> Decided:
    """Closes a request without a change; the requester takes it back by rejecting it.

    Raises:
        Refused: without a reason, where the request is closed, or this person may not decide it.
    """
    if not reason.strip():
        raise Refused("Say why you reject it; the person who asked will read it.")
    request, place = _open(session, request_id)
    _may_reject(request, actor, approvers)
    state: Literal["withdrawn", "rejected"] = "withdrawn" if actor.id == request.requester else "rejected"
    _note_decision(session, request, actor, "reject")
    _close(session, request, state, by=actor.id, why=reason.strip())
    number = _record(session, place, request, actor=actor.id, action="reject", reason=reason.strip())
    outbox.put_card(session, request_id=request.id, why=state)
    outbox.put_notice(session, ledger_id=number)
    return Decided(state, f"Request #{request.id} is {state}. Nothing was changed.")
