"""Deciding on a request: every change of shares or stages passes through here."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import alerts, db, ledger, outbox, plans, promotions, redrawing, requests, signatures
from core.errors import Refused
from core.freezes import IsFrozen
from core.plans import Ask
from core.rules import approval
from core.rules.approval import RIGHTS, Actor, Roles
from core.rules.decision import AllTerms, Terms
from core.tables import Approval, Experiment, Request
from core.variants import find_experiment

# --- Deciding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What a click came to, in one sentence for the person who clicked."""

    outcome: Literal["applied", "counted", "rejected", "withdrawn", "redrawn", "expired"]
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


def approve(session: Session, request_id: int, *, shown: str, actor: Actor, roles: Roles, terms: AllTerms) -> Decided:
    """Counts one person's approval of what was `shown` (its mark), and carries the change out once there are enough.

    Raises:
        Refused: where the request is closed, this person may not approve it, or the experiment is frozen: then the
            click counts for nothing and the request stays open.
    """
    request, place = _open(session, request_id)
    approvers = roles.approvers_of(place.name)
    against = approval.objection(request.action, requester=request.requester, actor=actor, approvers=approvers)
    if against:
        raise Refused(against)
    if _is_over(session, request):
        return Decided("expired", _expire(session, place, request))
    own = terms.of(place.name)
    requests.check_not_frozen(session, place, request.action, own)
    if said := redrawing.overtaken(session, place, request, shown, own):
        return Decided("redrawn", said)
    _note_decision(session, request, actor, "approve")
    missing = request.needed - len(_given(session, request, approvers))
    number = requests.record(session, place, request, actor=actor.id, action="approve")
    if missing > 0:
        outbox.put_card(session, request_id=request.id, why=f"ledger-{number}")
        return Decided("counted", f"Your approval counts. {missing} more needed.")
    requests.close(session, request, "applied", by=actor.id, why=None)
    _carry_out(session, place, request, actor.id, own)
    outbox.put_notice(session, ledger_id=number)
    return Decided("applied", f"Approved. {place.name} is changed.")


def _given(session: Session, request: Request, approvers: frozenset[str]) -> list[str]:
    """Who has approved what the card shows; the approval of somebody who is no approver any more has lapsed."""
    query = select(Approval).where(
        Approval.request_id == request.id, Approval.mark == request.mark, Approval.decision == "approve"
    )
    given = list(session.scalars(query.order_by(Approval.at, Approval.person)))
    for one in given:
        if RIGHTS[request.action].needs_approver and one.person not in approvers:
            one.decision = "lapsed"
    session.flush()
    return [one.person for one in given if one.decision == "approve"]


def _carry_out(session: Session, place: Experiment, request: Request, by: str, terms: Terms) -> None:
    plans.ACTIONS[request.action].apply(session, place, request, by, terms)
    signatures.bind(session, place, request)
    _tell_of_change(session, place, request, by)
    outbox.put_card(session, request_id=request.id, why="applied")


def _tell_of_change(session: Session, place: Experiment, request: Request, by: str) -> None:
    """What people follow is brought in line with the new shares; alerts that this answers end."""
    if any(change["before"] != change["after"] for change in request.changes):
        rolled_back = uuid.UUID(request.params["variant_id"]) if request.action == "rollback" else None
        answer: Literal["confirmed", "returned"] = "returned" if request.signature_id is not None else "confirmed"
        alerts.settle(session, place, variant_id=rolled_back, by=by, request_id=request.id, answer=answer)
        outbox.put_follow(session, experiment_id=place.id, why=f"request-{request.id}")


def return_as_signed(session: Session, place: Experiment, request: Request, *, terms: Terms) -> None:
    """Carries out a rollback for which a signature stands; the database looks whether it does, and nobody clicked.

    Raises:
        Refused: where it is not possible any more.
    """
    number = requests.record(session, place, request, actor=ledger.BOT, action="return as signed")
    requests.close(session, request, "applied", by=ledger.BOT, why=None)
    _carry_out(session, place, request, ledger.BOT, terms)
    outbox.put_notice(session, ledger_id=number)


def confirm(
    session: Session,
    alert_id: int,
    *,
    scope: promotions.Scope,
    shown: str,
    actor: Actor,
    roles: Roles,
    terms: AllTerms,
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
    request = requests.ask(session, wish, requester=actor.id, terms=terms)
    decided = approve(session, request.id, shown=request.mark, actor=actor, roles=roles, terms=terms)
    if decided.outcome != "applied":
        return decided
    return Decided(
        "applied", f"{alert.variant} is rolled back: the shares of {place.name} are changed, MLflow follows."
    )


def _note_decision(session: Session, request: Request, actor: Actor, decision: str) -> None:
    found = session.get(Approval, (request.id, actor.id, request.mark))
    if found is None:
        session.add(Approval(request_id=request.id, person=actor.id, mark=request.mark, decision=decision))
    elif found.decision == decision:
        raise Refused("You have decided on this already.")
    else:  # it lapsed, or somebody who approved thinks better of it
        found.decision = decision
    session.flush()


def check_may_reject(session: Session, request_id: int, *, actor: Actor, roles: Roles) -> None:
    """Passes where the request is open and this person may reject it.

    Raises:
        Refused: where it is closed, or they may not.
    """
    request, place = _open(session, request_id)
    _may_reject(request, place, actor, roles)


def check_may_withdraw(session: Session, request_id: int, *, actor: Actor) -> None:
    """Passes where the request is open and this person asked for it.

    Raises:
        Refused: where it is closed, or somebody else asked.
    """
    request, _ = _open(session, request_id)
    if actor.id != request.requester:
        raise Refused("Only whoever asked for this takes it back. An approver may reject it.")


def _may_reject(request: Request, place: Experiment, actor: Actor, roles: Roles) -> None:
    approvers = roles.approvers_of(place.name)
    against = approval.rejection_objection(
        request.action, requester=request.requester, actor=actor, approvers=approvers
    )
    if against:
        raise Refused(against)


def reject(session: Session, request_id: int, *, actor: Actor, roles: Roles, reason: str) -> Decided:
    """Closes a request without a change; the requester takes it back by rejecting it.

    Raises:
        Refused: without a reason, where the request is closed, or this person may not decide it.
    """
    if not reason.strip():
        raise Refused("Say why you reject it; the person who asked will read it.")
    request, place = _open(session, request_id)
    _may_reject(request, place, actor, roles)
    state: Literal["withdrawn", "rejected"] = "withdrawn" if actor.id == request.requester else "rejected"
    _note_decision(session, request, actor, "reject")
    requests.close(session, request, state, by=actor.id, why=reason.strip())
    number = requests.record(session, place, request, actor=actor.id, action="reject", reason=reason.strip())
    outbox.put_card(session, request_id=request.id, why=state)
    outbox.put_notice(session, ledger_id=number)
    return Decided(state, f"Request #{request.id} is {state}. Nothing was changed.")


# --- Breaking the glass ---------------------------------------------------------------------------------------------


def check_may_break_glass(
    session: Session, request_id: int, *, shown: str | None = None, actor: Actor, roles: Roles, terms: AllTerms
) -> Decided | None:
    """Passes where this person may carry out the request without its approvals; what it comes to where it is overtaken.

    `shown` is the mark of what they saw; None where they saw nothing of it yet.

    Raises:
        Refused: where it is closed, they may not, or the experiment is frozen.
    """
    request, place = _open(session, request_id)
    own = terms.of(place.name)
    return _held_glass(session, place, request, shown or request.mark, actor=actor, roles=roles, terms=own)


def _held_glass(
    session: Session, place: Experiment, request: Request, shown: str, *, actor: Actor, roles: Roles, terms: Terms
) -> Decided | None:
    against = approval.breaking_objection(request.action, experiment=place.name, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    if _is_over(session, request):
        return Decided("expired", _expire(session, place, request))
    _check_not_frozen(session, place, request, terms)
    said = redrawing.overtaken(session, place, request, shown, terms)
    return Decided("redrawn", said) if said else None


def _check_not_frozen(session: Session, place: Experiment, request: Request, terms: Terms) -> None:
    """A freeze is the stronger switch: who breaks the glass is told that it does not end one."""
    try:
        requests.check_not_frozen(session, place, request.action, terms)
    except IsFrozen as held:
        way = "Unfreeze it first." if held.frozen.window is None else "Wait for its end."
        raise Refused(f"{held.frozen.sentence} Breaking the glass does not end a freeze. {way}") from None


def break_glass(
    session: Session, request_id: int, *, shown: str, reason: str, actor: Actor, roles: Roles, terms: AllTerms
) -> Decided:
    """Carries out what an owner was `shown` (its mark) without its approvals, and has it announced aloud.

    Raises:
        Refused: without a reason, where the request is closed, this person may not, or the experiment is frozen.
    """
    why = reason.strip()
    if not approval.says_why(why):
        raise Refused("Say why in a few words; everybody who was not asked will read it.")
    request, place = _open(session, request_id)
    own = terms.of(place.name)
    if held := _held_glass(session, place, request, shown, actor=actor, roles=roles, terms=own):
        return held
    had = _given(session, request, roles.approvers_of(place.name))
    requests.record(session, place, request, actor=actor.id, action="break glass", reason=why, approvals=had)
    request.is_glass_broken = True
    requests.close(session, request, "applied", by=actor.id, why=why)
    _carry_out(session, place, request, actor.id, own)
    for where in ANNOUNCED_IN:
        key = f"glass:{request.id}:{where}"
        number = request.id
        outbox.put(session, kind="glass", subject=key, key=key, request_id=number, request=number, where=where)
    return Decided("applied", f"Request #{request.id} is carried out. {place.name} is changed.")


ANNOUNCED_IN: Final = ("approvals", "rollouts")
"""The channels that are told of broken glass."""


# --- When nobody decides --------------------------------------------------------------------------------------------


def _is_over(session: Session, request: Request) -> bool:
    return request.expires_at <= db.now_of(session)


def _expire(session: Session, place: Experiment, request: Request) -> str:
    hours = (request.expires_at - request.created_at) / timedelta(hours=1)
    why = f"It was not decided within {hours:.0f} hours."
    requests.close(session, request, "expired", by=ledger.BOT, why=why)
    requests.record(session, place, request, actor=ledger.BOT, action="expire", reason=why)
    outbox.put_card(session, request_id=request.id, why="expired")
    return f"Request #{request.id} has expired. {why} Nothing was changed; ask for it anew."


def overdue(session: Session) -> list[int]:
    """The open requests whose time is over."""
    query = select(Request.id).where(Request.state == "open", Request.expires_at <= func.now())
    return list(session.scalars(query.order_by(Request.id)))


def expire(session: Session, request_id: int) -> None:
    """Closes a request whose time is over, where nobody has decided it meanwhile."""
    try:
        request, place = _open(session, request_id)
    except Refused:
        return
    if _is_over(session, request):
        _expire(session, place, request)


def remind(session: Session, before: timedelta) -> None:
    """Asks once for a reminder of each open request that expires so soon."""
    query = select(Request.id).where(
        Request.state == "open", Request.expires_at > func.now(), Request.expires_at <= func.now() + before
    )
    for number in session.scalars(query.order_by(Request.id)):
        key, lane = f"reminder:{number}", outbox.card_key(number)
        outbox.put(session, kind="reminder", subject=lane, key=key, request_id=number, request=number)
