"""The append-only record of who did what, when, why, with the state before and after."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.tables import LedgerEntry

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
) -> LedgerEntry:
    """Appends one row; `before` and `after` are JSON-able states of the subject."""
    entry = LedgerEntry(
        actor=actor,
        action=action,
        subject=subject,
        experiment_id=experiment_id,
        request_id=request_id,
        reason=reason,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
    )
    session.add(entry)
    session.flush()
    return entry


def entries(session: Session, *, experiment_id: uuid.UUID, limit: int = 20) -> list[LedgerEntry]:
    """The newest rows about one experiment, newest first, as people read them.

    What an approval changed has a row of its own; it is left out, since the request and its approval tell it.
    """
    is_told = LedgerEntry.request_id.is_not(None) & LedgerEntry.action.in_(TOLD_BY_REQUEST)
    query = select(LedgerEntry).where(LedgerEntry.experiment_id == experiment_id, ~is_told)
    return list(session.scalars(query.order_by(LedgerEntry.id.desc()).limit(limit)))
