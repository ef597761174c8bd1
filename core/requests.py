"""Asking for a change: what a request shows, and that there is one open at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import (
    bindings,
    freezes,
    ledger,
    outbox,
    plans,
    recommendations,
    rollouts,
)
from core.errors import Refused
from core.plans import Ask, Look, Plan
from core.rules import approval
from core.rules.approval import Actor, Roles
from core.rules.decision import AllTerms, Terms
from core.tables import Experiment, Request
from core.variants import find_experiment, variants


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


def is_measured(wish: Ask) -> bool:
    """True where a request rests on a look at the numbers, which takes longer than people wait for an answer."""
    return plans.ACTIONS[wish.action].is_measured


def measure(session: Session, wish: Ask, *, terms: AllTerms) -> None:
    """Makes the look that a request rests on, in a transaction of its own: what was looked at counts as looked at,
    also where the request is then refused.

    Raises:
        IsFrozen: where nothing is to be asked for at the moment.
    """
    check_not_frozen(session, find_experiment(session, wish.experiment, lock=False), wish.action, terms)
    plans.look_at(session, wish, terms)


def check_not_frozen(session: Session, place: Experiment, action: str, terms: AllTerms) -> None:
    if plans.ACTIONS[action].waits_for_thaw:
        freezes.check(session, place, terms)


def check_may_ask(session: Session, wish: Ask, *, actor: Actor, roles: Roles) -> None:
    """Passes where this person may ask for such a change.

    Raises:
        Refused: where they may not, or there is no such experiment.
    """
    place = find_experiment(session, wish.experiment, lock=False)
    against = approval.asking_objection(wish.action, experiment=place.name, actor=actor, roles=roles)
    if against:
        raise Refused(against)


def ask(session: Session, wish: Ask, *, requester: str, terms: AllTerms) -> Request:
    """Opens a request with the shares and the checklist as they stand, and asks for its card to be posted.

    Raises:
        Refused: where the change is not possible or needs a reason, the experiment is frozen, or another request of it
            is open.
    """
    action = plans.ACTIONS[wish.action]
    wish = replace(wish, reason=_said(wish.reason), override=_said(wish.override))
    if action.needs_reason and not wish.reason:
        raise Refused(f"Say why: add `because` and the reason to the {wish.action}.")
    look = plans.look_at(session, wish, terms) if action.is_measured else None
    place = find_experiment(session, wish.experiment)
    own = terms.of(place.name)
    check_not_frozen(session, place, wish.action, own)
    plan = action.plan(session, place, wish, look, own)
    _objections(plan, wish)
    request = Request(
        experiment_id=place.id,
        action=wish.action,
        requester=requester,
        reason=wish.reason,
        override=wish.override if plan.objections else None,
        expires_at=func.now() + own.quorums.expires_after,
    )
    draw(session, place, request, plan, own)
    _make_way(session, place, request, replaces=wish.replaces)
    session.add(request)
    session.flush()
    why = request.override or request.reason
    record(session, place, request, actor=requester, action="request", reason=why, look=look)
    outbox.put_card(session, request_id=request.id, why="opened")
    rollouts.touch(session, place.id)
    return request


def draw(session: Session, place: Experiment, request: Request, plan: Plan, terms: Terms) -> None:
    """What the card shows from now on, and with it what approvals are given for."""
    request.params, request.changes = plan.params, _changes(session, place, plan.after)
    request.checklist = [asdict(row) for row in plan.checklist]
    bindings.bind(session, place, request, plan, terms)


def _make_way(session: Session, place: Experiment, wanted: Request, *, replaces: bool) -> None:
    """There is one open request at a time. A newer one of the same person takes its place, but for that of a rollback,
    and so does a rollback, which does not wait for others; anybody else has to say so."""
    query = select(Request).where(Request.experiment_id == place.id, Request.state == "open")
    found = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if found is None:
        return
    goes_first = wanted.action == "rollback" and found.action != "rollback"
    if _is_same(found, wanted):
        raise Refused(f"You have asked for just this already: request #{found.id} is still open.")
    is_own = found.requester == wanted.requester and (found.action != "rollback" or wanted.action == "rollback")
    if not (goes_first or replaces or is_own):
        raise Refused(
            f"Request #{found.id} ({found.action}) of {place.name} is still open, there is one at a time. "
            "Have it approved or rejected first, or add `instead` to replace it by yours."
        )
    why = "A rollback was asked for, which goes first." if goes_first else "A newer request took its place."
    close(session, found, "superseded", by=wanted.requester, why=why)
    record(session, place, found, actor=wanted.requester, action="supersede", reason=why)
    outbox.put_card(session, request_id=found.id, why="superseded")


def closed_for(session: Session, request_id: int) -> int | None:
    """The request that another one took the place of when it was asked for."""
    made = session.get_one(Request, request_id)
    is_about = Request.experiment_id == made.experiment_id, Request.state == "superseded"
    return session.scalar(select(Request.id).where(*is_about, Request.decided_at == made.created_at))


_EVIDENCE = ("verdict", "why", "findings")


def _is_same(found: Request, wanted: Request) -> bool:
    """True where somebody asks again for what they have asked for, whatever was measured meanwhile."""

    def wish(request: Request) -> tuple[object, ...]:
        params = {key: value for key, value in request.params.items() if key not in _EVIDENCE}
        return request.requester, request.action, request.reason, request.override, params, request.changes

    return wish(found) == wish(wanted)


def record(
    session: Session,
    place: Experiment,
    request: Request,
    *,
    actor: str,
    action: str,
    reason: str | None = None,
    look: Look | None = None,
    approvals: Sequence[str] | None = None,
) -> int:
    """Appends what happened to a request, with its checklist as whoever did it saw it, and the look it now rests on.

    `approvals` are those that it had, where it was carried out without enough of them.
    """
    rests_on = {"verdict": recommendations.keep_evidence(session, look.standing)} if look else {}
    lacks = {} if approvals is None else {"approvals": list(approvals), "needed": request.needed}
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
        evidence={"params": request.params, "checklist": request.checklist, **rests_on, **lacks},
    )
    return entry.id


def close(session: Session, request: Request, state: str, *, by: str, why: str | None) -> None:
    request.state = state
    request.decided_by = by
    request.decision_reason = why
    request.decided_at = func.now()
    session.flush()
    rollouts.touch(session, request.experiment_id)
