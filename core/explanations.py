"""A decision as a tree of reasons: what was decided, by whom, on what evidence, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import Refused
from core.rules.decision import percent
from core.tables import Alert, Approval, Effect, Experiment, LedgerEntry, Request, SafetySignature, Seal


@dataclass(frozen=True)
class Branch:
    """One statement, by whom and when where that is known, the words they gave, and what stands behind it."""

    what: str
    by: str | None = None
    at: datetime | None = None
    why: str | None = None
    below: tuple[Branch, ...] = ()


def request(session: Session, number: int) -> Branch:
    """Why a request ended as it did, or how it stands.

    Raises:
        Refused: where there is none of that number.
    """
    found = session.get(Request, number)
    if found is None:
        raise Refused(f"There is no request #{number}.")
    place = session.get(Experiment, found.experiment_id)
    entries = session.scalars(
        select(LedgerEntry).where(LedgerEntry.request_id == number).order_by(LedgerEntry.id)
    ).all()
    alerts = session.scalars(select(Alert).where(Alert.request_id == number).order_by(Alert.id)).all()
    return Branch(
        f"#{number} {found.action} in {place.name if place else '?'}: {found.state}",
        found.decided_by,
        found.decided_at,
        found.decision_reason,
        (
            _asked(found, entries),
            *(_alert_line(alert) for alert in alerts),
            *_decisions(session, found, entries),
            *_done(entries),
            *_effects(session, number),
            *_sealed(session, entries),
        ),
    )


def _asked(found: Request, entries: Sequence[LedgerEntry]) -> Branch:
    evidence = next((e.evidence or {} for e in entries if e.action == "request"), {})
    override = (Branch("asked for against the rule", why=found.override),) if found.override else ()
    return Branch(
        "asked for",
        found.requester,
        found.created_at,
        found.reason,
        (*_moves(found.changes), *override, *_verdict(found.params, evidence.get("verdict")), *_rows(found.checklist)),
    )


def _moves(changes: Sequence[Mapping[str, Any]]) -> tuple[Branch, ...]:
    return tuple(
        Branch(f"{c['variant']}: {percent(Decimal(c['before']))} → {percent(Decimal(c['after']))}")
        for c in changes
        if c["before"] != c["after"]
    )


def _verdict(params: Mapping[str, Any], kept: Mapping[str, Any] | None) -> tuple[Branch, ...]:
    """What the rule said, with each metric as it was kept."""
    if "verdict" not in params:
        return ()
    metrics = tuple(Branch(f"{state}: {title}, {words}") for state, title, words in (kept or {}).get("metrics", ()))
    rests = (Branch(f"goes on from look {kept['recommendation']}"),) if kept and kept["recommendation"] else ()
    return (Branch(f"the rule said: {params['verdict']}", why=params["why"], below=(*metrics, *rests)),)


_PASSED: Mapping[bool | None, str] = {True: "passed", False: "failed", None: "unknown"}


def _rows(checklist: Sequence[Mapping[str, Any]]) -> tuple[Branch, ...]:
    if not checklist:
        return ()
    passed = sum(row["passed"] is True for row in checklist)
    rows = tuple(Branch(f"{_PASSED[row['passed']]}: {row['title']}, {row['detail']}") for row in checklist)
    return (Branch(f"the checklist: {passed} of {len(checklist)} passed", below=rows),)


def _decisions(session: Session, found: Request, entries: Sequence[LedgerEntry]) -> tuple[Branch, ...]:
    query = select(Approval).where(Approval.request_id == found.id).order_by(Approval.at)
    words = {"approve": "approved", "reject": "rejected", "lapsed": "approved, but is no approver any more"}
    given = tuple(Branch(words[one.decision], one.person, one.at) for one in session.scalars(query))
    if broken := next((e for e in entries if e.action == "break glass"), None):
        facts = broken.evidence or {}
        lack = f"pushed through with {len(facts['approvals'])} of {facts['needed']} approvals"
        return (*given, Branch(lack, broken.actor, broken.at, broken.reason))
    if found.signature_id is not None:
        signed = session.get_one(SafetySignature, found.signature_id)
        said = f"nobody clicked: signed for alerts unanswered for {signed.minutes} minutes"
        return (*given, Branch(said, signed.signed_by, signed.at, signed.reason))
    return given or (Branch("nobody has decided" if found.state == "open" else "closed without a decision"),)


_TELLS = ("request", "approve", "return as signed", "break glass", "reject", "mirror")
"""Rows of the record that a branch of their own tells."""


def _done(entries: Sequence[LedgerEntry]) -> tuple[Branch, ...]:
    return tuple(Branch(f"{e.action}: {e.subject}", e.actor, e.at, e.reason) for e in entries if e.action not in _TELLS)


def _effects(session: Session, number: int) -> tuple[Branch, ...]:
    query = select(Effect).where(Effect.request_id == number, Effect.kind == "registry").order_by(Effect.id)
    return tuple(_effect(effect) for effect in session.scalars(query))


def _effect(effect: Effect) -> Branch:
    model = effect.payload["mlflow_model_name"]
    if effect.done_at is not None:
        return Branch(f"the registry followed for {model}", at=effect.done_at)
    return Branch(f"the registry has still to follow for {model}, {effect.attempts} attempts", why=effect.last_error)


def _sealed(session: Session, entries: Sequence[LedgerEntry]) -> tuple[Branch, ...]:
    """Where the record has all this: the last of its rows, and the hash that stands for everything until then."""
    if not entries:
        return ()
    query = select(Seal.hash).where(Seal.ledger_id == entries[-1].id)
    found = session.scalar(query)
    numbers = ", ".join(str(entry.id) for entry in entries)
    return (Branch(f"on record in rows {numbers}; " + (f"hash {found[:16]}" if found else "not sealed yet")),)


# --- Alerts ---------------------------------------------------------------------------------------------------------


def _alert_line(alert: Alert) -> Branch:
    return Branch(f"answers alert {alert.id}, {alert.cause}", at=alert.opened_at, why=alert.why)


def _many(number: int, thing: str) -> str:
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"


def alert(session: Session, number: int) -> Branch:
    """Why an alert was raised, and what became of it.

    Raises:
        Refused: where there is none of that number.
    """
    found = session.get(Alert, number)
    if found is None:
        raise Refused(f"There is no alert {number}.")
    place = session.get(Experiment, found.experiment_id)
    about = f"{found.variant} in " if found.variant else ""
    entries = session.scalars(
        select(LedgerEntry)
        .where(LedgerEntry.experiment_id == found.experiment_id, LedgerEntry.subject == f"alert {number} {found.cause}")
        .order_by(LedgerEntry.id)
    ).all()
    raised = tuple(Branch(f"{state}: {title}, {words}") for state, title, words in found.numbers)
    answer = (Branch(f"answered by request #{found.request_id}"),) if found.request_id else ()
    return Branch(
        f"alert {number}, {found.cause}, about {about}{place.name if place else '?'}: {found.state}",
        found.ended_by,
        found.ended_at,
        found.end_reason,
        (
            Branch(f"seen in {_many(found.looks, 'look')}", at=found.seen_at, why=found.why, below=raised),
            *(Branch(e.action, e.actor, e.at, e.reason) for e in entries),
            *(
                [Branch(f"brought up {_many(found.escalated, 'time')} while nobody answered")]
                if found.escalated
                else []
            ),
            *answer,
            *_sealed(session, entries),
        ),
    )
