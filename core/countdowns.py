"""Countdowns: what an owner has signed happens at the end of one, in sight of everybody, unless somebody answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from core import alerts, approvals, db, ledger, outbox, requests, signatures
from core.errors import Refused
from core.plans import Ask
from core.promotions import Scope
from core.rules import approval, chain, returns
from core.rules.approval import Actor, Roles
from core.rules.decision import AllTerms
from core.rules.returns import Case, Signed
from core.tables import Alert, Countdown, Experiment, Message, Request, SafetySignature
from core.variants import find_experiment

SCOPE: Final[Scope] = "previous"
FAILED = "The return was signed, but it cannot be carried out: {why} Nothing was changed."


def to_tend(session: Session) -> list[int]:
    """The alerts about which something may have to be done: critical ones of candidates, and those with a countdown."""
    runs = select(Countdown.alert_id).where(Countdown.state == "running")
    is_harm = (Alert.state == "open") & Alert.is_critical & (Alert.whose == "candidate")
    return list(session.scalars(select(Alert.id).where(or_(is_harm, Alert.id.in_(runs))).order_by(Alert.id)))


def tend(session: Session, alert_id: int, *, terms: AllTerms, looks_last: timedelta) -> returns.Step:
    """Takes the next step about one alert: begins, ends or goes on with its countdown, or returns the candidate.

    A look that is older than `looks_last` says nothing about now. The experiment is locked, as in every change, so that
    a click and the end of a countdown have one outcome between them.
    """
    place = _place(session, alert_id)
    alert = session.get_one(Alert, alert_id, with_for_update=True, populate_existing=True)
    row = session.get(Countdown, alert_id, with_for_update=True, populate_existing=True)
    if row is not None and row.state != "running":
        return "rest"
    signed = signatures.of_candidate(session, place, alert.variant_id) if place and alert.variant_id else None
    case, now = _case(session, place, alert, row, signed), db.now_of(session)
    step = returns.next_step(case, now, looks_last=looks_last)
    if row is not None and step in ("drop", "stop"):
        answered_by = alert.ended_by or alert.snoozed_by or _asked_to_roll_back(session, alert) or ledger.BOT
        _end(session, alert, row, by=answered_by, is_final=step == "stop")
    if place is None or signed is None or case.signed is None or case.posted_at is None or step not in ("begin", "act"):
        return step
    if alerts.is_as_shown(session, place, alert, SCOPE, row.mark if row else "") and step == "act" and row is not None:
        _return(session, place, alert, row, signed, terms)
        return step
    # Whoever saw other shares on the card is shown these first, for as long as it takes to press Stop.
    _begin(session, alert, row, signed, returns.deadline(case.posted_at, case.signed, now))
    return "begin"


def _place(session: Session, alert_id: int) -> Experiment | None:
    """The experiment of an alert, locked; None where it was deleted."""
    try:
        return find_experiment(session, session.get_one(Alert, alert_id).experiment_id)
    except Refused:
        return None


def _case(
    session: Session, place: Experiment | None, alert: Alert, row: Countdown | None, signed: SafetySignature | None
) -> Case:
    message = session.get(Message, alerts.message_key(alert.id), populate_existing=True)
    is_active = place is not None and place.status == "active" and alert.state == "open"
    return Case(
        is_harm=is_active and alert.is_critical and alert.whose == "candidate",
        is_answered=alert.snoozed_by is not None or _asked_to_roll_back(session, alert) is not None,
        is_holding=alert.quiet_at is None or alert.quiet_at < alert.seen_at,
        seen_at=alert.seen_at,
        posted_at=message.posted_at if message else None,
        in_sight_since=outbox.done_at(session, row.drawn_by) if row else None,
        signed=Signed(signed.at, signatures.MINUTE * signed.minutes) if signed else None,
        returns_at=row.returns_at if row else None,
        is_as_signed=row is not None and signed is not None and row.signature_id == signed.id,
    )


def _asked_to_roll_back(session: Session, alert: Alert) -> str | None:
    """Who has asked to roll back what the alert is about, and waits for a decision."""
    asked = Request.experiment_id == alert.experiment_id, Request.state == "open", Request.action == "rollback"
    is_about_it = Request.params["variant_id"].astext == str(alert.variant_id)
    return session.scalar(select(Request.requester).where(*asked, is_about_it).limit(1))


def _begin(session: Session, alert: Alert, row: Countdown | None, signed: SafetySignature, returns_at: object) -> None:
    """Begins a countdown, or begins it anew; without shares to return to there is none."""
    changes = alert.proposals.get(SCOPE, {})
    if alert.variant not in changes:
        if row is not None:
            _end(session, alert, row, by=ledger.BOT, is_final=False)
        return
    before, after = changes[alert.variant]
    values = {
        "signature_id": signed.id,
        "share_before": before,
        "share_after": after,
        "mark": chain.mark(changes),
        "returns_at": returns_at,
        "drawn_by": "",  # what draws it names the row of the record, which names when it returns
    }
    found = session.merge(Countdown(alert_id=alert.id, state="running", **values))
    session.flush()
    session.refresh(found)
    found.drawn_by = _tell(session, alert, found, "countdown", by=ledger.BOT)
    session.flush()


def _end(session: Session, alert: Alert, row: Countdown, *, by: str, is_final: bool) -> None:
    """Ends a countdown: for good, because somebody answered; or until the trouble is there again."""
    _tell(session, alert, row, "stop countdown" if is_final else "drop countdown", by=by)
    if is_final:
        row.state, row.ended_at, row.ended_by = "stopped", func.now(), by
    else:
        session.delete(row)
    session.flush()


def _return(
    session: Session, place: Experiment, alert: Alert, row: Countdown, signed: SafetySignature, terms: AllTerms
) -> None:
    """Does what was signed; where that is not possible, nothing is changed and people are told."""
    wish = Ask("rollback", place.id, reason=alert.why, variant=alert.variant_id, scope=SCOPE)
    try:
        with session.begin_nested():
            request = requests.ask(session, wish, requester=signed.signed_by, terms=terms)
            request.signature_id = signed.id
            approvals.return_as_signed(session, place, request, terms=terms.of(place.name))
    except Refused as refused:
        row.state, row.ended_at, row.why = "failed", func.now(), FAILED.format(why=refused)
        _tell(session, alert, row, "fail countdown", by=ledger.BOT, reason=row.why)
    else:
        row.state, row.ended_at = "done", func.now()
    session.flush()


def stop(session: Session, alert_id: int, *, actor: Actor, roles: Roles) -> str:
    """Stops the countdown of an alert for good; from then on it waits for a click like any other. Returns the variant.

    Raises:
        Refused: where the alert has ended, no countdown runs, or this person may not.
    """
    alert, place = alerts.open_one(session, alert_id)
    against = approval.stopping_objection(place.name, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    row = session.get(Countdown, alert_id, with_for_update=True, populate_existing=True)
    if row is None or row.state != "running":
        raise Refused("No countdown runs on this alert any more. Its card shows why.")
    _end(session, alert, row, by=actor.id, is_final=True)
    return alert.variant or "the candidate"


def _tell(session: Session, alert: Alert, row: Countdown, action: str, *, by: str, reason: str | None = None) -> str:
    """Records a step of a countdown and has the card follow; returns the key of the effect that draws it."""
    entry = ledger.record(
        session,
        actor=by,
        action=action,
        subject=alert.variant or "the candidate",
        experiment_id=alert.experiment_id,
        reason=reason,
        after={"alert": alert.id, "signature": row.signature_id, "returns_at": row.returns_at.isoformat()},
        evidence={"why": alert.why, "shares": alert.proposals.get(SCOPE, {})},
    )
    return alerts.redraw(session, alert, f"ledger-{entry.id}")
