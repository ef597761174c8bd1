"""The record as a chain of hashes: giving each row its place, and finding what was changed behind the bot's back.

Rows are written without a place and sealed a moment later, in a transaction of its own under one lock. Chaining them
as they are written would have every change wait for every other until it commits, and two that wrote to the record and
then wait for each other's experiment would be a deadlock. The price: a row that was not sealed yet (a minute at most
while the bot runs) can be changed by somebody with the right to switch off triggers, and nobody would know.

Whoever can do that can also make the whole chain anew. Therefore the hash of its head is told to people in the day's
digest, out of the database's reach: `verify` looks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Row, Select, Text, cast, func, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core.errors import Refused
from core.rules import chain
from core.tables import LedgerEntry, Seal

AT_ONCE: Final = 5_000
"""Rows that are held in memory at the same time."""
LONGEST: Final = timedelta(hours=1)
"""Longer than any transaction that writes to the record."""
_LOCK: Final = 7_203_443
_PREFIX: Final = re.compile(r"[0-9a-f]{12,64}")

_PLACE: Final = ("number", "ledger_id", "content", "previous", "sealed_at")
"""What a link's hash is made of."""
_SPOKEN: Final = sorted((c for c in LedgerEntry.__table__.columns if c.name != "id"), key=lambda c: c.name)
_NAMES: Final = [column.name for column in _SPOKEN]
_SAID: Final = [(cast(c, Text) if isinstance(c.type, JSONB) else c).label(f"said_{c.name}") for c in _SPOKEN]
"""What a row says, its number aside; always the last columns of a query."""


@dataclass(frozen=True)
class Head:
    """The last link of the chain: how many rows are sealed, and the hash that stands for all of them."""

    number: int
    hash: str


def head(session: Session) -> Head | None:
    """The present head; None where nothing is sealed yet."""
    found = session.execute(select(Seal.number, Seal.hash).order_by(Seal.number.desc()).limit(1)).first()
    return Head(found.number, found.hash) if found else None


def _content(row: Row[Any]) -> str:
    return chain.hashed(dict(zip(_NAMES, row[-len(_NAMES) :], strict=True)))


# --- Sealing --------------------------------------------------------------------------------------------------------


def _unsealed() -> Select[Any]:
    sealed = select(Seal.number).where(Seal.ledger_id == LedgerEntry.id)
    return select(LedgerEntry.id, *_SAID).where(~sealed.exists()).order_by(LedgerEntry.id)


def seal(session: Session) -> int:
    """Gives every committed row that has none its place in the chain; returns how many there were.

    Any number of processes may do this at once: they wait for each other, and the last finds nothing to do.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = head(session) or Head(0, chain.START)
    began, now = last.number, session.execute(select(func.now())).scalar_one()
    with session.execute(_unsealed(), execution_options={"yield_per": AT_ONCE}) as unsealed:
        for rows in unsealed.partitions():
            seals = []
            for row in rows:
                place = dict(zip(_PLACE, (last.number + 1, row.id, _content(row), last.hash, now), strict=True))
                last = Head(last.number + 1, chain.hashed(place))
                seals.append(place | {"hash": last.hash})
            session.execute(insert(Seal.__table__), seals)  # type: ignore[arg-type]
    return last.number - began


# --- Verifying ------------------------------------------------------------------------------------------------------

Kind = Literal["edited", "moved", "missing", "gap", "broken", "slipped in", "replaced"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the record, in a sentence for people."""

    kind: Kind
    ledger_id: int | None
    number: int | None
    sentence: str


@dataclass(frozen=True)
class Report:
    """What was found: an untouched record has no faults. `unsealed` rows are too new to say anything about."""

    entries: int
    unsealed: int
    head: Head | None
    faults: tuple[Fault, ...]


_CHAIN = (
    select(*(getattr(Seal, name) for name in _PLACE), Seal.hash, LedgerEntry.id, *_SAID)
    .outerjoin(LedgerEntry, LedgerEntry.id == Seal.ledger_id)
    .order_by(Seal.number)
)


def verify(session: Session, *, told: str | None = None) -> Report:
    """Looks at every link and every row, some thousand at a time. `told` is the beginning of a hash from a digest.

    A row whose time is long before a sealing that did not see it was slipped in later, whatever it says of itself.

    Raises:
        Refused: where `told` cannot be the beginning of a hash.
    """
    if told is not None and not _PREFIX.fullmatch(told):
        raise Refused(f"`{told[:80]}` is no hash. Give at least its first 12 digits, as the digest shows them.")
    walk = _Walk(told)
    faults = [*walk.faults(session.execute(_CHAIN, execution_options={"yield_per": AT_ONCE}))]
    loose = [(row.id, row.said_at) for row in session.execute(_unsealed(), execution_options={"yield_per": AT_ONCE})]
    late = [_slipped_in(number, at, walk.passed_at) for number, at in loose if walk.is_late(at)]
    last = Head(walk.number, walk.hash) if walk.number else None
    return Report(walk.entries, len(loose), last, (*_named(faults), *late, *walk.untold()))


def _slipped_in(ledger_id: int, at: datetime, passed_at: datetime | None, number: int | None = None) -> Fault:
    sentence = (
        f"Row {ledger_id} was slipped in: it says {at:%Y-%m-%d %H:%M} UTC, but was not there when the rows before it "
        f"were sealed at {passed_at:%Y-%m-%d %H:%M} UTC."
    )
    return Fault("slipped in", ledger_id, number, sentence)


class _Walk:
    """Goes along the chain, from link to link."""

    def __init__(self, told: str | None) -> None:
        self.number, self.hash, self.entries = 0, chain.START, 0
        self.passed_at: datetime | None = None
        """When the latest sealing was made; `_before` is the one before that."""
        self._before: datetime | None = None
        self._told = told

    def faults(self, rows: Iterable[Row[Any]]) -> Iterator[tuple[Fault, str | None, str | None]]:
        """Each fault, with what was sealed and what stands there now where these differ."""
        for row in rows:
            for fault in self._of_link(row):
                yield fault, None, None
            self._pass(row)
            if row.id is None:
                yield self._missing(row), row.content, None
                continue
            self.entries += 1
            if (found := _content(row)) != row.content:
                yield Fault("edited", row.ledger_id, row.number, ""), row.content, found
            elif self._before is not None and row.said_at < self._before - LONGEST:
                yield _slipped_in(row.ledger_id, row.said_at, self._before, row.number), None, None

    def _of_link(self, row: Row[Any]) -> Iterator[Fault]:
        number, expected = row.number, self.number + 1
        if number != expected:
            lost = f"seal {expected} is" if number == expected + 1 else f"seals {expected} to {number - 1} are"
            yield Fault("gap", None, number, f"Before seal {number} (row {row.ledger_id}), {lost} missing.")
        elif row.previous != self.hash:
            sentence = f"Seal {number} (row {row.ledger_id}) does not follow seal {number - 1}."
            yield Fault("broken", row.ledger_id, number, sentence)
        if chain.hashed(dict(zip(_PLACE, row, strict=False))) != row.hash:
            yield Fault("broken", row.ledger_id, number, f"Seal {number} (row {row.ledger_id}) was changed.")

    def _pass(self, row: Row[Any]) -> None:
        self.number, self.hash = row.number, row.hash
        if row.sealed_at != self.passed_at:
            self._before, self.passed_at = self.passed_at, row.sealed_at
        if self._told is not None and row.hash.startswith(self._told):
            self._told = None

    def _missing(self, row: Row[Any]) -> Fault:
        when = f"{row.sealed_at:%Y-%m-%d %H:%M}"
        return Fault(
            "missing", row.ledger_id, row.number, f"Row {row.ledger_id} is missing; it was sealed at {when} UTC."
        )

    def is_late(self, at: datetime) -> bool:
        """True for a row without a seal that the latest sealing would have seen, had it been there."""
        return self.passed_at is not None and at < self.passed_at - LONGEST

    def untold(self) -> list[Fault]:
        """The fault that a head which people were told is not in the chain."""
        if self._told is None:
            return []
        sentence = f"The head {self._told} is not in this chain: the record was replaced or cut off since it was told."
        return [Fault("replaced", None, None, sentence)]


def _named(found: Iterable[tuple[Fault, str | None, str | None]]) -> list[Fault]:
    """The faults; a row that says what was sealed as another faulty one was moved, not edited."""
    listed = list(found)
    was: Mapping[str, int] = {sealed: f.ledger_id for f, sealed, _ in listed if sealed and f.ledger_id is not None}
    return [_moved_or_edited(fault, was.get(now)) if now is not None else fault for fault, _, now in listed]


def _moved_or_edited(fault: Fault, was: int | None) -> Fault:
    if was is None:
        return Fault("edited", fault.ledger_id, fault.number, f"Row {fault.ledger_id} was edited after it was sealed.")
    sentence = f"Row {fault.ledger_id} was moved: it says what was sealed as row {was}."
    return Fault("moved", fault.ledger_id, fault.number, sentence)
