"""Events -> the state of each plan -> additive samples; work in proportion to what is new.

State, samples, counts and cursor change in the caller's one transaction, under a lock on the cursor's row: whatever is
cut short never happened, and two at once wait for each other. core.cursor says what is new, core.events reads it,
core.plan_states and core.sample_store keep it.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import cursor, events, plan_states, sample_store
from core.plan_states import NO_EXPERIMENT
from core.rules.metrics import Collected

__all__ = ["KEEP_DAYS", "NO_EXPERIMENT", "Progress", "advance", "catch_up", "purge", "rebuild"]

KEEP_DAYS: Final = 90
"""How long the platform keeps raw events; the state of a plan is needed no longer."""
_AT_ONCE: Final = 3  # as many processes as PostgreSQL lets work on one query


@dataclass(frozen=True)
class Progress:
    """What one batch did. Until `is_done`, there is more to be taken: commit, then call again."""

    events: int
    is_done: bool
    until: datetime | None
    """All that was committed before this time has been taken; None before the first pass is through."""


def advance(
    session: Session, *, limit: int = 200_000, sweep: bool = False, collected: Sequence[Collected] = ()
) -> Progress:
    """Takes at most about `limit` new events; two at once wait for each other.

    A pass sees what was committed when it began. With `sweep`, and no pass under way, it is one over the whole table
    for events that the usual passes cannot find; once a day is enough. `collected` are the metrics beyond the six: of
    a new one the samples know from now on, of the time before after a `rebuild`.
    """
    session.execute(text(_SETTINGS))
    now = cursor.locked(session)
    plan_states.move_into_steps(session)
    if now.scan is None:
        now = cursor.begin(session, now, sweep)
    stretch = cursor.stretch(session, now, limit)
    _intern(session)  # after it was settled which events these are: a variant is committed before its events
    taken = _take(session, _reading(stretch, collected), collected)
    cursor.passed(session, stretch)
    return Progress(taken, stretch.last is None, cursor.seen(session).seen_at)


def _reading(stretch: cursor.Stretch, collected: Sequence[Collected]) -> events.Reading:
    return events.reading(stretch.which, stretch.values, stretch.begins.frozen_before, collected)


def _take(session: Session, reading: events.Reading, collected: Sequence[Collected]) -> int:
    plan_states.read(session, reading, has_extras=bool(collected))
    return plan_states.take(session, reading, has_extras=bool(collected))


Transaction = Callable[[], AbstractContextManager[Session]]
"""Opens one, committed at its end."""


def catch_up(
    transaction: Transaction,
    *,
    limit: int = 200_000,
    sweep: bool = False,
    collected: Sequence[Collected] = (),
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Takes all that is new, `advance` by `advance`; where there is much, some at once. Returns how many events."""
    taken = 0
    while not is_stopping():
        with transaction() as session:
            progress = advance(session, limit=limit, sweep=sweep, collected=collected)
        taken += progress.events
        if progress.is_done:
            break
        found, is_done = _at_once(transaction, limit, collected, is_stopping)
        taken += found
        if is_done:
            break
    return taken


class _Overtaken(Exception):
    """Somebody else has moved the cursor."""


def _at_once(
    transaction: Transaction, limit: int, collected: Sequence[Collected], is_stopping: Callable[[], bool]
) -> tuple[int, bool]:
    """Goes on with a pass, reading some batches while one is applied; how many events, and whether that was all.

    The batches are applied in their order, each under the lock and only where the cursor is just where the batch
    begins. So nothing is lost or counted twice if one fails or somebody else is at work: what was read is forgotten.
    """
    batches: deque[Future[int]] = deque()
    taken, is_done = 0, False
    with transaction() as session:
        now = cursor.seen(session)
    with suppress(_Overtaken), ThreadPoolExecutor(_AT_ONCE) as pool:
        while not (is_done or now.scan is None or now.has_ahead or is_stopping()):
            with transaction() as session:
                stretch = cursor.stretch(session, now, limit)
            before = batches[-1] if batches else None
            batches.append(pool.submit(_batch, transaction, stretch, collected, before))
            now, is_done = stretch.end, stretch.last is None
            if len(batches) == _AT_ONCE:
                taken += batches.popleft().result()
        while batches:
            taken += batches.popleft().result()
        return taken, is_done
    return taken, False


def _batch(
    transaction: Transaction, stretch: cursor.Stretch, collected: Sequence[Collected], before: Future[int] | None
) -> int:
    """Takes one stretch, once the batch before it is committed."""
    with transaction() as session:
        session.execute(text(_SETTINGS))
        reading = _reading(stretch, collected)
        plan_states.read(session, reading, has_extras=bool(collected))
        if before is not None:
            before.result()
        if cursor.locked(session) != stretch.begins:
            raise _Overtaken
        taken = plan_states.take(session, reading, has_extras=bool(collected))
        cursor.passed(session, stretch)
    return taken


# For this transaction only. A batch fits into this much memory; compiling its queries takes longer than they do. What a
# power cut takes back, cursor and all, is read again: no need to wait for the disk.
_SETTINGS = """
SELECT set_config('work_mem', '64MB', true), set_config('hash_mem_multiplier', '32', true),
       set_config('jit', 'off', true), set_config('temp_buffers', '128MB', true),
       set_config('synchronous_commit', 'off', true)"""


def _intern(session: Session) -> None:
    """Gives experiments and variants that are new their short numbers."""
    session.execute(
        text("""INSERT INTO promotion.measure_experiments (experiment_id) SELECT e.id FROM exp.experiments e
                 WHERE NOT EXISTS (SELECT FROM promotion.measure_experiments m WHERE m.experiment_id = e.id)
                    ON CONFLICT DO NOTHING""")
    )
    session.execute(
        text("""INSERT INTO promotion.measure_arms (experiment, variant_id)
                SELECT m.id, v.id FROM exp.variants v
                  JOIN promotion.measure_experiments m ON m.experiment_id = v.experiment_id
                 WHERE NOT EXISTS (SELECT FROM promotion.measure_arms a WHERE a.variant_id = v.id)
                    ON CONFLICT DO NOTHING""")
    )


def rebuild(
    session: Session,
    experiment: uuid.UUID | None = None,
    *,
    limit: int = 200_000,
    collected: Sequence[Collected] = (),
) -> int:
    """Makes samples and counts anew from the raw events, of one experiment or of all; returns how many were read.

    One transaction: until it commits, everybody reads the old numbers. Days of which raw events are gone keep theirs.
    Events that came after the last pass are left to the next one.
    """
    session.execute(text(_SETTINGS))
    now = cursor.locked(session)
    _intern(session)
    if experiment is None:
        _forget(session, None, floor := _floor(session, now))
        cursor.restart(session, floor)
        return _all_of(session, limit, collected)
    while now.scan is not None or now.horizon is None:
        advance(session, limit=limit, collected=collected)
        now = cursor.locked(session)
    while not advance(session, limit=limit, sweep=True, collected=collected).is_done:
        pass
    return _again(session, experiment, collected)


def _all_of(session: Session, limit: int, collected: Sequence[Collected]) -> int:
    session.execute(text("UPDATE promotion.allocation_steps SET is_measured = true WHERE NOT is_measured"))
    now = cursor.begin(session, cursor.locked(session), sweep=False)
    _intern(session)
    taken, is_done = 0, False
    while not is_done:
        stretch = cursor.stretch(session, now, limit)
        taken += _take(session, _reading(stretch, collected), collected)
        cursor.passed(session, stretch)
        now, is_done = stretch.end, stretch.last is None
    return taken


def _again(session: Session, experiment: uuid.UUID, collected: Sequence[Collected]) -> int:
    """One experiment anew, from exactly the events that have been taken so far."""
    query = "SELECT id FROM promotion.measure_experiments WHERE experiment_id = :id"
    number = session.execute(text(query), {"id": experiment}).scalar_one()
    now = cursor.locked(session)
    floor = _floor(session, now, experiment)
    _forget(session, number, floor)
    reading = events.reading(cursor.IS_TAKEN, {"high": now.horizon}, floor, collected, only=number)
    return _take(session, reading, collected)


_FLOOR = """
SELECT CASE WHEN raw.day IS NULL THEN kept.last + 1 WHEN raw.day > kept.first THEN raw.day + 1 END
  FROM (SELECT min(s.day) AS first, max(s.day) AS last FROM promotion.samples_daily s
          JOIN promotion.measure_arms a ON a.id = s.arm
         WHERE CAST(:experiment AS integer) IS NULL OR a.experiment = CAST(:experiment AS integer)) kept,
       LATERAL (
        SELECT CAST(min(e.timestamp) AT TIME ZONE 'UTC' AS date) AS day FROM exp.events e
         WHERE e.timestamp >= kept.first AND (CAST(:named AS jsonb) IS NULL OR e.experiments @> CAST(:named AS jsonb))
       ) raw
"""


def _floor(session: Session, now: cursor.Cursor, experiment: uuid.UUID | None = None) -> date | None:
    """The first day that can be made anew: from there on neither raw events nor states were given up."""
    query = "SELECT id FROM promotion.measure_experiments WHERE experiment_id = :id"
    number = session.execute(text(query), {"id": experiment}).scalar_one_or_none()
    named = None if experiment is None else json.dumps([{"experiment_id": str(experiment)}])
    without_raw = session.execute(text(_FLOOR), {"experiment": number, "named": named}).scalar_one_or_none()
    return max((day for day in (now.frozen_before, without_raw) if day), default=None)


def _forget(session: Session, experiment: int | None, floor: date | None) -> None:
    """Drops what will be made anew, and reduces each step to the days that stay."""
    arms = "arm IN (SELECT id FROM promotion.measure_arms WHERE experiment = :experiment)"
    mine, in_arms = ("experiment = :experiment", arms) if experiment is not None else ("true", "true")
    named = "experiment_id = (SELECT experiment_id FROM promotion.measure_experiments WHERE id = :experiment)"
    values = {"experiment": experiment, "floor": floor}
    from_floor = "true" if floor is None else "{} >= :floor"
    for query in (
        f"DELETE FROM promotion.plans WHERE {mine}",
        f"DELETE FROM promotion.samples_daily WHERE {in_arms} AND {from_floor.format('day')}",
        f"DELETE FROM promotion.measure_slots WHERE {mine} AND {from_floor.format('slot')}",
        f"DELETE FROM promotion.measure_counts WHERE {named if experiment is not None else 'true'}"
        f" AND {from_floor.format('day')}",
        f"DELETE FROM promotion.samples WHERE {in_arms}",
        *([] if floor else [f"DELETE FROM promotion.measure_units WHERE {mine}"]),
    ):
        session.execute(text(query), events.named(query, values))
    if floor is not None:
        sample_store.restore_totals(session)


def purge(session: Session) -> int:
    """Gives up the state of plans older than the platform keeps raw events; what happened to them by then stays.

    An event that speaks of that time and comes later still is counted as expired.
    """
    now = cursor.locked(session)
    query = "SELECT CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS integer)"
    before = max(session.execute(text(query), {"days": KEEP_DAYS}).scalar_one(), now.frozen_before or date.min)
    cursor.put(session, frozen_before=before)
    gone = session.execute(
        text("""WITH gone AS (DELETE FROM promotion.plans
                               WHERE at < CAST(:before AS timestamp) AT TIME ZONE 'UTC' RETURNING 1)
                SELECT count(*) FROM gone"""),
        {"before": before},
    )
    found: int = gone.scalar_one()
    return found
