"""JOBS: what runs by the clock, defined in code; the database, not the scheduler, knows what is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from bot.desk import Desk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One job: when it runs, and what it does."""

    id: str
    trigger: IntervalTrigger
    run: Callable[[Desk], None]


def refresh_people(desk: Desk) -> None:
    """Who is in the approver groups is read again."""
    desk.people.refresh()


JOBS: tuple[Job, ...] = (Job("people", IntervalTrigger(minutes=5), refresh_people),)


def _guarded(job: Job, desk: Desk) -> None:
    try:
        job.run(desk)
    except Exception:
        log.exception("job %s failed; it runs again at its next time", job.id)


@contextmanager
def scheduled(desk: Desk) -> Iterator[None]:
    """Runs every job at its times until the end of the block."""
    scheduler = BackgroundScheduler(timezone="UTC")
    for job in JOBS:
        scheduler.add_job(_guarded, job.trigger, args=(job, desk), id=job.id, coalesce=True, max_instances=1)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)
