"""Verdicts computed again from what was stored, and compared byte for byte with what was said then."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import recommendations
from core.errors import Refused
from core.rules import verdict
from core.rules.verdict import Decision
from core.tables import LedgerEntry, Recommendation

AROUND = 60
"""Characters on each side of the first difference that are shown."""


@dataclass(frozen=True)
class Replay:
    """A verdict as it was stored and as it comes out now; `said` and `found` are texts to compare."""

    of: str
    said: str
    found: str
    is_whole: bool = True
    """False where only the action and the sentence were kept, before verdicts were kept as a whole."""

    @property
    def is_identical(self) -> bool:
        """True where not one byte differs."""
        return self.said == self.found

    @property
    def difference(self) -> tuple[int, str, str] | None:
        """Where the first differing byte is, and what stands around it in both."""
        if self.is_identical:
            return None
        pairs = enumerate(zip(self.said, self.found, strict=False))
        at = next((n for n, (a, b) in pairs if a != b), min(len(self.said), len(self.found)))
        around = slice(max(at - AROUND, 0), at + AROUND)
        return at, self.said[around], self.found[around]


def of_look(session: Session, number: int) -> Replay:
    """The verdict of one look on record, daily or not.

    Raises:
        Refused: where there is none of that number.
    """
    made = session.get(Recommendation, number)
    if made is None:
        raise Refused(f"There is no look {number} on record.")
    found = recommendations.recomputed(session, made)
    return _replay(f"look {number}", made.action, made.why, made.decision, found)


def _replay(of: str, action: str, why: str, said: str | None, found: Decision) -> Replay:
    head = f"{found.action}: {found.why}\n"
    if said is None:
        return Replay(of, f"{action}: {why}\n", head, is_whole=False)
    return Replay(of, f"{action}: {why}\n{said}", head + verdict.as_text(found))


def of_request(session: Session, number: int) -> Replay:
    """The verdict that a request rests on, from the newest row of the record that drew it.

    Raises:
        Refused: where there is no such request, or it rests on no measurement.
    """
    drawn = LedgerEntry.action.in_(("request", "redraw"))
    query = select(LedgerEntry).where(LedgerEntry.request_id == number, drawn).order_by(LedgerEntry.id.desc())
    entry = session.scalar(query.limit(1))
    if entry is None:
        raise Refused(f"There is no request #{number} on record.")
    evidence = entry.evidence or {}
    kept = evidence.get("verdict")
    if kept is None:
        raise Refused(f"Request #{number} rests on no verdict that was kept: only increase and promote measure.")
    said, found = evidence["params"], recommendations.restore_evidence(session, kept).decide()[0]
    return _replay(f"request #{number}", said["verdict"], said["why"], kept["decision"], found)
