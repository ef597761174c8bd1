"""Alerts -> the frozen values that people are shown."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db, rollouts
from core.alerts import DISMISSED_FOR
from core.rules import chain
from core.rules.troubles import Cause
from core.tables import Alert, Countdown, Experiment, LedgerEntry, Request, SafetySignature
from core.variants import find_experiment

# --- Alerts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountdownLine:
    """The countdown of an alert, running or ended, and what was signed for it."""

    state: str
    share_after: Decimal
    returns_at: datetime
    signed_by: str
    minutes: int
    reason: str
    ended_by: str | None
    why: str | None


@dataclass(frozen=True)
class AlertCard:
    """An alert as its card shows it; `proposals` are shares before and after a rollback, by what is given back."""

    id: int
    experiment: str
    variant: str | None
    whose: str
    why: str
    numbers: tuple[tuple[str, str, str], ...]
    proposals: Mapping[str, Mapping[str, tuple[Decimal, Decimal]]]
    marks: Mapping[str, str]
    """By what is given back, the mark that a click brings back of the shares it was shown."""
    state: str
    began_at: datetime
    opened_at: datetime
    seen_at: datetime
    looks: int
    snoozed_until: datetime | None
    snoozed_by: str | None
    request_id: int | None
    ended_at: datetime | None
    ended_by: str | None
    end_reason: str | None
    channel: str
    countdown: CountdownLine | None = None

    @property
    def is_waiting(self) -> bool:
        """True where somebody should answer it: it is open, and nobody lets it rest."""
        return self.state == "open" and self.snoozed_until is None


def alert_card(session: Session, alert_id: int) -> AlertCard:
    """One alert as it is now."""
    alert = session.get_one(Alert, alert_id, populate_existing=True)
    return _alert_card(session, alert, db.now_of(session))


def _alert_card(session: Session, alert: Alert, now: datetime) -> AlertCard:
    place = session.get(Experiment, alert.experiment_id)
    is_resting = alert.snoozed_until is not None and alert.snoozed_until > now
    proposals = {
        scope: {name: (Decimal(before), Decimal(after)) for name, (before, after) in changes.items()}
        for scope, changes in alert.proposals.items()
    }
    return AlertCard(
        id=alert.id,
        experiment=place.name if place else rollouts.DELETED,
        variant=alert.variant,
        whose=alert.whose,
        why=alert.why,
        numbers=tuple((state, title, words) for state, title, words in alert.numbers),
        proposals=proposals,
        marks={scope: chain.mark(changes) for scope, changes in alert.proposals.items()},
        state=alert.state,
        began_at=alert.began_at,
        opened_at=alert.opened_at,
        seen_at=alert.seen_at,
        looks=alert.looks,
        snoozed_until=alert.snoozed_until if is_resting else None,
        snoozed_by=alert.snoozed_by,
        request_id=alert.request_id,
        ended_at=alert.ended_at,
        ended_by=alert.ended_by,
        end_reason=alert.end_reason,
        channel=alert.channel,
        countdown=_countdown(session, alert),
    )


def _countdown(session: Session, alert: Alert) -> CountdownLine | None:
    row = session.get(Countdown, alert.id, populate_existing=True)
    if row is None:
        return None
    signed = session.get_one(SafetySignature, row.signature_id)
    return CountdownLine(
        row.state,
        row.share_after,
        row.returns_at,
        signed.signed_by,
        signed.minutes,
        signed.reason,
        row.ended_by,
        row.why,
    )


def open_alerts(session: Session, experiment: str | None = None) -> list[AlertCard]:
    """The open alerts, of one experiment or of all, the critical ones first.

    Raises:
        Refused: where there is no such experiment.
    """
    query = select(Alert).where(Alert.state == "open").order_by(Alert.is_critical.desc(), Alert.id)
    if experiment is not None:
        query = query.where(Alert.experiment_id == find_experiment(session, experiment, lock=False).id)
    now = db.now_of(session)
    return [_alert_card(session, alert, now) for alert in session.scalars(query)]


def quiet_alerts(session: Session, experiment: str | None = None) -> list[AlertCard]:
    """The alerts that were dismissed within the last day, so that their cause stays quiet at the same shares."""
    query = select(Alert).where(Alert.state == "dismissed", Alert.ended_at > func.now() - DISMISSED_FOR)
    if experiment is not None:
        query = query.where(Alert.experiment_id == find_experiment(session, experiment, lock=False).id)
    now = db.now_of(session)
    return [_alert_card(session, alert, now) for alert in session.scalars(query.order_by(Alert.id))]


def acted_lately(session: Session, experiment_id: uuid.UUID) -> frozenset[str]:
    """The people who did something with an experiment within the last hour: they need no reminding."""
    hour_ago = func.now() - func.make_interval(0, 0, 0, 0, 1)
    query = select(LedgerEntry.actor).where(LedgerEntry.experiment_id == experiment_id, LedgerEntry.at > hour_ago)
    return frozenset(session.scalars(query))


def experiment_of(session: Session, alert_id: int) -> uuid.UUID:
    """The experiment that an alert is about."""
    return session.get_one(Alert, alert_id).experiment_id


# --- Scorecard ------------------------------------------------------------------------------------------------------

CAUSES: Final = get_args(Cause)
LATELY: Final = timedelta(days=30)


@dataclass(frozen=True)
class Score:
    """How the alerts of one cause fared: counts by state, and medians in minutes (None where there are none)."""

    cause: str
    raised: int
    by_state: Mapping[str, int]
    minutes_to_detect: float | None
    minutes_to_decide: float | None

    @property
    def precision(self) -> float | None:
        """The part of the alerts that people judged which they confirmed; None where nobody judged any."""
        right, wrong = self.by_state.get("confirmed", 0), self.by_state.get("dismissed", 0)
        return right / (right + wrong) if right + wrong else None


def scorecard(session: Session, experiment: str | None = None) -> list[Score]:
    """How good the alerts have been, over all causes and then cause by cause; empty before the first alert.

    Raises:
        Refused: where there is no such experiment.
    """
    query = select(Alert)
    if experiment is not None:
        query = query.where(Alert.experiment_id == find_experiment(session, experiment, lock=False).id)
    found = session.scalars(query).all()
    parts = [(cause, [alert for alert in found if alert.cause == cause]) for cause in CAUSES]
    return [_score(cause, alerts) for cause, alerts in [("all", list(found)), *parts] if alerts]


@dataclass(frozen=True)
class Glass:
    """How often owners had changes carried out without their approvals; rollbacks, which need none, are left out."""

    applied: int
    """Changes that were carried out at all."""
    by: Mapping[str, int]
    """By who broke the glass."""
    lately: int
    """Within the last 30 days."""

    @property
    def broken(self) -> int:
        """How often it was broken."""
        return sum(self.by.values())


def glass(session: Session, experiment: str | None = None) -> Glass:
    """How often the glass was broken.

    Raises:
        Refused: where there is no such experiment.
    """
    is_asked = (Request.state == "applied") & (Request.action != "rollback")
    if experiment is not None:
        is_asked &= Request.experiment_id == find_experiment(session, experiment, lock=False).id
    counted = select(Request.decided_by, Request.is_glass_broken, func.count().label("many")).where(is_asked)
    rows = session.execute(counted.group_by(Request.decided_by, Request.is_glass_broken)).all()
    is_late = Request.is_glass_broken & (Request.decided_at > func.now() - LATELY)
    lately = session.scalar(select(func.count()).where(is_asked, is_late)) or 0
    by = {row.decided_by: row.many for row in rows if row.is_glass_broken}
    return Glass(sum(row.many for row in rows), by, lately)


def _score(cause: str, alerts: Sequence[Alert]) -> Score:
    states = [alert.state for alert in alerts]
    return Score(
        cause,
        len(alerts),
        {state: states.count(state) for state in sorted(set(states))},
        _minutes([(a.began_at, a.opened_at) for a in alerts]),
        _minutes([(a.opened_at, a.ended_at) for a in alerts if a.state in ("confirmed", "dismissed")]),
    )


def _minutes(spans: Sequence[tuple[datetime, datetime | None]]) -> float | None:
    lasted = [(end - start).total_seconds() / 60 for start, end in spans if end is not None]
    return statistics.median(lasted) if lasted else None
