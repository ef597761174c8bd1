"""Alerts: one open per experiment and cause, what people do to it, and who is told where nobody does anything."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db, ledger, outbox, promotions, rollouts
from core.errors import Refused
from core.rules import chain
from core.tables import Alert, Experiment, Variant
from core.variants import find_experiment, named_shares, shares, variants

DISMISSED_FOR: Final = timedelta(hours=24)
"""How long a dismissed cause stays quiet, unless the shares change."""


# --- Rows -----------------------------------------------------------------------------------------------------------


def open_in(session: Session, experiment_id: uuid.UUID) -> list[Alert]:
    """The open alerts of an experiment, locked."""
    query = select(Alert).where(Alert.experiment_id == experiment_id, Alert.state == "open").order_by(Alert.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def message_key(alert_id: int) -> str:
    """The key of the message in which the card of an alert stands."""
    return f"alert:{alert_id}"


def redraw(session: Session, alert: Alert, why: str) -> str:
    """Asks for the card of an alert to be drawn as things are then; `why` names the occasion, once each.

    Returns the key of the effect.
    """
    message = message_key(alert.id)
    key = f"{message}:{why}"
    outbox.put(session, kind="alert", subject=message, key=key, alert=alert.id)
    return key


def record(session: Session, alert: Alert, action: str, *, by: str, reason: str | None, **more: Any) -> int:
    """Appends what became of an alert, with what it said then; the number of the row."""
    entry = ledger.record(
        session,
        actor=by,
        action=action,
        subject=f"alert {alert.id} {alert.cause}",
        experiment_id=alert.experiment_id,
        reason=reason,
        evidence={"why": alert.why, "numbers": alert.numbers, "proposals": alert.proposals, "looks": alert.looks},
        **more,
    )
    return entry.id


def end(session: Session, alert: Alert, state: str, *, by: str, why: str | None, request_id: int | None = None) -> None:
    """Ends an alert, on record and on its card."""
    alert.state, alert.ended_by, alert.end_reason, alert.request_id = state, by, why, request_id
    alert.ended_at = func.now()
    record(session, alert, f"alert {state}", by=by, reason=why)
    session.flush()
    redraw(session, alert, state)
    rollouts.touch(session, alert.experiment_id)


def end_deleted(session: Session) -> None:
    """Ends what is still open about experiments that were deleted."""
    gone = Alert.experiment_id.not_in(select(Experiment.id))
    for alert in session.scalars(select(Alert).where(Alert.state == "open", gone).with_for_update()):
        end(session, alert, "superseded", by=ledger.BOT, why="The experiment was deleted.")
    rollouts.end_deleted(session)


# --- Deciding -------------------------------------------------------------------------------------------------------


def open_one(session: Session, alert_id: int) -> tuple[Alert, Experiment]:
    """An open alert and its experiment, both locked, the experiment first as in every change.

    Raises:
        Refused: where there is no such alert, or it has ended.
    """
    place_id = session.scalar(select(Alert.experiment_id).where(Alert.id == alert_id))
    if place_id is None:
        raise Refused(f"There is no alert {alert_id}.")
    place = find_experiment(session, place_id)
    alert = session.get_one(Alert, alert_id, with_for_update=True, populate_existing=True)
    if alert.state != "open":
        raise Refused(f"This alert has ended already ({alert.state}). Its card shows by whom.")
    return alert, place


def proposals(session: Session, place: Experiment, failed: Variant) -> dict[str, Any]:
    """The shares after a rollback by what is given back, as pairs before and after by variant; empty without a way."""
    try:
        way = promotions.retreat(session, place, failed, None)
    except Refused:
        return {}
    before = named_shares(session, place)
    names = {v.id: v.name for v in variants(session, place)}
    present: Mapping[str, Decimal] = {names[key]: share for key, share in shares(session, place).items()}
    after = {}
    for scope in get_args(promotions.Scope):
        with suppress(Refused):  # the previous share may be unknown
            kept = promotions.kept_share(session, place, failed, scope)
            after[scope] = promotions.retreat_shares(present, failed.name, way.target_name, scope, kept)
    return {
        scope: {name: [before.get(name, "0"), str(share)] for name, share in wanted.items()}
        for scope, wanted in after.items()
    }


def is_as_shown(session: Session, place: Experiment, alert: Alert, scope: promotions.Scope, shown: str) -> bool:
    """True where a rollback would leave the very shares that were shown, by their mark; else the card is redrawn."""
    failed = next((v for v in variants(session, place) if v.id == alert.variant_id), None)
    now = proposals(session, place, failed) if failed else {}
    if scope in now and chain.mark(now[scope]) == shown:
        return True
    alert.proposals = now
    redraw(session, alert, f"proposal-{db.now_of(session).isoformat()}")
    return False


def settle(
    session: Session,
    place: Experiment,
    *,
    variant_id: uuid.UUID | None,
    by: str,
    request_id: int | None,
    answer: Literal["confirmed", "returned"] = "confirmed",
) -> None:
    """Ends the alerts that a change of shares answers: a rollback of the candidate is the `answer`, anything else puts
    the candidate in another place."""
    for alert in open_in(session, place.id):
        if alert.whose == "candidate":
            is_answer = variant_id is not None and alert.variant_id == variant_id
            state, why = (answer, None) if is_answer else ("superseded", "The shares were changed.")
            end(session, alert, state, by=by, why=why, request_id=request_id)


def dismiss(session: Session, alert_id: int, *, by: str, reason: str) -> Alert:
    """Ends an alert as no reason to act; it stays quiet for a day, unless the shares change.

    Raises:
        Refused: without a reason, or where it has ended.
    """
    if not reason.strip():
        raise Refused("Say why it is no reason to act; whoever sees the next one will read it.")
    alert, _ = open_one(session, alert_id)
    end(session, alert, "dismissed", by=by, why=reason.strip())
    return alert


def snooze(session: Session, alert_id: int, *, by: str, until: datetime) -> Alert:
    """Lets an alert rest: until then nobody is reminded, while the card goes on showing how it stands.

    Raises:
        Refused: where it has ended.
    """
    alert, _ = open_one(session, alert_id)
    alert.snoozed_until, alert.snoozed_by, alert.escalated = until, by, 0
    number = record(session, alert, "snooze", by=by, reason=None, after={"until": until.isoformat()})
    redraw(session, alert, f"snoozed-{number}")
    return alert


# --- When nobody answers --------------------------------------------------------------------------------------------


def escalate(session: Session, after: Sequence[timedelta]) -> int:
    """Takes the next steps for critical alerts that nobody has answered for long enough; returns how many.

    The time counts from the opening, or from the end of the last snooze.
    """
    now = db.now_of(session)
    query = select(Alert).where(Alert.state == "open", Alert.is_critical, Alert.escalated < len(after))
    taken = 0
    for alert in session.scalars(query.order_by(Alert.id).with_for_update(skip_locked=True)):
        since = max(filter(None, (alert.opened_at, alert.snoozed_until)))
        for step in range(alert.escalated, len(after)):
            if now - since < after[step]:
                break
            alert.escalated, taken = step + 1, taken + 1
            key, message = f"escalation:{alert.id}:{since.isoformat()}:{step}", message_key(alert.id)
            outbox.put(session, kind="escalation", subject=message, key=key, alert=alert.id, step=step)
    session.flush()
    return taken


def put_direct(session: Session, alert_id: int, person: str, *, step: int, occasion: str) -> None:
    """Asks for one person on call to be told of an alert in a direct message."""
    key = f"{occasion}:{person}"
    subject = f"person:{person}"
    outbox.put(session, kind="direct", subject=subject, key=key, alert=alert_id, person=person, step=step)
