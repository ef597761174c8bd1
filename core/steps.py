"""Allocation steps that others made: noticed where shares changed, reconstructed where nobody recorded them."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, time
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import blocks, cursor
from core.rules.samples import Ints

_SHARES = """
WITH present AS (
    SELECT v.experiment_id, sum(v.allocation) AS total,
           jsonb_object_agg(v.id, v.allocation) FILTER (WHERE v.allocation > 0) AS shares,
           jsonb_object_agg(v.id, CAST(v.allocation AS text)) FILTER (WHERE v.allocation > 0) AS written
      FROM exp.variants v JOIN exp.experiments e ON e.id = v.experiment_id
     WHERE e.status IN ('active', 'paused')
       AND (CAST(:only AS uuid[]) IS NULL OR e.id = ANY(CAST(:only AS uuid[]))) GROUP BY v.experiment_id
), newest AS (
    SELECT DISTINCT ON (s.experiment_id) s.experiment_id, (
           SELECT jsonb_object_agg(key, CAST(value AS numeric)) FROM jsonb_each_text(s.shares)
            WHERE CAST(value AS numeric) > 0) AS shares
      FROM promotion.allocation_steps s ORDER BY s.experiment_id, s.started_at DESC, s.id DESC
)
SELECT p.experiment_id, p.written AS shares, n.shares IS NOT NULL AS has_steps
  FROM present p LEFT JOIN newest n USING (experiment_id)
 WHERE p.total = 1 AND p.shares IS DISTINCT FROM n.shares
"""


def outdated(session: Session) -> list[uuid.UUID]:
    """The running experiments whose shares are not those of their newest step."""
    return [row.experiment_id for row in session.execute(text(_SHARES), {"only": None})]


def notice(session: Session, experiments: Sequence[uuid.UUID] | None = None) -> list[int]:
    """Opens a step wherever the shares of a running experiment are not those of its newest one; returns their ids.

    Others changed them; when, nobody recorded, so the step begins now. The past of an experiment without any step is
    reconstructed from who was assigned when, so the first pass should be through. Shares that do not add up to 1 are
    somebody's work in progress and wait. `experiments` are those of `outdated`, or some of them.
    """
    ids = outdated(session) if experiments is None else list(experiments)
    if not ids:
        return []
    cursor.locked(session)
    session.execute(
        text("SELECT FROM exp.experiments WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"), {"ids": ids}
    )
    opened: list[int] = []
    for row in session.execute(text(_SHARES), {"only": ids}).all():
        if not row.has_steps:
            opened += _reconstruct(session, row.experiment_id, row.shares)
        else:
            opened.append(_open(session, row.experiment_id, row.shares, "noticed"))
    return opened


def _open(
    session: Session, experiment_id: uuid.UUID, shares: Mapping[str, str], source: str, at: datetime | None = None
) -> int:
    query = """
        INSERT INTO promotion.allocation_steps (experiment_id, shares, source, started_at)
        VALUES (:id, CAST(:shares AS jsonb), :source, coalesce(:at, now())) RETURNING id"""
    values = {"id": experiment_id, "shares": json.dumps(dict(shares)), "source": source, "at": at}
    found: int = session.execute(text(query), values).scalar_one()
    return found


_ASSIGNED = """
SELECT CAST(assigned_at AT TIME ZONE 'UTC' AS date) AS day, variant_id, count(*) AS units, min(assigned_at) AS first
  FROM exp.assignments WHERE experiment_id = :id GROUP BY 1, 2 ORDER BY 1
"""
_FIRST_SEEN = """
SELECT CAST(first AT TIME ZONE 'UTC' AS date) AS day, variant_id, count(*) AS units, min(first) AS first
  FROM (SELECT p.unit, a.variant_id, min(p.at) AS first FROM promotion.plans p
          JOIN promotion.measure_arms a ON a.id = p.arm
          JOIN promotion.measure_experiments m ON m.id = p.experiment
         WHERE m.experiment_id = :id GROUP BY 1, 2) AS seen GROUP BY 1, 2 ORDER BY 1
"""


def _reconstruct(session: Session, experiment_id: uuid.UUID, present: Mapping[str, str]) -> list[int]:
    """Steps of the past by the shares in which new units joined the variants, day by day."""
    rows = session.execute(text(_ASSIGNED), {"id": experiment_id}).all()
    rows = rows or session.execute(text(_FIRST_SEEN), {"id": experiment_id}).all()
    started = session.execute(
        text("SELECT coalesce(start_at, created_at) FROM exp.experiments WHERE id = :id"), {"id": experiment_id}
    ).scalar_one()
    if not rows:
        return [_open(session, experiment_id, present, "reconstructed", started)]
    names = sorted({str(row.variant_id) for row in rows} | set(present))
    days = sorted({row.day for row in rows})
    counts = np.zeros((len(days), len(names)), dtype=np.int64)
    for row in rows:
        counts[days.index(row.day), names.index(str(row.variant_id))] += row.units
    expected = np.array([float(present.get(name, 0)) for name in names])
    segments = _segments(counts)
    opened = []
    for n, (first, total) in enumerate(segments):
        at = min(started, min(row.first for row in rows)) if n == 0 else datetime.combine(days[first], time(), UTC)
        is_present = n == len(segments) - 1 and not _differ(total, expected * 1e9)
        shares = present if is_present else dict(zip(names, _shares(total), strict=True))
        opened.append(_open(session, experiment_id, _positive(shares), "reconstructed", at))
    if _differ(segments[-1][1], expected * 1e9):
        opened.append(_open(session, experiment_id, present, "noticed"))
    return opened


def _positive(shares: Mapping[str, str]) -> dict[str, str]:
    return {name: share for name, share in shares.items() if float(share) > 0}


def _segments(counts: Ints) -> list[tuple[int, Ints]]:
    """Days (rows) cut where the shares of the columns change: the first day of each segment and its sums."""
    found: list[tuple[int, Ints]] = [(0, counts[0])]
    for day in range(1, len(counts)):
        first, total = found[-1]
        if _differ(total, counts[day]):
            found.append((day, counts[day]))
        else:
            found[-1] = (first, total + counts[day])
    return found


def _differ(one: npt.ArrayLike, other: npt.ArrayLike) -> bool:
    """True where two lots of units have other shares: significant at 0.001, and by more than 3 points of a hundred."""
    table = np.array([one, other], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    if not rows.all() or table.shape[1] < 2:
        return False
    expected = rows * columns / table.sum()
    df = table.shape[1] - 1
    critical = df * (1 - 2 / (9 * df) + 3.09 * (2 / (9 * df)) ** 0.5) ** 3  # Wilson and Hilferty
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic > critical and float(np.abs(np.diff(table / rows, axis=0)).max()) > 0.03


def _shares(units: Ints) -> list[str]:
    """Shares with four decimals that add up to 1; what rounding leaves goes to the largest."""
    parts = [int(n) * 10_000 // int(units.sum()) for n in units]
    parts[parts.index(max(parts))] += 10_000 - sum(parts)
    return [f"{part / 10_000:.4f}" for part in parts]


BLOCKS: Final = 4_000
"""How much of the assignments is counted at once, in blocks of mostly 8 kB: some 300,000 of them, in about a second."""
_BEGINS = "SELECT now() AS at, coalesce(max(id), 0) AS step FROM promotion.allocation_steps"
_COUNT_ASSIGNED = f"""
SELECT a.experiment_id, coalesce(s.id, 0) AS step, a.variant_id, count(*) AS units
  FROM (SELECT experiment_id, variant_id, assigned_at FROM exp.assignments
         WHERE {blocks.RANGE} AND coalesce(assigned_at, '-infinity') < :at) a
  LEFT JOIN (
       SELECT experiment_id, id, started_at,
              lead(started_at, 1, 'infinity') OVER (PARTITION BY experiment_id ORDER BY started_at, id) AS until
         FROM promotion.allocation_steps WHERE id <= :step) s
    ON s.experiment_id = a.experiment_id AND a.assigned_at >= s.started_at AND a.assigned_at < s.until
 GROUP BY 1, 2, 3
"""
_KEEP_ASSIGNED = """
INSERT INTO promotion.measure_assigned (experiment_id, step, variant_id, units)
SELECT * FROM unnest(CAST(:experiments AS uuid[]), CAST(:steps AS bigint[]), CAST(:variants AS uuid[]),
                     CAST(:units AS bigint[]))
"""
Transaction = Callable[[], AbstractContextManager[Session]]
"""Opens one, committed at its end."""
Counts = Counter[tuple[uuid.UUID, int, uuid.UUID]]
"""Units by experiment, step and variant."""


def count_assigned(transaction: Transaction, *, is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Counts anew how many units were newly assigned to each variant in each step; returns how many units there are.

    A pass over all assignments, to be made now and then: a look reads only what this leaves. Each part of it is a
    transaction of its own that locks nothing; one that is broken off leaves what was counted before. It counts what was
    assigned before it began, by the steps that there were. Step 0 is what was assigned before the first step.
    """
    with transaction() as session:
        begins, there = session.execute(text(_BEGINS)).one(), blocks.extent(session, "exp.assignments")
    counts: Counts = Counter()
    at_once = there.at_once(BLOCKS)
    for first in range(0, there.blocks, at_once):
        if is_stopping():
            return 0
        values = {"at": begins.at, "step": begins.step, **blocks.bounds(first, first + at_once)}
        with transaction() as session:
            for *key, units in session.execute(text(_COUNT_ASSIGNED), values):
                counts[tuple(key)] += units
    with transaction() as session:
        _keep_assigned(session, counts)
    return counts.total()


def _keep_assigned(session: Session, counts: Counts) -> None:
    session.execute(text("LOCK TABLE promotion.measure_assigned IN EXCLUSIVE MODE"))  # one at a time; all may read
    session.execute(text("DELETE FROM promotion.measure_assigned"))
    experiments, steps, variants = zip(*counts, strict=True) if counts else ((), (), ())
    values = {"experiments": experiments, "steps": steps, "variants": variants, "units": counts.values()}
    session.execute(text(_KEEP_ASSIGNED), {key: list(each) for key, each in values.items()})
