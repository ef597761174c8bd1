"""Deleting a variant with rows by the million: a click decides it, effects carry it out, some rows at a time.

From the decision on the variant is gone for everybody, though its rows are still there. What says so is the effect that
waits for it, so there is no moment at which one could be lost without the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, String, cast, func, or_, select, text
from sqlalchemy.orm import Session

from core import blocks, db, ledger, outbox
from core.errors import Refused
from core.outbox import Due
from core.tables import Effect, Variant

KIND: Final = "erase"
ACTION: Final = "erase"
TABLES: Final = ("assignments", "metric_aggregates")
"""What points to a variant and goes with it, in this order."""
BLOCKS: Final = 2_000
"""How much of a table is searched at once, in blocks of mostly 8 kB: about a second where all of it goes."""
NAME_LIMIT: Final = 255
SUBJECT: Final = "variant:"
LAST_MS: Final = 600_000
"""How long the last part may take: without an index on what points to the variant, all of that is looked through."""


def is_there() -> ColumnElement[bool]:
    """True of variants that are not being deleted; also of one that others gave traffic meanwhile."""
    erased = select(Effect.subject).where(Effect.kind == KIND, Effect.done_at.is_(None))
    return or_(Variant.allocation > 0, func.concat(SUBJECT, cast(Variant.id, String)).not_in(erased))


def check_may(session: Session) -> None:
    """Passes where the database lets the bot delete.

    Raises:
        Refused: where it does not.
    """
    query = "SELECT bool_and(has_table_privilege('exp.' || name, 'DELETE')) FROM unnest(CAST(:tables AS text[])) name"
    if not session.execute(text(query), {"tables": ["variants", *TABLES]}).scalar_one():
        raise Refused(f"{db.NO_RIGHT} Nothing was changed.")


def begin(session: Session, variant: Variant, *, request_id: int | None) -> None:
    """Has a variant at 0 % deleted; its name is free at once."""
    name, mark = variant.name, f"_deleted_{variant.id}"
    variant.name = name[: NAME_LIMIT - len(mark)] + mark
    session.flush()
    about = {"variant": str(variant.id), "name": name, "number": 1, "deleted": {}}
    _put(session, {**about, "table": TABLES[0], "block": 0}, request_id)


def _put(session: Session, payload: Mapping[str, Any], request_id: int | None) -> None:
    subject = f"{SUBJECT}{payload['variant']}"
    key = f"{KIND}:{payload['variant']}:{payload['number']}"
    outbox.put(session, kind=KIND, subject=subject, key=key, request_id=request_id, **payload)


_ERASE = f"DELETE FROM exp.{{table}} WHERE variant_id = :id AND {blocks.RANGE}"
_IS_LEFT = "SELECT EXISTS (SELECT FROM exp.{table} WHERE variant_id = :id)"


def erase(session: Session, due: Due) -> None:
    """Effect handler: deletes some rows of a variant and asks for the next; at the end the variant itself.

    Others may have given it traffic meanwhile: then it stays for good, whatever its share is later.
    """
    # Not FOR UPDATE: the platform goes on writing rows that point to it.
    variant = session.get(Variant, uuid.UUID(due.payload["variant"]), with_for_update={"key_share": True})
    if variant is None:  # others deleted it, and before that its rows
        return _tell(session, due)
    if variant.allocation > 0:
        return _keep(session, variant, due)
    table, block = due.payload["table"], due.payload["block"]
    until = block + blocks.extent(session, f"exp.{table}").at_once(BLOCKS)
    gone = _erase(session, variant, table, block, until)
    deleted = {**due.payload["deleted"], table: due.payload["deleted"].get(table, 0) + gone}
    rest = _rest(session, variant, table, until)
    if rest is None:
        return _end(session, variant, due, deleted)
    more = {"number": due.payload["number"] + 1, "deleted": deleted, "table": rest[0], "block": rest[1]}
    _put(session, {**due.payload, **more}, due.request_id)


def _erase(session: Session, variant: Variant, table: str, first: int, until: int) -> int:
    done = session.execute(text(_ERASE.format(table=table)), {"id": variant.id, **blocks.bounds(first, until)})
    return int(getattr(done, "rowcount"))  # noqa: B009 - untyped there


def _rest(session: Session, variant: Variant, table: str, block: int) -> tuple[str, int] | None:
    """Where to go on: behind the last table where rows have come since; None where nothing is left."""
    if block < blocks.extent(session, f"exp.{table}").blocks:
        return table, block
    if table != TABLES[-1]:
        return TABLES[TABLES.index(table) + 1], 0
    return next(((each, 0) for each in TABLES if _has_any(session, variant, each)), None)


def _has_any(session: Session, variant: Variant, table: str) -> bool:
    return bool(session.execute(text(_IS_LEFT.format(table=table)), {"id": variant.id}).scalar_one())


def _keep(session: Session, variant: Variant, due: Due) -> None:
    name = due.payload["name"]
    is_taken = select(Variant.id).where(Variant.experiment_id == variant.experiment_id, Variant.name == name)
    if session.scalar(is_taken) is None:
        variant.name = name
        session.flush()
    entry = ledger.record(
        session,
        actor=ledger.BOT,
        action="keep",
        subject=variant.name,
        experiment_id=variant.experiment_id,
        request_id=due.request_id,
        reason="others gave it traffic",
        after={"deleted": due.payload["deleted"]},
        evidence={"variant_id": due.payload["variant"]},
    )
    outbox.put_notice(session, ledger_id=entry.id)
    _tell(session, due)


def _end(session: Session, variant: Variant, due: Due, deleted: Mapping[str, int]) -> None:
    """Without the lock on the experiment, for which people would wait: for them the variant is gone already."""
    place = variant.experiment_id
    session.execute(text(f"SET LOCAL statement_timeout = {LAST_MS}"))
    session.delete(variant)
    session.flush()
    ledger.record(
        session,
        actor=ledger.BOT,
        action=ACTION,
        subject=due.payload["name"],
        experiment_id=place,
        request_id=due.request_id,
        after={"deleted": deleted},
        evidence={"variant_id": due.payload["variant"]},
    )
    _tell(session, due)


def _tell(session: Session, due: Due) -> None:
    if due.request_id is not None:
        outbox.put_card(session, request_id=due.request_id, why=f"done-{due.id}")
