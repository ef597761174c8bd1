"""JOBS: what runs by the clock, defined in code; the database, not the scheduler, knows what is done."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final

from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from bot.desk import Desk
from bot.leading import leading
from bot.pools import Pool
from core import (
    alerts,
    approvals,
    audit,
    countdowns,
    db,
    digests,
    discrepancies,
    freezes,
    ledger,
    outbox,
    rollup,
    steps,
    trace,
    watching,
)
from core.db import Session
from core.errors import RegistryUnavailable
from core.leader import Leadership, NotLeading
from core.outbox import Later
from core.rollouts import Talk
from core.settings import Settings

log = logging.getLogger(__name__)


AT_ONCE = 10
"""Experiments that are looked at in one transaction: cheaper than one by one, and nobody waits long for its locks."""


@dataclass(frozen=True)
class Job:
    """One job: when it runs, and what it does."""

    id: str
    trigger: Callable[[Settings], IntervalTrigger | CronTrigger]
    run: Callable[[Desk], None]
    at_start: bool = False
    """Whether it runs as soon as this process leads, to catch up."""
    everywhere: bool = False
    """Whether it runs in every process, for what each keeps for itself; else only in the one that leads."""
    scans: bool = False
    """Whether it reads a whole table, which can take minutes: those have a thread of their own."""


def refresh_people(desk: Desk) -> None:
    """Who is in the approver groups is read again, in the same minute still where it was not possible to the end."""
    try:
        desk.people.refresh_if_old()
    except Later as later:
        log.info("people are not all read yet: %s, in %.0f s", later, later.seconds)


def compare_configuration(desk: Desk) -> None:
    """Whether a process that started later goes by another configuration is noticed: who clicks meets either."""
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        differing = ledger.differing_from(session, desk.settings.policy)
    if differing and differing != desk.pulse.differing:
        rules = ", ".join(differing)
        log.warning("a process that started later has other values of %s: give all of them one configuration", rules)
    desk.pulse.differing = differing


def _taken(desk: Desk, *, sweep: bool = False) -> None:
    transaction = partial(desk.transaction, patience_ms=db.BACKGROUND_MS)
    rollup.catch_up(transaction, sweep=sweep, collected=desk.settings.collected, is_stopping=desk.stopping.is_set)


def measure(desk: Desk) -> None:
    """New events are added to the samples, batch by batch; then shares that others changed open a new step."""
    _taken(desk)
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        changed = steps.outdated(session)
    for start in range(0, len(changed), AT_ONCE):  # all of them, where the bot has just adopted a platform
        if desk.stopping.is_set():
            return
        with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
            steps.notice(session, changed[start : start + AT_ONCE])
    if changed:  # the samples of plans that came before their step was known move into it before anybody looks
        _taken(desk)


def count_assigned(desk: Desk) -> None:
    """How many units were assigned to which variant is counted anew."""
    steps.count_assigned(partial(desk.transaction, patience_ms=db.BACKGROUND_MS), is_stopping=desk.stopping.is_set)


def sweep(desk: Desk) -> None:
    """A scan of all events finds those that came by an unusual way; the state of the oldest plans is given up."""
    _taken(desk, sweep=True)
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        rollup.purge(session)


Work = Callable[[Session, Mapping[uuid.UUID, Talk]], object]


def _each(desk: Desk, wanted: Sequence[tuple[uuid.UUID, str]], work: Work) -> None:
    """Does something for all of these experiments, some at a time; one that fails keeps nobody waiting."""
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        if not _done(desk, some, work) and len(some) > 1:
            for one in some:
                _done(desk, [one], work)


def _done(desk: Desk, some: Sequence[tuple[uuid.UUID, str]], work: Work) -> bool:
    """True where it was done for all of these, and where the bot is stopping; else for none of them."""
    if desk.stopping.is_set():
        return True
    try:
        with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
            work(session, {experiment: desk.talk(name) for experiment, name in some})
    except NotLeading:
        raise
    except Exception:
        if len(some) == 1:
            log.exception("experiment %s could not be looked at; it is tried again at the next look", some[0][1])
        return False
    return True


def watch(desk: Desk) -> None:
    """Every active experiment is looked at: cards and alerts follow; each candidate's daily look is made when due."""
    with desk.transaction() as session:
        alerts.end_deleted(session)
        wanted = digests.watched(session)
    _each(desk, wanted, partial(watching.watch, terms=desk.settings.terms))


def seal(desk: Desk) -> None:
    """New rows of the record get their place in the chain."""
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        audit.seal(session)


def recommend(desk: Desk) -> None:
    """The day's recommendations whose time has come are made, then the digests that list them."""
    with desk.transaction() as session:
        wanted = digests.due(session, desk.settings.schedule_of)
    _each(desk, wanted, partial(digests.recommend_due, terms=desk.settings.terms))
    if desk.stopping.is_set():  # a digest tells the whole day
        return
    seal(desk)
    with desk.transaction() as session:
        digests.put_digests(session)


def escalate(desk: Desk) -> None:
    """Critical alerts that nobody has answered are brought up again."""
    with desk.transaction() as session:
        alerts.escalate(session, desk.settings.alerts.escalates_after)


def _apart(desk: Desk, what: str, work: Callable[[Session], object]) -> None:
    """Does one of several things in a transaction of its own; one that fails keeps nobody waiting."""
    if desk.stopping.is_set():
        return
    try:
        with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
            work(session)
    except (NotLeading, RegistryUnavailable):  # then none of the others can be done either
        raise
    except Exception:
        if not desk.stopping.is_set():
            log.exception("%s could not be looked after; it is tried again at the next time", what)


def returns(desk: Desk) -> None:
    """Countdowns of critical alerts begin, end, and return a candidate for which an owner has signed."""
    lasts = 2 * timedelta(minutes=desk.settings.alerts.every_minutes)
    with desk.transaction() as session:
        wanted = countdowns.to_tend(session)
    tend = partial(countdowns.tend, terms=desk.settings.terms, looks_last=lasts)
    for number in wanted:
        _apart(desk, f"the countdown of alert {number}", partial(tend, alert_id=number))


def expire(desk: Desk) -> None:
    """Requests that nobody decided in time are closed; before that, a reminder is given."""
    before = timedelta(hours=desk.settings.approvals.remind_hours)
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        approvals.remind(session, before)
        overdue = approvals.overdue(session)
    for number in overdue:
        _apart(desk, f"request #{number}", partial(approvals.expire, request_id=number))


def follow_freezes(desk: Desk) -> None:
    """Cards follow the windows of the configuration that began or ended."""
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        freezes.follow_windows(session, desk.settings.terms.freezes)


def reconcile(desk: Desk) -> None:
    """What others changed after it was decided, in the database or in the registry, is noticed and told."""
    with desk.transaction(patience_ms=db.BACKGROUND_MS) as session:
        discrepancies.send_back_stranded(session)
        outbox.put_cards_of_deleted(session)
        experiments, models = discrepancies.suspects(session), discrepancies.models(session)
    for experiment in experiments:
        _apart(desk, f"experiment {experiment}", partial(discrepancies.compare, experiment_id=experiment))
    try:
        for model in models:
            work = partial(discrepancies.compare_model, name=model, registry=desk.registry)
            _apart(desk, f"the model {model}", work)
    except RegistryUnavailable as away:
        log.warning("the tags of models are not compared now: %s", away)


RECONCILES_EVERY: Final = 5
"""Minutes: as long as a change by others may go unseen."""


def every(minutes: int) -> Callable[[Settings], IntervalTrigger]:
    """A job that runs again and again."""
    return lambda settings: IntervalTrigger(minutes=minutes)


JOBS: tuple[Job, ...] = (
    Job("seal", every(1), seal, at_start=True),
    Job("people", every(1), refresh_people, everywhere=True),
    Job("configuration", every(5), compare_configuration, everywhere=True),
    Job("measure", every(1), measure, at_start=True),
    Job("assigned", every(60), count_assigned, at_start=True, scans=True),
    Job("watch", lambda settings: IntervalTrigger(minutes=settings.alerts.every_minutes), watch, at_start=True),
    Job("recommend", every(1), recommend, at_start=True),
    Job("escalate", every(1), escalate, at_start=True),
    Job("returns", every(1), returns, at_start=True),
    Job("expire", every(1), expire, at_start=True),
    Job("freezes", every(1), follow_freezes, at_start=True),
    Job("reconcile", every(RECONCILES_EVERY), reconcile),
    Job("sweep", lambda settings: CronTrigger(hour=3, minute=17), sweep, scans=True),
)
FINISH_S = 3.0
"""How long the batch under way may take when the bot stops."""
THREADS = 2
"""Jobs that run at once, beside one that scans; each holds a connection to the database. Where `measure` takes long,
as it helps a sweep along, the other thread is left for the rest."""
SCANS = "scans"


def run_now(desk: Desk, *ids: str) -> None:
    """Runs some jobs in this order, without waiting for their time; ids of jobs that there are not are passed over."""
    jobs = {job.id: job for job in JOBS}
    for each in ids:
        if each in jobs and not desk.stopping.is_set():
            jobs[each].run(desk)


class _Executor(BasePoolExecutor):  # type: ignore[misc]
    """Has the scheduler run its jobs in a pool of ours."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)


def _guarded(job: Job, desk: Desk, lead: Leadership) -> None:
    if desk.stopping.is_set() or not (job.everywhere or lead.is_held):
        return
    with trace.begun(job=job.id) as run:
        began = time.monotonic()
        _try(job, desk, lead)
        if run.effects:  # one that found nothing to do is not worth a line
            log.info("job", extra={"effects": run.effects, "ms": round((time.monotonic() - began) * 1000)})


def _try(job: Job, desk: Desk, lead: Leadership) -> None:
    try:
        with desk.pulse.meters.job(job.id):
            job.run(desk if job.everywhere else replace(desk, fence=lead.fence))
    except NotLeading:
        log.info("job %s ends here: another process leads", job.id)
    except Exception:
        if not desk.stopping.is_set():  # else the database is gone already, and the next start goes on from here
            log.exception("job %s failed; it runs again at its next time", job.id)


def _catch_up(desk: Desk, lead: Leadership) -> None:
    for job in JOBS:
        if job.at_start and not desk.stopping.is_set():
            _guarded(job, desk, lead)


@contextmanager
def scheduled(desk: Desk) -> Iterator[None]:
    """Runs every job at its times until the end of the block; of several processes only one, the leader."""
    late = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    pools = Pool(THREADS, "job"), Pool(1, "scan"), Pool(1, "catch up")
    executors = {"default": _Executor(pools[0]), SCANS: _Executor(pools[1])}
    scheduler = BackgroundScheduler(timezone="UTC", job_defaults=late, executors=executors)
    lead = Leadership(desk.engine)
    for job in JOBS:
        where = SCANS if job.scans else "default"
        scheduler.add_job(_guarded, job.trigger(desk.settings), args=(job, desk, lead), id=job.id, executor=where)

    def gained() -> None:
        # Not as jobs of their own: the scheduler stumbles over jobs that end while it is shut down.
        pools[2].submit(_catch_up, desk, lead)

    scheduler.start()
    desk.pulse.needs(scheduler._thread)
    try:
        with leading(lead, gained, desk.stopping, desk.pulse):
            yield
    finally:
        scheduler.pause()
        until = time.monotonic() + FINISH_S
        if sum(pool.finish(until) for pool in pools):
            log.warning("a job was given up in the middle of a batch, of which nothing is kept")
        scheduler.shutdown(wait=False)
