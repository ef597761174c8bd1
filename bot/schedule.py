"""JOBS: what runs by the clock, defined in code; the database, not the scheduler, knows what is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from bot.desk import Desk
from core import db, recommendations, rollup, steps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One job: when it runs, and what it does."""

    id: str
    trigger: IntervalTrigger | CronTrigger
    run: Callable[[Desk], None]
    at_start: bool = False
    """Whether it runs as soon as the bot does, to catch up."""


def refresh_people(desk: Desk) -> None:
    """Who is in the approver groups is read again."""
    desk.people.refresh()


def _taken(desk: Desk, *, sweep: bool = False) -> None:
    is_done = False
    while not is_done and not desk.stopping.is_set():
        with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
            is_done = rollup.advance(session, sweep=sweep, collected=desk.settings.collected).is_done


def measure(desk: Desk) -> None:
    """New events are added to the samples, batch by batch; then shares that others changed open a new step."""
    _taken(desk)
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        steps.notice(session)


def count_assigned(desk: Desk) -> None:
    """How many units were assigned to which variant is counted anew."""
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        steps.count_assigned(session)


def sweep(desk: Desk) -> None:
    """A scan of all events finds those that came by an unusual way; the state of the oldest plans is given up."""
    _taken(desk, sweep=True)
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        rollup.purge(session)


def recommend(desk: Desk) -> None:
    """Each candidate's daily look is made, unless it was made today; one experiment, one transaction."""
    with desk.transaction() as session:
        active = recommendations.active(session)
    for experiment in active:
        if desk.stopping.is_set():
            return
        try:
            with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
                recommendations.recommend_all(session, experiment, desk.settings.terms)
        except Exception:
            log.exception("experiment %s could not be looked at; it is tried again at the next look", experiment)


JOBS: tuple[Job, ...] = (
    Job("people", IntervalTrigger(minutes=5), refresh_people),
    Job("measure", IntervalTrigger(minutes=1), measure, at_start=True),
    Job("assigned", IntervalTrigger(hours=1), count_assigned, at_start=True),
    Job("recommend", IntervalTrigger(minutes=15), recommend),
    Job("sweep", CronTrigger(hour=3, minute=17), sweep),
)


def _guarded(job: Job, desk: Desk) -> None:
    try:
        job.run(desk)
    except Exception:
        if not desk.stopping.is_set():  # else the database is gone already, and the next start goes on from here
            log.exception("job %s failed; it runs again at its next time", job.id)


def _catch_up(desk: Desk) -> None:
    for job in JOBS:
        if job.at_start and not desk.stopping.is_set():
            _guarded(job, desk)


@contextmanager
def scheduled(desk: Desk) -> Iterator[None]:
    """Runs every job at its times until the end of the block."""
    late = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    scheduler = BackgroundScheduler(timezone="UTC", job_defaults=late)
    for job in JOBS:
        scheduler.add_job(_guarded, job.trigger, args=(job, desk), id=job.id)
    scheduler.start()
    # Not as jobs of their own: the scheduler stumbles over jobs that end while it is shut down.
    threading.Thread(target=_catch_up, args=(desk,), name="catch up", daemon=True).start()
    try:
        yield
    finally:
        desk.stopping.set()
        scheduler.shutdown(wait=False)
