"""Effects as rows: what has to be brought in line outside the database, and who carries it out."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from core import db, trace
from core.tables import Effect, Message, Request

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 300
ATTEMPTS_WAITED_FOR = 5
WHY_LIMIT = 300
CLAIMED_S = 0.5
"""How long a claim by itself keeps others away: until the transaction that carries it out has locked the row."""


@dataclass(frozen=True)
class Due:
    """One effect as its handler sees it: what to look at, and whether somebody may have tried before."""

    id: int
    key: str
    kind: str
    subject: str
    request_id: int | None
    payload: Mapping[str, Any]
    is_retry: bool
    origin: str | None = None
    """The id of what put it."""


Handler = Callable[[Session, Due], None]
Told = Callable[[str, Exception | None], None]
"""Is told of each attempt once it is over: its kind, and what went wrong or None once the commit has gone well."""


def put(session: Session, *, kind: str, subject: str, key: str, request_id: int | None = None, **payload: Any) -> None:
    """Asks for an effect once this transaction commits. The same key is carried out once, however often it is put.

    Effects with the same `subject` are carried out one at a time, so a later look never loses to an earlier one.
    """
    there = trace.current()
    row = {"kind": kind, "subject": subject, "key": key, "request_id": request_id, "payload": payload}
    made = insert(Effect).values(row | {"origin": there and there.id}).on_conflict_do_nothing(index_elements=["key"])
    if session.scalar(made.returning(Effect.id)) is not None and there is not None:
        there.effects += 1


def put_latest(session: Session, *, kind: str, subject: str, key: str, **payload: Any) -> None:
    """Asks for something to be drawn as it is then; what was asked before and not begun is not needed any more."""
    waiting = select(Effect.id).where(
        Effect.kind == kind, Effect.subject == subject, Effect.done_at.is_(None), Effect.attempts == 0
    )
    session.execute(delete(Effect).where(Effect.id.in_(waiting.with_for_update(skip_locked=True))))
    put(session, kind=kind, subject=subject, key=key, **payload)


def is_uncertain(session: Session, due: Due) -> bool:
    """True where another effect of the same subject was begun and may have been carried out without anybody knowing."""
    query = select(Effect.id).where(
        Effect.subject == due.subject, Effect.id != due.id, Effect.attempts > 0, Effect.done_at.is_(None)
    )
    return session.scalar(query.limit(1)) is not None


def is_behind(session: Session, due: Due) -> bool:
    """True while an earlier effect of the same subject waits: one that has to come later lets those after it pass."""
    query = select(Effect.id).where(Effect.subject == due.subject, Effect.id < due.id, Effect.done_at.is_(None))
    return session.scalar(query.limit(1)) is not None


def is_under_way(session: Session, subject: str) -> bool:
    """True while an effect of a subject waits or is carried out, and has not failed again and again."""
    query = select(Effect.id).where(
        Effect.subject == subject, Effect.done_at.is_(None), Effect.attempts <= ATTEMPTS_WAITED_FOR
    )
    return session.scalar(query.limit(1)) is not None


def done_at(session: Session, key: str) -> datetime | None:
    """When the effect of a key was carried out; None while it was not."""
    return session.scalar(select(Effect.done_at).where(Effect.key == key))


def pending(session: Session, *, request_id: int) -> list[Effect]:
    """The effects of a request that are still on their way."""
    query = select(Effect).where(Effect.request_id == request_id, Effect.done_at.is_(None)).order_by(Effect.id)
    return list(session.scalars(query))


def _pause_s(attempts: int) -> int:
    return min(1 << min(attempts, 16), LONGEST_PAUSE_S)


def _in_seconds(seconds: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _claim(session: Session, kinds: list[str]) -> tuple[Due, int] | None:
    """Notes the attempt in its own commit, so that a crash in the middle of it is known; returns its number too.

    Only the first of a lane can be claimed, so while another process carries that out, the whole lane is passed over.
    """
    # What nobody has tried waits for nothing: its time is ahead only where the clock was set back.
    waiting, is_untried = (Effect.kind.in_(kinds), Effect.done_at.is_(None)), Effect.attempts == 0
    is_begun_or_due = or_(Effect.due_at <= _in_seconds(CLAIMED_S), is_untried)
    lanes = select(Effect.id).where(*waiting, is_begun_or_due).order_by(Effect.subject, Effect.id)
    effect = session.scalar(
        select(Effect)
        .where(*waiting, or_(Effect.due_at <= func.now(), is_untried))
        .where(Effect.id.in_(lanes.ext(distinct_on(Effect.subject))))
        .order_by(Effect.due_at, Effect.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if effect is None:
        return None
    effect.attempts += 1
    effect.due_at = _in_seconds(CLAIMED_S)
    due = Due(
        id=effect.id,
        key=effect.key,
        kind=effect.kind,
        subject=effect.subject,
        request_id=effect.request_id,
        payload=effect.payload,
        is_retry=effect.attempts > 1,
        origin=effect.origin,
    )
    return due, effect.attempts


def hold(session: Session) -> None:
    """To be called right before something is posted: whoever was frozen for long meanwhile posts nothing.

    Raises:
        Exception: where the database has ended this attempt, so that another may have been made.
    """
    session.execute(text("SELECT 1"))


def take_lane(session: Session, subject: str) -> None:
    """Until the end of the transaction no effect about this subject is carried out elsewhere."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lane, 0))"), {"lane": subject})


def _carry_out(session: Session, due: Due, attempt: int, handler: Handler) -> bool:
    """False where another process claimed it since: only the latest claim knows of all attempts."""
    # Waits for a lock and does not pass over it: whoever came too late for this claim still holds it for a moment.
    held = session.scalar(
        select(Effect.id)
        .where(Effect.id == due.id, Effect.attempts == attempt, Effect.done_at.is_(None))
        .with_for_update()
    )
    if held is None:
        return False
    take_lane(session, due.subject)
    handler(session, due)
    session.execute(update(Effect).where(Effect.id == due.id).values(done_at=func.now(), last_error=None))
    return True


def _postpone(session: Session, due: Due, error: Exception, pause_s: float | None) -> float:
    """Returns in how many seconds it is tried again."""
    effect = session.get_one(Effect, due.id, with_for_update=True)
    if effect.done_at is not None:
        # By another process, while this one was frozen: woken up it may have gone on with what it knew before.
        effect.done_at, effect.due_at = None, func.now()
        return 0.0
    pause = _pause_s(effect.attempts) if pause_s is None else pause_s
    effect.due_at = _in_seconds(pause)
    effect.last_error = f"{type(error).__name__}: {error}"[:500]
    if due.request_id is not None and due.kind != "card":
        put_card(session, request_id=due.request_id, why=f"waits-{due.id}")
    return pause


CARD: Final = "request:"


def card_key(request_id: int) -> str:
    """The key of the message in which the card of a request stands."""
    return f"{CARD}{request_id}"


def put_card(session: Session, *, request_id: int, why: str) -> None:
    """Asks for the card of a request to be redrawn; `why` names the occasion, once each."""
    key = f"card:{request_id}:{why}"
    put(session, kind="card", subject=card_key(request_id), key=key, request_id=request_id, request=request_id)


def put_cards_of_deleted(session: Session) -> None:
    """Asks for the cards of requests that were deleted, with their experiment, to come to their end."""
    is_there = exists().where(Message.key == func.concat(CARD, Request.id))
    for key in session.scalars(select(Message.key).where(Message.key.startswith(CARD), ~is_there)):
        put(session, kind="card", subject=key, key=f"{key}:deleted", request=int(key.removeprefix(CARD)))


def put_notice(session: Session, *, ledger_id: int) -> None:
    """Asks for one ledger row to be told to the people who follow rollouts."""
    put(session, kind="notice", subject="notices", key=f"notice:{ledger_id}", ledger_id=ledger_id)


def put_follow(session: Session, *, experiment_id: uuid.UUID, why: str) -> None:
    """Asks for what people follow of an experiment to be brought in line with its shares; `why` names the occasion."""
    subject = f"experiment:{experiment_id}"
    put(session, kind="follow", subject=subject, key=f"follow:{experiment_id}:{why}", experiment=str(experiment_id))


class Later(Exception):
    """Raised by a handler that was told when to come back."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


def _tells_nobody(kind: str, failure: Exception | None) -> None:
    pass


def deliver_next(engine: Engine, handlers: Mapping[str, Handler], told: Told = _tells_nobody) -> bool:
    """Carries out the oldest due effect of the kinds in `handlers`; False where nothing is due.

    A handler must be safe to repeat: it may run again after a crash, with `is_retry` set. Its failure is recorded
    on the row, which comes due again after a pause that doubles up to five minutes. Row locks make any number of
    processes share the work: a process that dies lets go of its row at once, one that is frozen after a minute.
    """
    with db.transaction(engine) as session:
        claimed = _claim(session, list(handlers))
    if claimed is None:
        return False
    due, attempt = claimed
    with trace.begun(due.origin, kind=due.kind, effect=due.key, request=due.request_id):
        _attempt(engine, due, attempt, handlers[due.kind], told)
    return True


def _attempt(engine: Engine, due: Due, attempt: int, handler: Handler, told: Told) -> None:
    failure = _tried(engine, due, attempt, handler, told)
    if failure is not None:
        _comes_later(engine, due, attempt, failure)


def _tried(engine: Engine, due: Due, attempt: int, handler: Handler, told: Told) -> Exception | None:
    """What went wrong. It is noted by the caller: if that fails as well, its trace must not show what a server said."""
    began = time.monotonic()
    try:
        with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
            is_mine = _carry_out(session, due, attempt, handler)
    except Exception as error:
        told(due.kind, error)
        return error
    if is_mine:
        told(due.kind, None)
        log.info("carried out", extra={"attempt": attempt, "ms": round((time.monotonic() - began) * 1000)})
    return None


def _comes_later(engine: Engine, due: Due, attempt: int, failure: Exception) -> None:
    asked = failure.seconds if isinstance(failure, Later) else None
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        pause_s = _postpone(session, due, failure, asked)
    level = logging.INFO if isinstance(failure, Later) else logging.WARNING
    why = f"{type(failure).__name__}: {failure}".partition("\n")[0][:WHY_LIMIT]
    log.log(level, "comes later", extra={"attempt": attempt, "why": why, "again_in_s": pause_s})
