"""How the installation is, in numbers: what a readiness check and a dashboard ask for, each in a few short reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import db, leader, rollouts
from core.errors import Refused
from core.rules.calendar import Schedule
from core.tables import Alert, Experiment, Message, Request, Rollout

EffectState = Literal["waiting", "postponed", "failing"]
DECIDED_WITHIN_S: Final = (60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0)
"""What the times that people take to decide are sorted by: from a minute to a day."""
OLDER = "The schema is older than this program: its migrations have not been run."


@dataclass(frozen=True)
class Effects:
    """The effects of a kind that are not done: how many, and for how long the first of them has been asked for."""

    kind: str
    state: EffectState
    """`waiting`: nobody has tried; `postponed`: Slack said when to come back; `failing`: the last attempt failed."""
    number: int
    oldest_s: float


@dataclass(frozen=True)
class Decisions:
    """The requests of an action that ended in one way, and how long they were open."""

    action: str
    outcome: str
    by_people: bool
    """False where nobody's click ended it: it expired, was replaced, or was signed for beforehand."""
    number: int
    seconds: float
    within: tuple[int, ...]
    """How many took at most each of DECIDED_WITHIN_S."""


@dataclass(frozen=True)
class Readiness:
    """What the database says of whether a process can do its work."""

    schema_fault: str | None
    has_leader: bool = False
    effects: tuple[Effects, ...] = ()

    @property
    def oldest_s(self) -> float:
        """For how long the effect that was asked for first has not been done."""
        return max((each.oldest_s for each in self.effects), default=0.0)


@dataclass(frozen=True)
class Vitals:
    """The installation at a moment; every process of it reads the same."""

    effects: tuple[Effects, ...]
    recommendations: Mapping[str, int]
    """What the daily looks of today (UTC) recommend for the rollouts that go on, by action."""
    alerts: Mapping[tuple[str, bool], int]
    """The open ones, by cause and whether they are critical."""
    open_requests: Mapping[str, int]
    """By action."""
    decisions: tuple[Decisions, ...]
    posts_today: int
    """How many rollouts have had their message of the local day."""
    posts_budget: int
    """How many messages that could be at most: one a rollout."""
    has_leader: bool


def readiness(session: Session) -> Readiness:
    """What there is to say of readiness; without a schema that fits, nothing else is read."""
    try:
        fault = None if db.fits(session) else OLDER
    except Refused as refused:
        fault = str(refused)
    if fault is not None:
        return Readiness(fault)
    return Readiness(None, leader.is_led(session), _effects(session))


def vitals(session: Session, schedule_of: Callable[[str], Schedule]) -> Vitals:
    """Everything that is counted; `schedule_of` says which day it is for an experiment."""
    budget, posts = _posts(session, schedule_of)
    return Vitals(
        effects=_effects(session),
        recommendations=_recommendations(session),
        alerts=_alerts(session),
        open_requests=_open_requests(session),
        decisions=_decisions(session),
        posts_today=posts,
        posts_budget=budget,
        has_leader=leader.is_led(session),
    )


_EFFECTS = text("""
    SELECT kind, count(*) AS number, greatest(extract(epoch FROM now() - min(created_at)), 0) AS oldest_s,
           CASE WHEN last_error IS NULL THEN 'waiting' WHEN last_error LIKE 'Later: %' THEN 'postponed'
                ELSE 'failing' END AS state
      FROM promotion.effects WHERE done_at IS NULL GROUP BY kind, state ORDER BY kind, state""")


def _effects(session: Session) -> tuple[Effects, ...]:
    found = session.execute(_EFFECTS)
    return tuple(Effects(row.kind, row.state, row.number, float(row.oldest_s)) for row in found)


# Of each rollout that goes on the look of today, by the constraint that there is one.
_RECOMMENDATIONS = text("""
    SELECT n.action, count(*) AS number FROM promotion.rollouts r
      JOIN promotion.recommendations n ON n.variant_id = r.variant_id AND n.is_daily
       AND n.day = (now() AT TIME ZONE 'UTC')::date
     WHERE r.ended_at IS NULL GROUP BY n.action""")


def _recommendations(session: Session) -> dict[str, int]:
    return {row.action: row.number for row in session.execute(_RECOMMENDATIONS)}


def _alerts(session: Session) -> dict[tuple[str, bool], int]:
    is_open = Alert.state == "open"
    query = select(Alert.cause, Alert.is_critical, func.count()).where(is_open)
    found = session.execute(query.group_by(Alert.cause, Alert.is_critical))
    return {(cause, is_critical): number for cause, is_critical, number in found}


def _open_requests(session: Session) -> dict[str, int]:
    query = select(Request.action, func.count().label("number")).where(Request.state == "open").group_by(Request.action)
    return {row.action: row.number for row in session.execute(query)}


_DECISIONS = text("""
    SELECT action, state, signature_id IS NULL AND state IN ('applied', 'rejected') AS by_people,
           width_bucket(extract(epoch FROM decided_at - created_at)::float8, CAST(:limits AS float8[])) AS bucket,
           count(*) AS number, sum(extract(epoch FROM decided_at - created_at)) AS seconds
      FROM promotion.requests WHERE state <> 'open' GROUP BY 1, 2, 3, 4""")


def _decisions(session: Session) -> tuple[Decisions, ...]:
    """Those of all time; they only grow, but where an experiment is deleted with its requests."""
    buckets: dict[tuple[str, str, bool], Counter[int]] = {}
    seconds: defaultdict[tuple[str, str, bool], float] = defaultdict(float)
    for row in session.execute(_DECISIONS, {"limits": list(DECIDED_WITHIN_S)}):
        about = (row.action, row.state, row.by_people)
        buckets.setdefault(about, Counter())[row.bucket] = row.number
        seconds[about] += float(row.seconds)
    return tuple(
        Decisions(
            *about, found.total(), seconds[about], tuple(accumulate(found[n] for n in range(len(DECIDED_WITHIN_S))))
        )
        for about, found in sorted(buckets.items())
    )


def _posts(session: Session, schedule_of: Callable[[str], Schedule]) -> tuple[int, int]:
    """Of how many rollouts people may have had a message today, and of how many they had."""
    query = select(Rollout.id, Rollout.posted_on, Experiment.name).where(Rollout.ended_at.is_(None))
    running = session.execute(query.join(Experiment, Experiment.id == Rollout.experiment_id)).all()
    now = db.now_of(session)
    todays = [one for one in running if one.posted_on == schedule_of(one.name).today(now)]
    keys = [rollouts.key_of_day(one.id, one.posted_on) for one in todays]
    posted = session.scalar(select(func.count()).where(Message.key.in_(keys)))
    return len(running), posted or 0
