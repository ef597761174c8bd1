"""Watching experiments: the trouble that a look finds has its alert, and an alert whose trouble is over ends."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import alerts, db, ledger, looks, measure, recommendations, rollouts
from core.recommendations import Standing
from core.rollouts import Talk
from core.rules import troubles
from core.rules.decision import AllTerms
from core.rules.findings import Finding
from core.rules.troubles import Trouble
from core.rules.wording import compared
from core.tables import Alert, Experiment, Recommendation, Variant
from core.variants import find_experiment, shares, variants

RECOVERS_AFTER: Final = timedelta(minutes=30)
QUIET_LOOKS: Final = 2
"""Trouble that was not seen for as long as this, nor by as many looks, is over."""
LINGERING_RECOVERS_AFTER: Final = timedelta(days=2)
"""A unit that comes once a day with a variant at 0 % is the same trouble every day."""
AGGREGATED: Final = timedelta(days=2)
"""A team whose aggregates are no older than this is not silent for having no events."""
LINGERS_AFTER: Final = timedelta(hours=48)
"""Units keep the variant they were assigned; after as long as this at 0 % somebody should know."""


@dataclass(frozen=True)
class _Found:
    """Trouble with what its alert keeps of it."""

    trouble: Trouble
    variant: Variant | None
    step_id: int
    began_at: datetime
    numbers: list[list[str]]
    proposals: dict[str, Any]

    @property
    def about(self) -> tuple[str, uuid.UUID | None]:
        """What there is one open alert about."""
        return self.trouble.cause, self.variant.id if self.variant else None


def watch(session: Session, talks: Mapping[uuid.UUID, Talk], *, terms: AllTerms) -> list[Alert]:
    """Looks at some experiments and brings their cards and alerts in line with what is found; returns the open alerts.

    The same trouble seen again goes on in its alert. What a person dismissed stays quiet for a day at the same shares.
    """
    found = recommendations.recommend(session, list(talks), terms)
    # Always in the same order, so that nobody waits for the lock of somebody who waits for theirs.
    watched = (_watch(session, experiment, found[experiment], terms, talks[experiment]) for experiment in sorted(talks))
    return [alert for there in watched for alert in there]


def _watch(
    session: Session, experiment_id: uuid.UUID, found: Sequence[Standing], terms: AllTerms, talk: Talk
) -> list[Alert]:
    place, now = find_experiment(session, experiment_id), db.now_of(session)
    found = rollouts.valid(session, place, found)
    rollouts.tell(session, place, found, terms.of(place.name), talk, is_daily=False)
    there: list[_Found] = []
    if place.status == "active":
        every = [each for one in found for each in _of_candidate(session, place, one)]
        # What is not one candidate's trouble alone is found beside each of them.
        there = list({each.about: each for each in reversed([*every, *_of_place(session, place, now)])}.values())
    known = {(alert.cause, alert.variant_id): alert for alert in alerts.open_in(session, experiment_id)}
    seen = [alert for each in there if (alert := _noted(session, place, talk.channel, each, known, now))]
    served = {key for key, share in shares(session, place).items() if share > 0}
    looked_at = {one.variant.id for one in found}
    doubts = {each.trouble.whose for each in there if each.trouble.cause != "lingering"}
    for alert in known.values():
        if alert not in seen and _would_show(alert, served, looked_at):
            alert.quiet_at = now
            _quieted(session, place, alert, doubts, now, talk)
    session.flush()
    return seen


def _would_show(alert: Alert, served: Set[uuid.UUID], looked_at: Set[uuid.UUID]) -> bool:
    """True where a look would have shown the trouble of an alert; without a baseline nothing is looked at."""
    if alert.cause in troubles.OF_PLACE:
        return True
    if alert.variant_id is not None:
        return alert.variant_id in looked_at or alert.variant_id not in served
    return bool(looked_at) or len(served) < 2


def _of_candidate(session: Session, place: Experiment, found: Standing) -> list[_Found]:
    began = _last_clean_look(session, found) or found.seen.since
    # What stands on record goes on standing; the numbers of the moment are shown where they say the same.
    said = found.present if found.present.action == found.decision.action else found.decision
    return [
        _Found(
            trouble,
            found.variant if trouble.whose == "candidate" else None,
            found.seen.step_id,
            max(began, found.seen.since),
            _numbers(said.findings),
            alerts.proposals(session, place, found.variant) if trouble.whose == "candidate" else {},
        )
        for trouble in troubles.of_candidate(found.seen.look, said)
    ]


def _last_clean_look(session: Session, found: Standing) -> datetime | None:
    query = select(func.max(Recommendation.made_at)).where(
        Recommendation.variant_id == found.variant.id,
        Recommendation.first_step_id == found.seen.first_step_id,
        Recommendation.action.not_in(("rollback", "hold")),
    )
    return session.scalar(query)


def _numbers(findings: Sequence[Finding]) -> list[list[str]]:
    """State, title and words of each metric, the harmed ones first."""
    ordered = sorted(findings, key=lambda f: f.state != "worse")
    return [[f.state, f"{f.metric.title}{f.where}", compared(f.telling)] for f in ordered]


def _of_place(session: Session, place: Experiment, now: datetime) -> list[_Found]:
    """Trouble that has nothing to do with any one candidate."""
    step = next(iter(measure.steps(session, place.id)[-1:]), None)
    if step is None:
        return []
    fresh = measure.freshness(session, place.id)
    is_silent_by_habit = fresh.last_plan_at is None and _has_aggregates(session, place, step)
    traffic = None if is_silent_by_habit else looks.traffic(fresh, step.started_at, now)
    lingering = _lingering(session, place, now)
    return [_Found(t, None, step.id, step.started_at, [], {}) for t in troubles.of_place(traffic, lingering)]


def _has_aggregates(session: Session, place: Experiment, step: Any) -> bool:
    return measure.from_aggregates(session, place.id, since=step.started_at - AGGREGATED) is not None


def _lingering(session: Session, place: Experiment, now: datetime) -> list[str]:
    """The variants at 0 % that served plans since yesterday, though their share was taken well before that."""
    lately = {
        str(variant_id)
        for step in measure.steps(session, place.id)
        if step.until is None or now - step.until < LINGERS_AFTER
        for variant_id, share in step.shares.items()
        if float(share) > 0
    }
    served = {
        day.variant_id
        for day in measure.daily(session, place.id, since=now.date() - timedelta(days=1))
        if day.sample.plans
    }
    at_rest = (v for v in variants(session, place) if v.allocation == 0 and str(v.id) not in lately)
    return [v.name for v in at_rest if v.id in served]


def _noted(
    session: Session,
    place: Experiment,
    channel: str,
    found: _Found,
    known: Mapping[tuple[str, uuid.UUID | None], Alert],
    now: datetime,
) -> Alert | None:
    """The alert of this trouble, gone on with or opened; None where it was dismissed."""
    alert = known.get(found.about)
    if alert is not None:
        is_new = (alert.why, alert.numbers, alert.proposals) != (found.trouble.why, found.numbers, found.proposals)
        alert.why, alert.numbers, alert.proposals = found.trouble.why, found.numbers, found.proposals
        alert.seen_at, alert.looks, alert.step_id = now, alert.looks + 1, found.step_id
        if is_new:
            alerts.redraw(session, alert, f"look-{alert.looks}")
        return alert
    if _was_dismissed(session, place, found, now):
        return None
    alert = Alert(
        experiment_id=place.id,
        variant_id=found.variant.id if found.variant else None,
        variant=found.variant.name if found.variant else None,
        channel=channel,
        cause=found.trouble.cause,
        whose=found.trouble.whose,
        is_critical=found.trouble.is_critical,
        why=found.trouble.why,
        numbers=found.numbers,
        proposals=found.proposals,
        step_id=found.step_id,
        began_at=found.began_at,
    )
    session.add(alert)
    session.flush()
    alerts.record(session, alert, "alert", by=ledger.BOT, reason=alert.why)
    alerts.redraw(session, alert, "opened")
    rollouts.touch(session, place.id)
    return alert


def _was_dismissed(session: Session, place: Experiment, found: _Found, now: datetime) -> bool:
    query = select(Alert.id).where(
        Alert.experiment_id == place.id,
        Alert.cause == found.trouble.cause,
        Alert.variant_id.is_not_distinct_from(found.variant.id if found.variant else None),
        Alert.step_id == found.step_id,
        Alert.state == "dismissed",
        Alert.ended_at > now - alerts.DISMISSED_FOR,
    )
    return session.scalar(query.limit(1)) is not None


def _quieted(
    session: Session, place: Experiment, alert: Alert, whose: Set[troubles.Whose], now: datetime, talk: Talk
) -> None:
    """What becomes of an alert whose trouble a look did not show."""
    step = next(iter(measure.steps(session, place.id)[-1:]), None)
    if place.status != "active":
        alerts.end(session, alert, "superseded", by=ledger.BOT, why=f"The experiment is {place.status}.")
    elif step is not None and step.id != alert.step_id and alert.whose == "candidate":
        alerts.end(session, alert, "superseded", by=ledger.BOT, why="The shares were changed.")
    elif alert.whose == "candidate" and whose - {"candidate"}:
        alerts.end(
            session, alert, "superseded", by=ledger.BOT, why="The trouble is not the candidate's alone any more."
        )
    elif now - alert.seen_at >= _recovers_after(alert, talk):
        alerts.end(session, alert, "recovered", by=ledger.BOT, why="It was not seen any more.")


def _recovers_after(alert: Alert, talk: Talk) -> timedelta:
    if alert.cause == "lingering":
        return LINGERING_RECOVERS_AFTER
    return max(RECOVERS_AFTER, QUIET_LOOKS * talk.looked_at_every)
