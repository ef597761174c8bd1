"""The day's recommendation: made once per experiment and local day, and told in one digest a channel and day."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import audit, db, ledger, outbox, recommendations, rollouts
from core.rollouts import NEEDS_SOMEBODY, Talk
from core.rules import calendar
from core.rules.calendar import Schedule
from core.rules.decision import AllTerms
from core.tables import Alert, AllocationStep, DailyRecommendation, Experiment, Request, Rollout, Variant
from core.variants import find_experiment, running_of

Names = list[tuple[uuid.UUID, str]]

# Experiments from before the bot that began over a week ago, and of which no plan and no aggregate was ever seen: what
# never spoke has not fallen silent. Shares that are changed, a plan or an aggregate end it.
_NEVER_HEARD = """
SELECT s.experiment_id FROM promotion.allocation_steps s GROUP BY s.experiment_id
HAVING bool_and(s.source = 'reconstructed') AND max(s.started_at) < now() - interval '7 days'
   AND NOT EXISTS (SELECT FROM promotion.measure_experiments m JOIN promotion.measure_slots h ON h.experiment = m.id
                    WHERE m.experiment_id = s.experiment_id AND h.plans > 0)
   AND NOT EXISTS (SELECT FROM exp.metric_aggregates a WHERE a.experiment_id = s.experiment_id)
"""


def _is_heard_of() -> ColumnElement[bool]:
    return Experiment.id.not_in(text(_NEVER_HEARD).columns(AllocationStep.experiment_id))


def watched(session: Session) -> Names:
    """The experiments that are to be looked at: the active ones, and those with an alert or a card that may end.

    Those from before the bot that never sent anything wait until they do.
    """
    followed = select(Rollout.experiment_id).where(Rollout.ended_at.is_(None))
    alerted = select(Alert.experiment_id).where(Alert.state == "open")
    is_active = (Experiment.status == "active") & _is_heard_of()
    wanted = is_active | Experiment.id.in_(followed) | Experiment.id.in_(alerted)
    query = select(Experiment.id, Experiment.name).where(wanted).order_by(Experiment.name)
    return [(row.id, row.name) for row in session.execute(query)]


def due(session: Session, schedule_of: Callable[[str], Schedule]) -> Names:
    """The active experiments with several variants at work whose latest day has no recommendation yet."""
    serving = (
        select(Variant.experiment_id)
        .where(Variant.allocation > 0)
        .group_by(Variant.experiment_id)
        .having(func.count() > 1)
    )
    newest = (
        select(DailyRecommendation.experiment_id, func.max(DailyRecommendation.day).label("day"))
        .group_by(DailyRecommendation.experiment_id)
        .subquery()
    )
    query = (
        select(Experiment.id, Experiment.name, newest.c.day)
        .outerjoin(newest, newest.c.experiment_id == Experiment.id)
        .where(Experiment.status == "active", Experiment.id.in_(serving), _is_heard_of())
        .order_by(Experiment.name)
    )
    now = db.now_of(session)
    found = [(row, calendar.latest_due(schedule_of(row.name), now)) for row in session.execute(query)]
    return [(row.id, row.name) for row, day in found if day is not None and (row.day is None or row.day < day.day)]


def recommend_due(session: Session, talks: Mapping[uuid.UUID, Talk], *, terms: AllTerms) -> int:
    """Makes the recommendations of the latest day whose time has come, where they are not made yet; returns how many.

    Days that were slept through are not made up for, but the latest of them is, marked late. Two schedulers at once
    meet at the row of the day: the second waits for the first, then finds it made.
    """
    now = db.now_of(session)
    begun = [row for experiment in sorted(talks) if (row := _begin(session, experiment, talks[experiment], now))]
    found = recommendations.recommend(session, [row.experiment_id for row in begun], terms)
    for row in begun:
        place = find_experiment(session, row.experiment_id)
        standings = rollouts.valid(session, place, found[place.id])
        told = rollouts.tell(session, place, standings, terms.of(place.name), talks[place.id], is_daily=True)
        row.rollouts = [rollout.id for rollout in told]
    session.flush()
    return len(begun)


def _begin(session: Session, experiment_id: uuid.UUID, talk: Talk, now: datetime) -> DailyRecommendation | None:
    """The row of the day's recommendation of an experiment, where that is due and this transaction's to make."""
    due = calendar.latest_due(talk.schedule, now)
    if due is None:
        return None
    newest = _newest_day(session, experiment_id)
    if (newest is not None and newest >= due.day) or not _ran_at(session, experiment_id, due.at):
        return None
    place = find_experiment(session, experiment_id, lock=False)
    base, running = running_of(session, place)
    if place.status != "active" or base is None or not running:
        return None
    row = {
        "experiment_id": experiment_id,
        "day": due.day,
        "due_at": due.at,
        # On the day that the bot comes nothing is late.
        "is_late": due.is_late(now) and newest is not None and not _was_paused(session, place, due.at),
        "channel": talk.channel,
        "rollouts": [],
    }
    made = insert(DailyRecommendation).values(row).on_conflict_do_nothing().returning(DailyRecommendation)
    return session.scalar(made)


def _newest_day(session: Session, experiment_id: uuid.UUID) -> date | None:
    """The latest day on which an experiment was recommended on."""
    query = select(func.max(DailyRecommendation.day)).where(DailyRecommendation.experiment_id == experiment_id)
    return session.scalar(query)


def _was_paused(session: Session, place: Experiment, at: datetime) -> bool:
    """True where an experiment was paused at that moment: what was not due then is not late now."""
    pauses = ledger.pauses(session, [place.id], until=db.now_of(session))[place.id]
    return any(start <= at < end for start, end in pauses)


def _ran_at(session: Session, experiment_id: uuid.UUID, at: datetime) -> bool:
    """True where a candidate had traffic at that moment: nothing was missed before."""
    query = select(AllocationStep.shares).where(
        AllocationStep.experiment_id == experiment_id, AllocationStep.started_at <= at
    )
    shares = session.scalar(query.order_by(AllocationStep.started_at.desc(), AllocationStep.id.desc()).limit(1))
    return sum(float(share) > 0 for share in (shares or {}).values()) > 1


# Of each channel's newest day: how many recommendations were made, and how often cards were drawn since.
_NEWEST = text("""
SELECT d.channel, d.day, count(DISTINCT d.experiment_id) AS made, coalesce(sum(r.edits), 0) AS edits
  FROM promotion.daily_recommendations d LEFT JOIN promotion.rollouts r ON r.id = ANY(d.rollouts)
 WHERE d.day = (SELECT max(n.day) FROM promotion.daily_recommendations n WHERE n.channel = d.channel)
    OR d.made_at > now() - interval '1 day'
 GROUP BY d.channel, d.day
""")


def put_digests(session: Session) -> None:
    """Asks for each channel's newest digest to be brought in line, once for whatever has changed since."""
    for channel, day, made, edits in session.execute(_NEWEST):
        key, stand = message_key(channel, day), f"{made}.{edits}"
        outbox.put_latest(
            session, kind="digest", subject=key, key=f"{key}:{stand}", channel=channel, day=day.isoformat()
        )


def message_key(channel: str, day: date) -> str:
    """The key of a digest's message: one a channel and day."""
    return f"digest:{channel}:{day.isoformat()}"


# --- Reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DigestLine:
    """One rollout in a digest."""

    rollout: int
    experiment: str
    variant: str
    action: str
    why: str
    share: Decimal
    next_step: Decimal | None
    days: float
    minimum_days: int
    days_left: float | None
    held_until: datetime | None
    open_request: int | None
    open_alerts: int
    has_ended: bool

    @property
    def needs_somebody(self) -> bool:
        """True where a person has to act or decide."""
        if self.has_ended:
            return False
        if self.open_alerts or self.open_request is not None:
            return True
        return self.action in NEEDS_SOMEBODY and self.held_until is None


@dataclass(frozen=True)
class Digest:
    """A channel's day: every rollout, those that need somebody first."""

    channel: str
    day: date
    lines: tuple[DigestLine, ...]
    late: int
    """Of how many experiments the recommendation came late."""
    record: audit.Head | None = None
    """The head of the record: told here, it is out of reach of whoever could change the database."""


def digest(session: Session, channel: str, day: date) -> Digest:
    """What was recommended in a channel on a day, as it stands now."""
    made = session.scalars(
        select(DailyRecommendation).where(DailyRecommendation.channel == channel, DailyRecommendation.day == day)
    ).all()
    wanted = [number for row in made for number in row.rollouts]
    found = lines(session, session.scalars(select(Rollout).where(Rollout.id.in_(wanted))).all())
    return Digest(channel, day, found, sum(row.is_late for row in made), audit.head(session))


_ORDER: Mapping[str, int] = {"rollback": 0, "hold": 1, "promote": 2, "increase": 3, "wait": 4}


def lines(session: Session, chosen: Sequence[Rollout]) -> tuple[DigestLine, ...]:
    """Rollouts as lines, those that need somebody first, the most urgent on top."""
    places = {rollout.experiment_id for rollout in chosen}
    named = session.execute(select(Experiment.id, Experiment.name).where(Experiment.id.in_(places)))
    is_open = Request.experiment_id.in_(places) & (Request.state == "open")
    asked = session.execute(select(Request.experiment_id, Request.id).where(is_open))
    names = {row[0]: row[1] for row in named}
    requests = {row[0]: row[1] for row in asked}
    alerts = _open_alerts(session, places)
    now = db.now_of(session)
    found = [
        DigestLine(
            rollout=r.id,
            experiment=names.get(r.experiment_id, "?"),
            variant=r.variant,
            action=r.action,
            why=r.shown["why"],
            share=Decimal(r.shown["share"]),
            next_step=Decimal(r.shown["next"]) if r.shown["next"] else None,
            days=r.shown["days"],
            minimum_days=r.shown["minimum_days"],
            days_left=r.shown["days_left"],
            held_until=r.hold_until if r.hold_until and r.hold_until > now else None,
            open_request=requests.get(r.experiment_id),
            open_alerts=alerts.get(r.experiment_id, 0),
            has_ended=r.ended_at is not None,
        )
        for r in chosen
    ]
    return tuple(
        sorted(found, key=lambda x: (not x.needs_somebody, -x.open_alerts, _ORDER[x.action], x.experiment, x.variant))
    )


def _open_alerts(session: Session, places: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    query = (
        select(Alert.experiment_id, func.count())
        .where(Alert.experiment_id.in_(places), Alert.state == "open")
        .group_by(Alert.experiment_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def running(session: Session) -> tuple[DigestLine, ...]:
    """All rollouts that people follow at the moment."""
    return lines(session, session.scalars(select(Rollout).where(Rollout.ended_at.is_(None))).all())
