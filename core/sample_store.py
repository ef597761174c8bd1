"""Adds what changed of plans to the stored samples: to those of each day, and to those of each whole step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from core.rules import samples
from core.rules.samples import BUCKETS, Counts, Ints, Sample, edges_of

TOKENS, TOKEN_PLANS = "tokens", "token_plans"
"""Sums over plans that log tokens and no cost; a price turns them into cost when samples are read."""
Day = tuple[int, int, date]
"""Arm, step and day."""

_PARTS: Final = ("arm", "step", "at", "unit", "bin", "cost_nano", "tokens", "accepted", "intervened", "edits")
_DIFFERS: Final = (
    f"(arm_0 IS NULL OR ({', '.join(_PARTS)}) IS DISTINCT FROM ({', '.join(f'{part}_0' for part in _PARTS)}))"
)
# Bits of a record: bucket 8, bin 10 (0: none), accepted, intervened, cost, tokens, then the edits from bit 24 on.
_RECORDS: Final = f"""
SELECT arm, step, CAST(at AT TIME ZONE 'UTC' AS date) AS day, sign,
       string_agg(int8send((unit & 255) | (CAST(coalesce(bin, -1) + 1 AS bigint) << 8)
           | CAST((CAST(accepted AS integer) << 18) | (CAST(intervened AS integer) << 19)
                  | (CAST(cost_nano IS NOT NULL AS integer) << 20)
                  | (CAST(tokens IS NOT NULL AS integer) << 21) AS bigint)
           | (CAST(edits AS bigint) << 24)), '') AS records,
       string_agg(int8send(coalesce(cost_nano, tokens, 0)), '') AS amounts
  FROM (
    SELECT 1 AS sign, {", ".join(_PARTS)} FROM merged WHERE arm IS NOT NULL AND {_DIFFERS}
    UNION ALL
    SELECT -1, {", ".join(f"{part}_0" for part in _PARTS)} FROM merged WHERE arm_0 IS NOT NULL AND {_DIFFERS}
  ) AS changed GROUP BY arm, step, day, sign
"""
# A share, a count and a ratio are taken of plans generated while they were collected ("seen"), a mean and a quantile of
# those that have it.
_EXTRAS: Final = """
WITH changed AS (
    SELECT 1 AS sign, arm, step, CAST(at AT TIME ZONE 'UTC' AS date) AS day, unit & 255 AS bucket, extra
      FROM merged WHERE arm IS NOT NULL AND extra IS NOT NULL
    UNION ALL
    SELECT -1, arm_0, step_0, CAST(at_0 AT TIME ZONE 'UTC' AS date), unit_0 & 255, extra_0
      FROM merged WHERE arm_0 IS NOT NULL AND extra_0 IS NOT NULL
)
SELECT arm, step, day, bucket, 'extra:' || v.name AS name, v.bin, CAST(sum(sign * v.amount) AS bigint) AS amount
  FROM changed CROSS JOIN LATERAL jsonb_each(extra) x CROSS JOIN LATERAL (
       SELECT split_part(x.key, ':', 1) AS kind, split_part(x.key, ':', 2) AS of) k
  CROSS JOIN LATERAL (
       SELECT of, CAST(NULL AS integer), 1 WHERE kind IN ('share', 'count') AND extra ? ('seen:' || of)
       UNION ALL SELECT of, NULL, CAST(x.value ->> 2 AS bigint) WHERE kind = 'mean'
       UNION ALL SELECT of || '\\:plans', NULL, 1 WHERE kind IN ('seen', 'mean')
       UNION ALL SELECT of, CAST(x.value ->> 2 AS integer), 1 WHERE kind = 'quantile'
       UNION ALL SELECT CASE kind WHEN 'over' THEN of || '\\:over' ELSE of END, NULL, CAST(x.value ->> 0 AS bigint)
                  WHERE kind IN ('sum', 'over') AND extra ? ('seen:' || of)) v (name, bin, amount)
 GROUP BY arm, step, day, bucket, v.name, v.bin HAVING sum(sign * v.amount) <> 0
"""


def changes(session: Session) -> dict[Day, Sample]:
    """What the temporary table `merged` changes of each arm, step and day: after, less before."""
    found: dict[Day, list[Sample]] = {}
    for row in session.execute(text(_RECORDS)):
        found.setdefault((row.arm, row.step, row.day), []).append(_sample(row))
    for day, sample in _extras(session).items():
        found.setdefault(day, []).append(sample)
    return {day: Sample.total(parts) for day, parts in found.items()}


def _extras(session: Session) -> dict[Day, Sample]:
    has_any = "SELECT EXISTS (SELECT FROM merged WHERE extra IS NOT NULL OR extra_0 IS NOT NULL)"
    if not session.execute(text(has_any)).scalar_one():
        return {}
    found: dict[Day, dict[str, list[Row[Any]]]] = {}
    for row in session.execute(text(_EXTRAS)):
        found.setdefault((row.arm, row.step, row.day), {}).setdefault(row.name, []).append(row)
    return {day: _own_sample(by_name) for day, by_name in found.items()}


def _own_sample(by_name: Mapping[str, Sequence[Row[Any]]]) -> Sample:
    """A team's own sums and histograms; a row with a bin is of the latter."""
    sums, histograms = {}, {}
    for name, rows in by_name.items():
        buckets, amounts = [row.bucket for row in rows], [row.amount for row in rows]
        if rows[0].bin is None:
            sums[name] = np.zeros(BUCKETS, dtype=np.int64)
            np.add.at(sums[name], buckets, amounts)
        else:
            histograms[name] = Counts.of(buckets, [row.bin for row in rows], amounts, edges=edges_of(name))
    return Sample.of(sums, histograms)


def _sample(row: Row[Any]) -> Sample:
    """What a group of records adds, or takes away where its sign is negative."""
    records = np.frombuffer(row.records, ">i8").astype(np.int64)
    amounts = np.frombuffer(row.amounts, ">i8").astype(np.int64)
    buckets, bins = records & 255, (records >> 8 & 1023) - 1
    sums = {name: row.sign * values for name, values in _sums(buckets, records, amounts).items()}
    timed = bins >= 0
    counts = Counts.of(buckets[timed], bins[timed], np.full(int(timed.sum()), row.sign))
    return Sample.of(sums, {samples.LATENCY: counts})


def _sums(buckets: Ints, records: Ints, amounts: Ints) -> dict[str, Ints]:
    def per_bucket(values: Ints) -> Ints:
        found = np.zeros(BUCKETS, dtype=np.int64)
        np.add.at(found, buckets, values)
        return found

    has_cost, has_tokens = records >> 20 & 1, records >> 21 & 1
    return {
        samples.PLANS: per_bucket(np.ones_like(records)),
        samples.ACCEPTED: per_bucket(records >> 18 & 1),
        samples.INTERVENTIONS: per_bucket(records >> 19 & 1),
        samples.EDITS: per_bucket(records >> 24),
        samples.COST_PLANS: per_bucket(has_cost),
        samples.COST_NANO: per_bucket(amounts * has_cost),
        TOKEN_PLANS: per_bucket(has_tokens),
        TOKENS: per_bucket(amounts * has_tokens),
    }


def _added(stored: Mapping[Any, bytes], changed: Mapping[Any, Sample]) -> dict[Any, bytes]:
    return {
        key: Sample.total((Sample.from_bytes(stored[key]), change) if key in stored else (change,)).to_bytes()
        for key, change in changed.items()
    }


def add(session: Session, changed: Mapping[Day, Sample], units: Mapping[tuple[int, int], int]) -> None:
    """Adds changes to the stored samples: to each day's and to the whole step's, with the change of its newcomers."""
    days = [{"arm": arm, "step": step, "day": day} for arm, step, day in changed]
    if days:
        query = """
            SELECT d.arm, d.step, d.day, d.content FROM promotion.samples_daily d
              JOIN unnest(CAST(:arm AS integer[]), CAST(:step AS bigint[]), CAST(:day AS date[])) k (arm, step, day)
             USING (arm, step, day)"""
        columns = {name: [row[name] for row in days] for name in ("arm", "step", "day")}
        stored = {(r.arm, r.step, r.day): r.content for r in session.execute(text(query), columns)}
        upsert = """
            INSERT INTO promotion.samples_daily (arm, step, day, content) VALUES (:arm, :step, :day, :content)
            ON CONFLICT (arm, step, day) DO UPDATE SET content = excluded.content"""
        contents = _added(stored, changed)
        session.execute(text(upsert), [{**row, "content": contents[tuple(row.values())]} for row in days])
    _add_totals(session, changed, units)


def _add_totals(session: Session, changed: Mapping[Day, Sample], units: Mapping[tuple[int, int], int]) -> None:
    parts: dict[tuple[int, int], list[Sample]] = {key: [] for key in units}
    for (arm, step, _), change in changed.items():
        parts.setdefault((arm, step), []).append(change)
    if not parts:
        return
    query = """
        SELECT s.arm, s.step, s.content FROM promotion.samples s
          JOIN unnest(CAST(:arm AS integer[]), CAST(:step AS bigint[])) k (arm, step) USING (arm, step)"""
    columns = {"arm": [arm for arm, _ in parts], "step": [step for _, step in parts]}
    stored = {(r.arm, r.step): r.content for r in session.execute(text(query), columns)}
    contents = _added(stored, {key: Sample.total(found) for key, found in parts.items()})
    upsert = """
        INSERT INTO promotion.samples (arm, step, units, content) VALUES (:arm, :step, greatest(:units, 0), :content)
        ON CONFLICT (arm, step) DO UPDATE SET content = excluded.content, units = samples.units + :units"""
    session.execute(
        text(upsert),
        [
            {"arm": arm, "step": step, "units": units.get((arm, step), 0), "content": content}
            for (arm, step), content in contents.items()
        ],
    )


def restore_totals(session: Session) -> None:
    """The totals of steps that have days or units and no total."""
    missing = """
        NOT EXISTS (SELECT FROM promotion.samples s WHERE s.arm = k.arm AND s.step = k.step)"""
    days = f"SELECT k.* FROM promotion.samples_daily k WHERE {missing}"
    kept = {(r.arm, r.step, r.day): Sample.from_bytes(r.content) for r in session.execute(text(days))}
    query = f"SELECT k.arm, k.step, count(*) AS units FROM promotion.measure_units k WHERE {missing} GROUP BY 1, 2"
    units = {(r.arm, r.step): r.units for r in session.execute(text(query))}
    _add_totals(session, kept, units)
