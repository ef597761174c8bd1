"""The stop switch: while a window of the configuration or somebody's word freezes an experiment, nothing moves on."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db, ledger, outbox, rollouts
from core.errors import Refused
from core.rules import approval, freezes
from core.rules.approval import Actor, Roles
from core.rules.decision import AllTerms
from core.rules.freezes import Window
from core.tables import Experiment, Freeze, Request, Rollout
from core.variants import find_experiment

ALL: Final = "all"
"""What people write for all experiments."""


@dataclass(frozen=True)
class Frozen:
    """Why an experiment is frozen: a window by its name, or a person with a reason; until when, where that is known."""

    experiment: str
    window: str | None = None
    by: str | None = None
    reason: str | None = None
    until: datetime | None = None
    is_of_all: bool = False

    @property
    def sentence(self) -> str:
        """For people, without who it was: an id says nothing in plain text."""
        if self.window is None:
            whose = "All experiments are" if self.is_of_all else f"{self.experiment} is"
            return f"{whose} frozen until somebody unfreezes: {self.reason}"
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"{self.experiment} is frozen{until} ({self.window})."


class IsFrozen(Refused):
    """Refused because of a freeze."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__(f"{frozen.sentence} Rollbacks are possible all the same.")
        self.frozen = frozen


def frozen(session: Session, place: Experiment, terms: AllTerms) -> Frozen | None:
    """What freezes an experiment at the moment; what somebody froze comes before windows.

    Asked with the experiment locked before a change is applied. A freeze takes no experiment's lock, or freezing all
    would wait for everybody: at READ COMMITTED this reads every freeze that was committed by now, and the trigger on
    requests reads once more when the change is written.
    """
    is_about = Freeze.experiment_id.is_(None) | (Freeze.experiment_id == place.id)
    query = select(Freeze).where(Freeze.ended_at.is_(None), is_about)
    row = session.scalar(query.order_by(Freeze.experiment_id.nulls_first()).limit(1))
    if row is not None:
        return Frozen(place.name, by=row.frozen_by, reason=row.reason, is_of_all=row.experiment_id is None)
    on = freezes.closed(terms.freezes, place.name, db.now_of(session))
    return None if on is None else Frozen(place.name, window=on.window.name, until=on.until)


def check(session: Session, place: Experiment, terms: AllTerms) -> None:
    """Passes where an experiment is not frozen.

    Raises:
        IsFrozen: where it is.
    """
    found = frozen(session, place, terms)
    if found is not None:
        raise IsFrozen(found)


# --- The switch -----------------------------------------------------------------------------------------------------


def _scope(session: Session, experiment: str) -> Experiment | None:
    return None if experiment.lower() == ALL else find_experiment(session, experiment, lock=False)


def _label(place: Experiment | None) -> str:
    return place.name if place else "all experiments"


def _open(session: Session, place: Experiment | None) -> Freeze | None:
    is_it = Freeze.experiment_id.is_(None) if place is None else Freeze.experiment_id == place.id
    query = select(Freeze).where(Freeze.ended_at.is_(None), is_it).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))


def freeze(session: Session, *, experiment: str, reason: str | None, actor: Actor, roles: Roles) -> str:
    """Freezes an experiment, or `all`, until somebody unfreezes it; returns what was frozen.

    Raises:
        Refused: without a reason, where it is frozen already, or this person may not.
    """
    why = (reason or "").strip()
    if not why:
        raise Refused("Say why: add `because` and the reason for the freeze.")
    place = _scope(session, experiment)
    against = approval.freezing_objection(place.name if place else None, actor=actor, roles=roles)
    if against:
        raise Refused(against)
    before = _open(session, place)
    if before is not None:
        raise Refused(f"There is a freeze of {_label(place)} already: {before.reason}")
    row = Freeze(experiment_id=place.id if place else None, frozen_by=actor.id, reason=why)
    session.add(row)
    session.flush()
    _tell(session, place, row, by=actor.id, action="freeze", reason=why)
    return _label(place)


def unfreeze(session: Session, *, experiment: str, reason: str | None, actor: Actor, roles: Roles) -> str:
    """Ends a freeze of an experiment, or that of `all`; returns what it was about.

    Raises:
        Refused: where nobody froze it, or this person may not end it.
    """
    place = _scope(session, experiment)
    row = _open(session, place)
    if row is None:
        of_all = place is not None and _open(session, None) is not None
        hint = f"It is frozen with all others; `unfreeze {ALL}` ends that." if of_all else "Windows end by themselves."
        raise Refused(f"Nobody froze {_label(place)}. {hint}")
    against = approval.thawing_objection(
        place.name if place else None, frozen_by=row.frozen_by, actor=actor, roles=roles
    )
    if against:
        raise Refused(against)
    row.ended_at, row.ended_by = func.now(), actor.id
    session.flush()
    _tell(session, place, row, by=actor.id, action="unfreeze", reason=(reason or "").strip() or None)
    return _label(place)


def _tell(session: Session, place: Experiment | None, row: Freeze, *, by: str, action: str, reason: str | None) -> None:
    """Records it, has it announced and every card redrawn that shows it."""
    entry = ledger.record(
        session,
        actor=by,
        action=action,
        subject=_label(place),
        experiment_id=place.id if place else None,
        reason=reason,
        before={"freeze": row.id if action == "unfreeze" else None},
        after={"freeze": row.id if action == "freeze" else None},
    )
    outbox.put_notice(session, ledger_id=entry.id)
    for each in [place.id] if place else _followed(session):
        _put_redraw(session, each, f"ledger-{entry.id}")


# --- What people see of it ------------------------------------------------------------------------------------------


def _followed(session: Session) -> list[uuid.UUID]:
    """The experiments that have cards: a rollout that runs, or an open request."""
    running = select(Rollout.experiment_id).where(Rollout.ended_at.is_(None))
    asked = select(Request.experiment_id).where(Request.state == "open")
    return list(session.scalars(select(Experiment.id).where(Experiment.id.in_(running.union(asked)))))


def follow_windows(session: Session, windows: Sequence[Window]) -> None:
    """Has the cards redrawn of experiments that a window began or ceased to freeze: once each, however often asked."""
    if not windows:
        return
    now = db.now_of(session)
    for place in session.scalars(select(Experiment).where(Experiment.id.in_(_followed(session)))):
        if turned := freezes.turned_at(windows, place.name, now):
            _put_redraw(session, place.id, f"window-{turned.isoformat()}")


def _put_redraw(session: Session, experiment_id: uuid.UUID, why: str) -> None:
    """In a transaction of its own for each experiment: whoever locks many of them meets others who do."""
    key = f"frozen:{experiment_id}:{why}"
    outbox.put(session, kind="frozen", subject=f"frozen:{experiment_id}", key=key, experiment=str(experiment_id))


def redraw(session: Session, experiment_id: uuid.UUID, *, why: str) -> None:
    """Asks for the cards of an experiment to be drawn again; `why` names the occasion."""
    find_experiment(session, experiment_id)
    rollouts.touch(session, experiment_id)
    asked = select(Request.id).where(Request.experiment_id == experiment_id, Request.state == "open")
    for number in session.scalars(asked):
        outbox.put_card(session, request_id=number, why=why)
