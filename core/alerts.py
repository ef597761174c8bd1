"""Alerts: opened where a look finds trouble, one per experiment and cause, and ended by a person or by the data."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db, ledger, looks, measure, outbox, promotions, recommendations, rollouts
from core.errors import Refused
from core.experiments import SYSTEM
from core.recommendations import Standing
from core.rollouts import Talk
from core.rules import troubles
from core.rules.decision import AllTerms
from core.rules.findings import Finding
from core.rules.troubles import Trouble
from core.rules.wording import compared
from core.tables import Alert, Experiment, Recommendation, Variant
from core.variants import find_experiment, named_shares, shares, variants

RECOVERS_AFTER: Final = timedelta(minutes=30)
QUIET_LOOKS: Final = 2
"""Trouble that was not seen for as long as this, nor by as many looks, is over."""
LINGERING_RECOVERS_AFTER: Final = timedelta(days=2)
"""A unit that comes once a day with a variant at 0 % is the same trouble every day."""
DISMISSED_FOR: Final = timedelta(hours=24)
"""How long a dismissed cause stays quiet, unless the shares change."""
AGGREGATED: Final = timedelta(days=2)
"""A team whose aggregates are no older than this is not silent for having no events."""
LINGERS_AFTER: Final = timedelta(hours=48)
"""Units keep the variant they were assigned; after as long as this at 0 % somebody should know."""


# --- Looking --------------------------------------------------------------------------------------------------------


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
    known = {(alert.cause, alert.variant_id): alert for alert in _open(session, experiment_id)}
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


def _open(session: Session, experiment_id: uuid.UUID) -> list[Alert]:
    query = select(Alert).where(Alert.experiment_id == experiment_id, Alert.state == "open").order_by(Alert.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


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
            _proposals(session, place, found.variant) if trouble.whose == "candidate" else {},
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


def _proposals(session: Session, place: Experiment, failed: Variant) -> dict[str, Any]:
    """The shares after a rollback by what is given back, as pairs before and after by variant; empty without a way."""
    try:
        way = promotions.retreat(session, place, failed, None)
    except Refused:
        return {}
    before = named_shares(session, place)
    names = {v.id: v.name for v in variants(session, place)}
    present: Mapping[str, Decimal] = {names[key]: share for key, share in shares(session, place).items()}
    after = {}
    for scope in get_args(promotions.Scope):
        with suppress(Refused):  # the previous share may be unknown
            kept = promotions.kept_share(session, place, failed, scope)
            after[scope] = promotions.retreat_shares(present, failed.name, way.target_name, scope, kept)
    return {
        scope: {name: [before.get(name, "0"), str(share)] for name, share in wanted.items()}
        for scope, wanted in after.items()
    }


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
            redraw(session, alert, f"look-{alert.looks}")
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
    _record(session, alert, "alert", by=SYSTEM, reason=alert.why)
    redraw(session, alert, "opened")
    rollouts.touch(session, place.id)
    return alert


def _was_dismissed(session: Session, place: Experiment, found: _Found, now: datetime) -> bool:
    query = select(Alert.id).where(
        Alert.experiment_id == place.id,
        Alert.cause == found.trouble.cause,
        Alert.variant_id.is_not_distinct_from(found.variant.id if found.variant else None),
        Alert.step_id == found.step_id,
        Alert.state == "dismissed",
        Alert.ended_at > now - DISMISSED_FOR,
    )
    return session.scalar(query.limit(1)) is not None


def _quieted(
    session: Session, place: Experiment, alert: Alert, whose: Set[troubles.Whose], now: datetime, talk: Talk
) -> None:
    """What becomes of an alert whose trouble a look did not show."""
    step = next(iter(measure.steps(session, place.id)[-1:]), None)
    if place.status != "active":
        _end(session, alert, "superseded", by=SYSTEM, why=f"The experiment is {place.status}.")
    elif step is not None and step.id != alert.step_id and alert.whose == "candidate":
        _end(session, alert, "superseded", by=SYSTEM, why="The shares were changed.")
    elif alert.whose == "candidate" and whose - {"candidate"}:
        _end(session, alert, "superseded", by=SYSTEM, why="The trouble is not the candidate's alone any more.")
    elif now - alert.seen_at >= _recovers_after(alert, talk):
        _end(session, alert, "recovered", by=SYSTEM, why="It was not seen any more.")


def _recovers_after(alert: Alert, talk: Talk) -> timedelta:
    if alert.cause == "lingering":
        return LINGERING_RECOVERS_AFTER
    return max(RECOVERS_AFTER, QUIET_LOOKS * talk.looked_at_every)


def message_key(alert_id: int) -> str:
    """The key of the message in which the card of an alert stands."""
    return f"alert:{alert_id}"


def redraw(session: Session, alert: Alert, why: str) -> str:
    """Asks for the card of an alert to be drawn as things are then; `why` names the occasion, once each.

    Returns the key of the effect.
    """
    message = message_key(alert.id)
    key = f"{message}:{why}"
    outbox.put(session, kind="alert", subject=message, key=key, alert=alert.id)
    return key


def _record(session: Session, alert: Alert, action: str, *, by: str, reason: str | None, **more: Any) -> None:
    ledger.record(
        session,
        actor=by,
        action=action,
        subject=f"alert {alert.id} {alert.cause}",
        experiment_id=alert.experiment_id,
        reason=reason,
        evidence={"why": alert.why, "numbers": alert.numbers, "proposals": alert.proposals, "looks": alert.looks},
        **more,
    )


def _end(
    session: Session, alert: Alert, state: str, *, by: str, why: str | None, request_id: int | None = None
) -> None:
    alert.state, alert.ended_by, alert.end_reason, alert.request_id = state, by, why, request_id
    alert.ended_at = func.now()
    _record(session, alert, f"alert {state}", by=by, reason=why)
    session.flush()
    redraw(session, alert, state)
    rollouts.touch(session, alert.experiment_id)


def end_deleted(session: Session) -> None:
    """Ends what is still open about experiments that were deleted."""
    gone = Alert.experiment_id.not_in(select(Experiment.id))
    for alert in session.scalars(select(Alert).where(Alert.state == "open", gone).with_for_update()):
        _end(session, alert, "superseded", by=SYSTEM, why="The experiment was deleted.")
    rollouts.end_deleted(session)


# --- Deciding -------------------------------------------------------------------------------------------------------


def open_one(session: Session, alert_id: int) -> tuple[Alert, Experiment]:
    """An open alert and its experiment, both locked, the experiment first as in every change.

    Raises:
        Refused: where there is no such alert, or it has ended.
    """
    place_id = session.scalar(select(Alert.experiment_id).where(Alert.id == alert_id))
    if place_id is None:
        raise Refused(f"There is no alert {alert_id}.")
    place = find_experiment(session, place_id)
    alert = session.get_one(Alert, alert_id, with_for_update=True, populate_existing=True)
    if alert.state != "open":
        raise Refused(f"This alert has ended already ({alert.state}). Its card shows by whom.")
    return alert, place


def mark(changes: Mapping[str, Sequence[str]]) -> str:
    """A short mark of some shares before and after, by which a click is known to mean just these."""
    return hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:12]


def is_as_shown(session: Session, place: Experiment, alert: Alert, scope: promotions.Scope, shown: str) -> bool:
    """True where a rollback would leave the very shares that were shown, by their mark; else the card is redrawn."""
    failed = next((v for v in variants(session, place) if v.id == alert.variant_id), None)
    now = _proposals(session, place, failed) if failed else {}
    if scope in now and mark(now[scope]) == shown:
        return True
    alert.proposals = now
    redraw(session, alert, f"proposal-{db.now_of(session).isoformat()}")
    return False


def settle(
    session: Session,
    place: Experiment,
    *,
    variant_id: uuid.UUID | None,
    by: str,
    request_id: int | None,
    answer: Literal["confirmed", "returned"] = "confirmed",
) -> None:
    """Ends the alerts that a change of shares answers: a rollback of the candidate is the `answer`, anything else puts
    the candidate in another place."""
    for alert in _open(session, place.id):
        if alert.whose == "candidate":
            is_answer = variant_id is not None and alert.variant_id == variant_id
            state, why = (answer, None) if is_answer else ("superseded", "The shares were changed.")
            _end(session, alert, state, by=by, why=why, request_id=request_id)


def dismiss(session: Session, alert_id: int, *, by: str, reason: str) -> Alert:
    """Ends an alert as no reason to act; it stays quiet for a day, unless the shares change.

    Raises:
        Refused: without a reason, or where it has ended.
    """
    if not reason.strip():
        raise Refused("Say why it is no reason to act; whoever sees the next one will read it.")
    alert, _ = open_one(session, alert_id)
    _end(session, alert, "dismissed", by=by, why=reason.strip())
    return alert


def snooze(session: Session, alert_id: int, *, by: str, until: datetime) -> Alert:
    """Lets an alert rest: until then nobody is reminded, while the card goes on showing how it stands.

    Raises:
        Refused: where it has ended.
    """
    alert, _ = open_one(session, alert_id)
    alert.snoozed_until, alert.snoozed_by, alert.escalated = until, by, 0
    _record(session, alert, "snooze", by=by, reason=None, after={"until": until.isoformat()})
    redraw(session, alert, f"snoozed-{ledger.newest(session)}")
    return alert


# --- When nobody answers --------------------------------------------------------------------------------------------


def escalate(session: Session, after: Sequence[timedelta]) -> int:
    """Takes the next steps for critical alerts that nobody has answered for long enough; returns how many.

    The time counts from the opening, or from the end of the last snooze.
    """
    now = db.now_of(session)
    query = select(Alert).where(Alert.state == "open", Alert.is_critical, Alert.escalated < len(after))
    taken = 0
    for alert in session.scalars(query.order_by(Alert.id).with_for_update(skip_locked=True)):
        since = max(filter(None, (alert.opened_at, alert.snoozed_until)))
        for step in range(alert.escalated, len(after)):
            if now - since < after[step]:
                break
            alert.escalated, taken = step + 1, taken + 1
            key, message = f"escalation:{alert.id}:{since.isoformat()}:{step}", message_key(alert.id)
            outbox.put(session, kind="escalation", subject=message, key=key, alert=alert.id, step=step)
    session.flush()
    return taken


def put_direct(session: Session, alert_id: int, person: str, *, step: int, occasion: str) -> None:
    """Asks for one person on call to be told of an alert in a direct message."""
    key = f"{occasion}:{person}"
    subject = f"person:{person}"
    outbox.put(session, kind="direct", subject=subject, key=key, alert=alert_id, person=person, step=step)
