"""Rows -> the frozen values that people are shown. Nothing here knows how they look."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core import erasure, freezes, ledger, outbox, plans, signatures
from core.errors import Refused
from core.freezes import Frozen
from core.rules.decision import AllTerms, CheckRow
from core.signatures import Signature
from core.tables import Alert, Approval, Experiment, LedgerEntry, Message, Request
from core.variants import find_experiment


@dataclass(frozen=True)
class Change:
    """One variant's share before and after, as fractions of 1."""

    variant: str
    before: Decimal
    after: Decimal


@dataclass(frozen=True)
class Progress:
    """Something that follows a decision: done, or on its way with the last error."""

    what: str
    is_done: bool
    error: str | None = None


@dataclass(frozen=True)
class RequestCard:
    """A request as its card shows it."""

    id: int
    experiment: str
    action: str
    subject: str
    state: str
    requester: str
    reason: str | None
    override: str | None
    changes: tuple[Change, ...]
    checklist: tuple[CheckRow, ...]
    params: Mapping[str, Any]
    needed: int
    approvals: tuple[str, ...]
    """Who has approved what the card shows now, in order."""
    mark: str
    """Comes back with a click, so that it counts for nothing else than what was shown."""
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    progress: tuple[Progress, ...]
    is_glass_broken: bool = False
    """True where an owner had it carried out without its approvals."""
    is_as_signed: bool = False
    """True where it was carried out at the end of a countdown, without a click."""
    signature: Signature | None = None
    """What is signed for the candidate that it starts."""


@dataclass(frozen=True)
class Answered:
    """The alerts that a rollback answered, and the variant that they were about."""

    variant: str
    alerts: tuple[int, ...]


@dataclass(frozen=True)
class HistoryLine:
    """One row of the record; `answered` where it is the approval of a rollback that answered alerts."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    experiment: str | None
    request_id: int | None
    reason: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    answered: Answered | None = None


@dataclass(frozen=True)
class Place:
    """Where a card stands in the chat."""

    channel: str
    ts: str


# --- Requests -------------------------------------------------------------------------------------------------------


def _subject(request: Request) -> str:
    """What a request is about: the variant whose share it decides."""
    if request.action == "retire":
        return ", ".join(request.params["names"])
    wanted = request.params.get("variant_id")
    for change in request.changes:
        if wanted == change["variant_id"] and (wanted or change["after"] != "0"):
            return str(change["variant"])
    return next(str(c["variant"]) for c in request.changes if c["before"] != c["after"])


def _progress(session: Session, request: Request) -> tuple[Progress, ...]:
    if request.state != "applied":
        return ()
    parts = [Progress("Shares in the database", True)]
    if request.params.get("mode") == "delete":
        parts.append(_part(session, request, erasure.KIND, "Rows of what is deleted"))
    elif request.action not in ("increase", "retire"):
        parts.append(_part(session, request, "registry", "MLflow tags and alias"))
    return tuple(parts)


def _part(session: Session, request: Request, kind: str, what: str) -> Progress:
    waiting = [effect for effect in outbox.pending(session, request_id=request.id) if effect.kind == kind]
    return Progress(what, not waiting, next((e.last_error for e in waiting), None))


def _approvals(session: Session, request: Request) -> tuple[str, ...]:
    query = select(Approval.person).where(
        Approval.request_id == request.id, Approval.mark == request.mark, Approval.decision == "approve"
    )
    return tuple(session.scalars(query.order_by(Approval.at, Approval.person)))


def has_request(session: Session, request_id: int | None) -> bool:
    """False where there was never one of that number, or it was deleted with its experiment."""
    return session.get(Request, request_id, populate_existing=True) is not None if request_id else False


def request_card(session: Session, request_id: int) -> RequestCard:
    """One request as it is now.

    Raises:
        Refused: where there is none of that number.
    """
    request = session.get(Request, request_id, populate_existing=True)
    if request is None:
        raise Refused(f"There is no request #{request_id}.")
    experiment = session.get_one(Experiment, request.experiment_id)
    return RequestCard(
        id=request.id,
        experiment=experiment.name,
        action=request.action,
        subject=_subject(request),
        state=request.state,
        requester=request.requester,
        reason=request.reason,
        override=request.override,
        changes=tuple(Change(c["variant"], Decimal(c["before"]), Decimal(c["after"])) for c in request.changes),
        checklist=tuple(CheckRow(**row) for row in request.checklist),
        params=request.params,
        needed=request.needed,
        approvals=_approvals(session, request),
        mark=request.mark,
        created_at=request.created_at,
        expires_at=request.expires_at,
        decided_at=request.decided_at,
        decided_by=request.decided_by,
        decision_reason=request.decision_reason,
        progress=_progress(session, request),
        is_glass_broken=request.is_glass_broken,
        is_as_signed=request.signature_id is not None,
        signature=signatures.shown(signatures.of_request(session, request.id)),
    )


def request_frozen(session: Session, request_id: int, *, terms: AllTerms) -> Frozen | None:
    """What freezes an open request at the moment; None where nothing does."""
    request = session.get_one(Request, request_id)
    if request.state != "open" or not plans.ACTIONS[request.action].waits_for_thaw:
        return None
    return freezes.frozen(session, session.get_one(Experiment, request.experiment_id), terms)


def open_requests(session: Session) -> list[RequestCard]:
    """The requests that wait for a decision, oldest first."""
    found = session.scalars(select(Request.id).where(Request.state == "open").order_by(Request.id))
    return [request_card(session, number) for number in found]


def asked_by(session: Session, person: str) -> frozenset[str]:
    """The names of the experiments in which somebody has asked for a change that was not turned down."""
    query = select(Experiment.name).join(Request, Request.experiment_id == Experiment.id)
    return frozenset(session.scalars(query.where(Request.requester == person, Request.state.in_(("open", "applied")))))


# --- The record -----------------------------------------------------------------------------------------------------

NO_ANSWERS: Mapping[int, Answered] = {}


def _history_line(
    entry: LedgerEntry, experiment: str | None, answers: Mapping[int, Answered] = NO_ANSWERS
) -> HistoryLine:
    return HistoryLine(
        entry.id,
        entry.at,
        entry.actor,
        entry.action,
        entry.subject,
        experiment,
        entry.request_id,
        entry.reason,
        entry.before or {},
        entry.after or {},
        answers.get(entry.request_id) if entry.request_id is not None and entry.action == "approve" else None,
    )


def _answers(session: Session, entries: Collection[LedgerEntry]) -> dict[int, Answered]:
    """By request, the alerts that it answered."""
    numbers = {entry.request_id for entry in entries if entry.action == "approve"}
    query = select(Alert).where(Alert.request_id.in_(numbers), Alert.state == "confirmed").order_by(Alert.id)
    found: dict[int, Answered] = {}
    for alert in session.scalars(query):
        if alert.request_id is not None:
            before = found[alert.request_id].alerts if alert.request_id in found else ()
            found[alert.request_id] = Answered(alert.variant or "?", (*before, alert.id))
    return found


def history(session: Session, experiment: str | uuid.UUID, *, limit: int = 15) -> list[HistoryLine]:
    """What happened to an experiment, newest first.

    Raises:
        Refused: where there is no such experiment.
    """
    place = find_experiment(session, experiment, lock=False)
    found = ledger.entries(session, experiment_id=place.id, limit=limit)
    answers = _answers(session, found)
    return [_history_line(entry, place.name if entry.experiment_id else None, answers) for entry in found]


def tenures(session: Session, experiment: str | uuid.UUID) -> list[ledger.Tenure]:
    """Which version an experiment had in production when, newest first.

    Raises:
        Refused: where there is no such experiment.
    """
    return ledger.tenures(session, find_experiment(session, experiment, lock=False).id)


DECISIONS = (
    "approve",
    "break glass",
    "reject",
    "hold",
    "alert dismissed",
    "pause",
    "resume",
    "freeze",
    "unfreeze",
    "sign safety",
    "withdraw safety",
    "stop countdown",
    "return as signed",
    "adopt",
    "revert",
)


def decisions(session: Session, *, limit: int) -> list[HistoryLine]:
    """What people decided last, in any experiment, newest first."""
    query = select(LedgerEntry, Experiment.name).outerjoin(Experiment, Experiment.id == LedgerEntry.experiment_id)
    newest = query.where(LedgerEntry.action.in_(DECISIONS)).order_by(LedgerEntry.id.desc()).limit(limit)
    found = session.execute(newest).all()
    answers = _answers(session, [entry for entry, _ in found])
    return [_history_line(entry, name, answers) for entry, name in found]


@dataclass(frozen=True)
class News:
    """One row of the record for telling it, with the request that it decided."""

    line: HistoryLine
    request: RequestCard | None


def notice(session: Session, ledger_id: int) -> News:
    """One row of the record, for telling it."""
    entry = session.get_one(LedgerEntry, ledger_id)
    place = session.get(Experiment, entry.experiment_id) if isinstance(entry.experiment_id, uuid.UUID) else None
    # A request goes with its experiment where that is deleted; the record of it stays.
    asked = session.get(Request, entry.request_id) if entry.request_id is not None else None
    request = request_card(session, asked.id) if asked else None
    return News(_history_line(entry, place.name if place else None), request)


# --- Where cards stand ----------------------------------------------------------------------------------------------


def place_of(session: Session, key: str) -> Place | None:
    """Where the card of that key was posted, or None where it was not yet."""
    found = session.get(Message, key)
    return Place(found.channel, found.ts) if found else None


PLACES_LOOKED_AT = 2
"""Of a card that goes on in a new message each day: what was tried yesterday may be tried again today."""


def places_of(session: Session, prefix: str) -> list[Place]:
    """Where the newest messages with a key that begins like this were posted."""
    query = select(Message).where(Message.key.startswith(prefix)).order_by(Message.posted_at.desc())
    return [Place(found.channel, found.ts) for found in session.scalars(query.limit(PLACES_LOOKED_AT))]


def has_stood(session: Session, prefix: str) -> bool:
    """True where a message with a key that begins like this was ever posted."""
    return session.scalar(select(Message.key).where(Message.key.startswith(prefix)).limit(1)) is not None


def forget_place(session: Session, key: str) -> None:
    """What was posted there is drawn no more."""
    session.execute(delete(Message).where(Message.key == key))


def remember_place(session: Session, key: str, place: Place) -> None:
    """Keeps where a card was posted."""
    session.merge(Message(key=key, channel=place.channel, ts=place.ts))
