"""The append-only record of who did what, when, why, with the state before and after."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import event, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from core.tables import LedgerEntry

log = logging.getLogger(__name__)

BOT = "promotion-bot"
"""The actor of what nobody in particular did."""
TOLD_BY_REQUEST = ("start", "increase", "promote", "rollback")


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    experiment_id: uuid.UUID | None = None,
    request_id: int | None = None,
    reason: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> LedgerEntry:
    """Appends one row; `before` and `after` are JSON-able states of the subject, `evidence` is what it rests on."""
    entry = LedgerEntry(
        actor=actor,
        action=action,
        subject=subject,
        experiment_id=experiment_id,
        request_id=request_id,
        reason=reason,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        evidence=None if evidence is None else dict(evidence),
    )
    session.add(entry)
    session.flush()
    _tell_once_committed(session, entry)
    return entry


_RECORDED = "recorded"


def _tell_once_committed(session: Session, entry: LedgerEntry) -> None:
    """Names and numbers alone: why somebody did something is in the record, and stays there."""
    if _RECORDED not in session.info:
        session.info[_RECORDED] = []
        event.listen(session, "after_commit", _log_recorded)
    what = {"action": entry.action, "subject": entry.subject, "by": entry.actor, "request": entry.request_id}
    session.info[_RECORDED].append((entry, {"row": entry.id} | {key: said for key, said in what.items() if said}))


def _log_recorded(session: Session) -> None:
    if session.in_nested_transaction():
        return
    for entry, what in session.info[_RECORDED]:
        if entry in session:  # else it was taken back to a savepoint
            log.info("recorded", extra=what)
    session.info[_RECORDED].clear()


POLICY = "policy"
_POLICY_LOCK = 7_203_444
_ABSENT = object()


def policy_in_force(session: Session) -> Mapping[str, Any]:
    """The way of working of the process that started last; nothing where none has."""
    newest = select(LedgerEntry.evidence).where(LedgerEntry.action == POLICY).order_by(LedgerEntry.id.desc()).limit(1)
    return session.scalar(newest) or {}


def differing_from(session: Session, policy: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of which a way of working has other values than the one in force."""
    known = policy_in_force(session)
    return tuple(sorted(key for key in {**known, **policy} if known.get(key, _ABSENT) != policy.get(key, _ABSENT)))


def record_policy(session: Session, policy: Mapping[str, Any]) -> LedgerEntry | None:
    """Appends a row where the way of working is another than the last on record; None where it is the same.

    `before` and `after` have only what differs; `evidence` has all of it. Processes that start at once wait for each
    other, so that a change is recorded once.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POLICY_LOCK})
    known, differing = policy_in_force(session), differing_from(session, policy)
    if not differing:
        return None
    return record(
        session,
        actor=BOT,
        action=POLICY,
        subject="the configuration",
        before={key: known[key] for key in differing if key in known},
        after={key: policy[key] for key in differing if key in policy},
        evidence=policy,
    )


def newest_reason(session: Session, *, request_id: int, action: str) -> str | None:
    """Why something was done last to a request; None where it never was."""
    query = select(LedgerEntry.reason).where(LedgerEntry.request_id == request_id, LedgerEntry.action == action)
    return session.scalar(query.order_by(LedgerEntry.id.desc()).limit(1))


Pauses = Sequence[tuple[datetime, datetime]]
GONE: Final = "discrepancy gone"
DECIDED_HERE: Final = ("pause", "resume")
STATUS_FROM_THEN_ON: Final[Mapping[str, str]] = {
    "pause": "after",
    "resume": "after",
    "discrepancy": "after",
    "adopt": "after",
    "revert": "after",
    GONE: "before",
}
"""On which side of a row stands the status that an experiment has from then on."""


def pauses(session: Session, experiments: Collection[uuid.UUID], *, until: datetime) -> dict[uuid.UUID, Pauses]:
    """When each of some experiments was paused, as pairs of beginning and end; a pause that lasts ends with `until`.

    By the bot, or by others, from when that was noticed.
    """
    tells = LedgerEntry.action.in_(STATUS_FROM_THEN_ON) & LedgerEntry.after.has_key("status")
    query = select(LedgerEntry).where(LedgerEntry.experiment_id.in_(experiments), tells).order_by(LedgerEntry.id)
    found: dict[uuid.UUID, list[tuple[str, datetime]]] = {experiment: [] for experiment in experiments}
    latest: dict[uuid.UUID, str] = {}
    for row in session.scalars(query):
        place = row.experiment_id
        # What was decided here after others had changed it holds; that a discrepancy is gone by that says nothing.
        if place is None or (row.action == GONE and latest.get(place) in DECIDED_HERE):
            continue
        found[place].append((getattr(row, STATUS_FROM_THEN_ON[row.action])["status"], row.at))
        latest[place] = row.action
    return {experiment: _paired([*there, ("active", until)]) for experiment, there in found.items()}


def _paired(entries: Sequence[tuple[str, datetime]]) -> Pauses:
    found: list[tuple[datetime, datetime]] = []
    began: datetime | None = None
    for status, at in entries:
        if status != "active":
            began = began or at
        elif began is not None:
            found.append((began, at))
            began = None
    return found


def days_at_work(since: datetime, until: datetime, pauses: Pauses) -> float:
    """Days between two moments, the paused ones left out: nothing is learned while nobody is served."""
    paused = sum(max((min(end, until) - max(start, since)).total_seconds(), 0.0) for start, end in pauses)
    return ((until - since).total_seconds() - paused) / 86_400


@dataclass(frozen=True)
class Tenure:
    """A time in which a policy version was in production; None where it began before the record, or has not ended."""

    version: str
    since: datetime | None
    until: datetime | None


def tenures(session: Session, experiment_id: uuid.UUID) -> list[Tenure]:
    """Which version an experiment had in production when, newest first, as promotions and rollbacks tell it."""
    query = select(LedgerEntry.at, LedgerEntry.action, LedgerEntry.before, LedgerEntry.after).where(
        LedgerEntry.experiment_id == experiment_id, LedgerEntry.action.in_(("promote", "rollback"))
    )
    found: list[Tenure] = []
    for row in session.execute(query.order_by(LedgerEntry.id)):
        version = row.after["production"][0] if row.action == "promote" else row.after["restored"]
        if version is None:  # a candidate was rolled back; what is in production stayed
            continue
        if found:
            found[-1] = replace(found[-1], until=row.at)
        elif replaced := (row.before.get("production") or [None])[0]:
            found.append(Tenure(replaced, None, row.at))
        found.append(Tenure(version, row.at, None))
    return found[::-1]


def entries(session: Session, *, experiment_id: uuid.UUID, limit: int = 20) -> list[LedgerEntry]:
    """The newest rows about one experiment, newest first, as people read them.

    What an approval changed or answered has a row of its own; it is left out, since the request and its approval tell
    it. So is a request that the same click approved: that is one deed. A freeze of all experiments is about this one
    too, once it has rows of its own.
    """
    first = select(func.min(LedgerEntry.id)).where(LedgerEntry.experiment_id == experiment_id).scalar_subquery()
    is_of_all = (
        LedgerEntry.experiment_id.is_(None) & LedgerEntry.action.in_(("freeze", "unfreeze")) & (LedgerEntry.id > first)
    )
    is_told = LedgerEntry.request_id.is_not(None) & LedgerEntry.action.in_(TOLD_BY_REQUEST)
    approval = aliased(LedgerEntry)
    is_same_click = exists().where(
        approval.request_id == LedgerEntry.request_id, approval.action == "approve", approval.at == LedgerEntry.at
    )
    query = select(LedgerEntry).where(
        (LedgerEntry.experiment_id == experiment_id) | is_of_all,
        ~is_told,
        LedgerEntry.action != "alert confirmed",
        ~((LedgerEntry.action == "request") & is_same_click),
    )
    return list(session.scalars(query.order_by(LedgerEntry.id.desc()).limit(limit)))
