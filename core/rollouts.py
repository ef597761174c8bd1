"""Rollouts as people follow them: one row for a candidate's run, behind the one card that lives in a channel."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db, ledger, outbox
from core.errors import Refused
from core.looks import UNKNOWN
from core.recommendations import Standing
from core.rules import allocation
from core.rules.calendar import Schedule
from core.rules.decision import Terms
from core.tables import Experiment, Request, Rollout
from core.variants import baseline_or_note, candidate, find_experiment, shares

NEEDS_SOMEBODY = ("increase", "promote", "rollback", "hold")
"""The verdicts on which somebody has to act."""
DELETED: Final = "a deleted experiment"
"""What an experiment is called of which only the record is left."""


@dataclass(frozen=True)
class Talk:
    """Where and when an experiment is talked about, and how often it is looked at."""

    channel: str
    schedule: Schedule
    looked_at_every: timedelta


def card_key(rollout_id: int) -> str:
    """The key of a card through all its messages."""
    return f"rollout:{rollout_id}"


def message_key(rollout: Rollout) -> str:
    """The key of the message in which the card stands."""
    return key_of_day(rollout.id, rollout.posted_on)


def key_of_day(rollout_id: int, day: date) -> str:
    """The key of a card's message of a local day: one a rollout and day at the most."""
    return f"{card_key(rollout_id)}:{day.isoformat()}"


def tell(
    session: Session, place: Experiment, found: Collection[Standing], terms: Terms, talk: Talk, *, is_daily: bool
) -> list[Rollout]:
    """Keeps what the cards say of an experiment's candidates; the cards of those that run no longer come to their end.

    A card is redrawn in its message where the verdict or the share is another, and by the daily recommendation always;
    only that moves a card on to a new message, at most once a local day.
    """
    today = talk.schedule.today(db.now_of(session))
    there = [_told(session, place, each, terms, talk.channel, today, is_daily=is_daily) for each in found]
    _end_all_but(session, place, {rollout.id for rollout in there})
    return there


def valid(session: Session, place: Experiment, found: Collection[Standing]) -> list[Standing]:
    """Those standings that are of the present shares and steps; the others were overtaken while they were looked at."""
    there = shares(session, place)
    return [one for one in found if one.seen.first_step_id != UNKNOWN and there.get(one.variant.id) == one.share]


def _told(
    session: Session, place: Experiment, found: Standing, terms: Terms, channel: str, today: date, *, is_daily: bool
) -> Rollout:
    shown, action = _shown(found, terms), found.decision.action
    rollout = _of(session, found.variant.id, found.seen.first_step_id)
    if rollout is None:
        rollout = Rollout(
            experiment_id=place.id,
            variant_id=found.variant.id,
            first_step_id=found.seen.first_step_id,
            variant=found.variant.name,
            channel=channel,
            action=action,
            posted_action=action,
            shown=shown,
            posted_on=today,
        )
        session.add(rollout)
        session.flush()
        redraw(session, rollout)
        return rollout
    is_other = (action, shown["share"]) != (rollout.action, rollout.shown["share"]) or rollout.ended_at is not None
    rollout.ended_at = None
    before = message_key(rollout)
    if is_daily and _deserves_a_message(session, place, rollout, action) and rollout.posted_on < today:
        rollout.posted_on, rollout.posted_action = today, action
        _leave(session, rollout, before)
    elif is_daily and action != rollout.action:
        _note_change(session, rollout, today, action)
    if is_daily or is_other:
        rollout.action, rollout.shown, rollout.variant = action, shown, found.variant.name
        rollout.told_at = func.now()
        redraw(session, rollout)
    return rollout


def _of(session: Session, variant_id: uuid.UUID, first_step_id: int) -> Rollout | None:
    query = select(Rollout).where(Rollout.variant_id == variant_id, Rollout.first_step_id == first_step_id)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def _shown(found: Standing, terms: Terms) -> dict[str, Any]:
    """What a digest says of a candidate in one line."""
    look, price = found.seen.look, found.decision.price
    step = allocation.next_step(look.share, terms.steps)
    return {
        "why": found.decision.why,
        "share": str(look.share),
        "next": None if step is None else str(step),
        "days": round(look.days_in_step, 2),
        "minimum_days": terms.days_at(look.share),
        "days_left": None if price is None or price.days is None else round(max(price.days, price.minimum_days), 1),
    }


def _deserves_a_message(session: Session, place: Experiment, rollout: Rollout, action: str) -> bool:
    """True where the verdict is another than the card was posted with, or somebody has to act and nobody has yet."""
    if is_held(session, rollout):
        return False
    is_asked = session.scalar(select(Request.id).where(Request.experiment_id == place.id, Request.state == "open"))
    return action != rollout.posted_action or (action in NEEDS_SOMEBODY and is_asked is None)


def _leave(session: Session, rollout: Rollout, message: str) -> None:
    """The message where the card stood is to say that it goes on in another."""
    subject = card_key(rollout.id)
    outbox.put(session, kind="moved", subject=subject, key=f"moved:{message}", rollout=rollout.id, message=message)


def _note_change(session: Session, rollout: Rollout, today: date, action: str) -> None:
    """A changed verdict whose day has had its message already is told in the thread of the card."""
    key = f"turned:{rollout.id}:{today.isoformat()}:{action}"
    subject, message = card_key(rollout.id), message_key(rollout)
    about: dict[str, Any] = {"rollout": rollout.id, "before": rollout.action, "message": message}
    outbox.put(session, kind="turned", subject=subject, key=key, **about)


def redraw(session: Session, rollout: Rollout) -> None:
    """Asks for the card to be drawn as things are then."""
    rollout.edits += 1
    card = card_key(rollout.id)
    outbox.put_latest(session, kind="rollout", subject=card, key=f"{card}:{rollout.edits}", rollout=rollout.id)
    session.flush()


def touch(session: Session, experiment_id: uuid.UUID) -> None:
    """Asks for the cards of an experiment to be drawn again: a request or an alert that they name came or went."""
    for rollout in running(session, experiment_id):
        redraw(session, rollout)


def _end_all_but(session: Session, place: Experiment, running: Collection[int]) -> None:
    base, there = baseline_or_note(session, place)[0], shares(session, place)
    query = select(Rollout).where(Rollout.experiment_id == place.id, Rollout.ended_at.is_(None))
    for rollout in session.scalars(query.with_for_update()):
        is_over = not there.get(rollout.variant_id) or (base is not None and base.id == rollout.variant_id)
        if rollout.id not in running and is_over:
            rollout.ended_at = func.now()
            redraw(session, rollout)


def end_deleted(session: Session) -> None:
    """The cards of experiments that were deleted come to their end."""
    gone = Rollout.experiment_id.not_in(select(Experiment.id))
    for rollout in session.scalars(select(Rollout).where(Rollout.ended_at.is_(None), gone).with_for_update()):
        rollout.ended_at = func.now()
        redraw(session, rollout)


def running(session: Session, experiment_id: uuid.UUID) -> list[Rollout]:
    """The rollouts of an experiment that people follow at the moment, oldest first."""
    query = select(Rollout).where(Rollout.experiment_id == experiment_id, Rollout.ended_at.is_(None))
    return list(session.scalars(query.order_by(Rollout.id)))


def newest(session: Session, experiment: str) -> Rollout | None:
    """The newest rollout of an experiment: one that runs, else the last that did. Its card's thread has the news."""
    place = find_experiment(session, experiment, lock=False)
    query = select(Rollout).where(Rollout.experiment_id == place.id)
    return session.scalar(query.order_by(Rollout.ended_at.desc(), Rollout.id.desc()).limit(1))


def one(session: Session, rollout_id: int) -> Rollout:
    """One rollout.

    Raises:
        Refused: where there is none of that number.
    """
    found = session.get(Rollout, rollout_id, populate_existing=True)
    if found is None:
        raise Refused("This rollout is not on record any more.")
    return found


# --- Holding --------------------------------------------------------------------------------------------------------


def is_held(session: Session, rollout: Rollout) -> bool:
    """True while somebody has put the rollout on hold."""
    return rollout.hold_until is not None and rollout.hold_until > db.now_of(session)


def hold(
    session: Session,
    *,
    experiment: str | uuid.UUID,
    variant: str | uuid.UUID | None,
    until: datetime,
    reason: str,
    by: str,
) -> Rollout:
    """Puts a rollout on hold: until then nobody is asked to move it on, and moving it on takes an override.

    Alerts and rollbacks go on as ever. A second hold takes the place of the first; one that ends now lifts it.

    Raises:
        Refused: without a reason, or where there is no such rollout.
    """
    is_over = until <= db.now_of(session)
    if not (reason.strip() or is_over):
        raise Refused("Say why: add `because` and the reason for the hold.")
    place = find_experiment(session, experiment)
    chosen = candidate(session, place, variant)
    rollout = next((r for r in running(session, place.id) if r.variant_id == chosen.id), None)
    if rollout is None:
        raise Refused(f"{chosen.name} has no card yet; there will be one at the next look, within minutes.")
    if is_over and not is_held(session, rollout):
        raise Refused(f"{chosen.name} is not on hold.")
    before = rollout.hold_until.isoformat() if rollout.hold_until else None
    rollout.hold_until = None if is_over else until
    rollout.held_by, rollout.hold_reason = (None, None) if is_over else (by, reason.strip())
    ledger.record(
        session,
        actor=by,
        action="unhold" if is_over else "hold",
        subject=chosen.name,
        experiment_id=place.id,
        reason=reason.strip() or None,
        before={"hold_until": before},
        after={"hold_until": None if is_over else until.isoformat()},
    )
    redraw(session, rollout)
    return rollout


def held(session: Session, variant_id: uuid.UUID) -> Rollout | None:
    """The rollout of a candidate, where it is on hold."""
    query = select(Rollout).where(
        Rollout.variant_id == variant_id, Rollout.ended_at.is_(None), Rollout.hold_until > func.now()
    )
    return session.scalar(query)
