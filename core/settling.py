"""Settling a discrepancy: what others made of a decision is adopted, or what was decided is put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import alerts, candidates, discrepancies, freezes, outbox, stages
from core.discrepancies import decided_steps, mark
from core.errors import Refused
from core.rollouts import DELETED
from core.rules import allocation, approval, mirroring
from core.rules import discrepancies as rules
from core.rules.approval import Actor, Roles
from core.rules.decision import AllTerms
from core.rules.lifecycle import Stage
from core.tables import AllocationStep, Discrepancy, Experiment, Policy, PolicyVersion
from core.variants import baseline_or_note, find_experiment, set_shares, shares, variants

Way = Literal["adopt", "revert"]
Shares = Mapping[str, Decimal]


# --- What people see ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiscrepancyCard:
    """A discrepancy as its card shows it; the shares that either way would leave, where it is about shares."""

    id: int
    kind: str
    experiment: str | None
    model: str | None
    decided: Mapping[str, str | None]
    found: Mapping[str, str | None]
    request_id: int | None
    can_adopt: bool
    can_revert: bool
    adopted_shares: Shares | None
    mark: str
    """Comes back with a click, so that it counts for nothing else than what was shown."""
    state: str
    found_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    end_reason: str | None


def card(session: Session, number: int) -> DiscrepancyCard:
    """One discrepancy as it is now."""
    row = session.get_one(Discrepancy, number, populate_existing=True)
    place = session.get(Experiment, row.experiment_id) if row.experiment_id else None
    after = _after_adopting(session, place, row) if place and row.state == "open" else None
    return DiscrepancyCard(
        id=row.id,
        kind=row.kind,
        experiment=(place.name if place else DELETED) if row.experiment_id else None,
        model=row.mlflow_model_name,
        decided=row.decided,
        found=row.found,
        request_id=row.request_id,
        can_adopt=rules.can_adopt(_as_rule(row), after),
        can_revert=rules.can_revert(_as_rule(row)),
        adopted_shares=after,
        mark=mark(row),
        state=row.state,
        found_at=row.found_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        end_reason=row.end_reason,
    )


def _as_rule(row: Discrepancy) -> rules.Discrepancy:
    kind: rules.Kind = row.kind  # type: ignore[assignment]
    return rules.Discrepancy(kind, row.decided, row.found)


def _of_shares(row: Discrepancy) -> bool:
    return row.kind in ("shares", "variants")


def _baseline_name(session: Session, place: Experiment) -> str | None:
    base = baseline_or_note(session, place)[0]
    return base.name if base else None


def _after_adopting(session: Session, place: Experiment, row: Discrepancy) -> Shares | None:
    """The shares that adopting leaves; None where it is not about shares, or they would not add up to 1."""
    if not _of_shares(row):
        return None
    present = {v.name: v.allocation for v in variants(session, place)}
    return rules.settled(present, _baseline_name(session, place) if row.kind == "variants" else None)


# --- Deciding -------------------------------------------------------------------------------------------------------


def settle(session: Session, number: int, way: Way, *, shown: str, actor: Actor, roles: Roles, terms: AllTerms) -> str:
    """Adopts or reverts what a card `shown` by its mark said; a sentence for whoever clicked.

    Where things are other than the card said, nothing is done and the card is redrawn. What gives a candidate more
    traffic takes an approver; what puts it back waits for a freeze to end.

    Raises:
        Refused: where it has ended, cannot be settled this way, or this person may not.
    """
    row, place = _open_one(session, number)
    if place is not None:
        discrepancies.compare(session, place.id)
    if row.state != "open":
        return f"This is settled already: {row.end_reason or row.state} Nothing was changed."
    if shown != mark(row):
        discrepancies.redraw(session, row)
        return "This has changed since the card was drawn. Nothing was done; look again, then decide."
    after = _after_adopting(session, place, row) if place else None
    is_possible = rules.can_adopt(_as_rule(row), after) if way == "adopt" else rules.can_revert(_as_rule(row))
    if not is_possible:
        raise Refused(f"This cannot be settled by this button any more ({way}). Its card says why.")
    _check_may(session, row, place, way, after, actor, roles, terms)
    ended = discrepancies.end(session, row, {"adopt": "adopted", "revert": "reverted"}[way], by=actor.id)
    WAYS[row.kind, way](session, row, place, actor.id, ended)
    outbox.put_notice(session, ledger_id=ended)
    said = {
        "adopt": "Adopted: what is there counts as decided from now on.",
        "revert": "Reverted to what was decided.",
    }
    return said[way] + (" MLflow follows." if row.mlflow_model_name else "")


def _open_one(session: Session, number: int) -> tuple[Discrepancy, Experiment | None]:
    """An open discrepancy and its experiment, both locked, the experiment first as in every change."""
    found = session.get(Discrepancy, number)
    if found is None:
        raise Refused(f"There is no discrepancy {number}.")
    place = find_experiment(session, found.experiment_id) if found.experiment_id else None
    row = session.get_one(Discrepancy, number, with_for_update=True, populate_existing=True)
    if row.state != "open":
        raise Refused(f"This is settled already ({row.state}). The card shows by whom.")
    return row, place


def _check_may(
    session: Session,
    row: Discrepancy,
    place: Experiment | None,
    way: Way,
    after: Shares | None,
    actor: Actor,
    roles: Roles,
    terms: AllTerms,
) -> None:
    decided = {name: Decimal(share) for name, share in row.decided.items()} if _of_shares(row) else {}
    present = {name: Decimal(share or 0) for name, share in row.found.items()} if _of_shares(row) else {}
    before, then = (decided, after or {}) if way == "adopt" else (present, decided)
    raises = place is not None and rules.raises(before, then, _baseline_name(session, place))
    against = approval.settling_objection(place.name if place else None, raises=raises, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    if place is not None and way == "revert" and raises:
        freezes.check(session, place, terms)


# --- The ways -------------------------------------------------------------------------------------------------------

Settle = Callable[[Session, Discrepancy, Experiment | None, str, int], None]


def _adopt_shares(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    """The step in which others changed the shares counts as decided; where it was not noticed yet, it begins now."""
    there = _place(place)
    present = {v.name: v.allocation for v in variants(session, there)}
    after = _after_adopting(session, there, row)
    if after is not None and after != present:
        ids = {v.name: v.id for v in variants(session, there)}
        set_shares(session, there, {ids[name]: share for name, share in after.items()})
    else:
        _adopt_step(session, there)
    discrepancies.send_back_idle(session, there)
    _tell_of_shares(session, there, by, ended)


def _adopt_step(session: Session, place: Experiment) -> None:
    query = select(AllocationStep).where(AllocationStep.experiment_id == place.id)
    newest = session.scalar(query.order_by(AllocationStep.started_at.desc(), AllocationStep.id.desc()).limit(1))
    present = {str(key): share for key, share in shares(session, place).items() if share}
    if newest is not None and newest.source == "noticed" and _positive(newest.shares) == present:
        newest.source = "adopted"
    else:
        kept = {key: str(share) for key, share in present.items()}
        session.add(AllocationStep(experiment_id=place.id, shares=kept, source="adopted"))
    session.flush()


def _positive(shares: Mapping[str, str]) -> dict[str, Decimal]:
    return {key: Decimal(share) for key, share in shares.items() if Decimal(share)}


def _revert_shares(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    there = _place(place)
    wanted = decided_steps(session, [there.id])[there.id].shares
    set_shares(session, there, {v.id: Decimal(wanted.get(str(v.id), "0")) for v in variants(session, there)})
    _tell_of_shares(session, there, by, ended)


def _tell_of_shares(session: Session, place: Experiment, by: str, ended: int) -> None:
    alerts.settle(session, place, variant_id=None, by=by, request_id=None)
    outbox.put_follow(session, experiment_id=place.id, why=f"ledger-{ended}")


def _place(place: Experiment | None) -> Experiment:
    if place is None:
        raise AssertionError("what is about shares or a status is about an experiment")
    return place


def _revert_status(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    there = _place(place)
    allocation.check_whole(shares(session, there))  # nobody holds on to that of one that is put together
    there.status = row.decided["status"]
    session.flush()


def _revert_versions(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    for version in session.scalars(select(PolicyVersion).join(Policy)):
        version.status = row.decided.get(stages.label(version), version.status)
    session.flush()


def _adopt_tags(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    """Each version moves to the stage that its tag claims, as far as a tag may say so."""
    name = row.mlflow_model_name or ""
    stages.lock(session, name)
    for version, tag in row.found.items():
        if stages.decided(session, name).get(version) != row.decided[version]:
            raise Refused(
                "The stages were changed since this card was drawn. Nothing was done; look again in a minute."
            )
        if tag == Stage.CANDIDATE:
            evidence = {"tag": tag, "discrepancy": row.id}
            candidates.admit(session, evidence, name, version, "tag", by, "its tag was set in the registry")
        else:
            candidates.archive(session, name, version)
    stages.mirror(session, name, occasion=f"ledger-{ended}")


def _put_back(part: mirroring.Part) -> Settle:
    """What the card showed is put back in the registry; what others set since gets a card of its own."""

    def settled(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
        name = row.mlflow_model_name or ""
        stages.mirror(session, name, occasion=f"ledger-{ended}", reverts=part, shown=row.found)

    return settled


def _adopt_status(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    discrepancies.send_back_idle(session, _place(place))


def _as_it_is(session: Session, row: Discrepancy, place: Experiment | None, by: str, ended: int) -> None:
    """The record of the adoption is all it takes."""


WAYS: Mapping[tuple[str, Way], Settle] = {
    ("shares", "adopt"): _adopt_shares,
    ("shares", "revert"): _revert_shares,
    ("variants", "adopt"): _adopt_shares,
    ("status", "adopt"): _adopt_status,
    ("status", "revert"): _revert_status,
    ("versions", "adopt"): _as_it_is,
    ("versions", "revert"): _revert_versions,
    ("tags", "adopt"): _adopt_tags,
    ("tags", "revert"): _put_back("tags"),
    ("alias", "revert"): _put_back("alias"),
}
"""What settles each kind of discrepancy."""
