"""Events -> the state of each plan -> additive samples; work in proportion to what is new.

**What is new.** Neither `created_at` nor the id of an event says when its transaction was committed. So the cursor is
a transaction number: all events below `horizon` have been taken, and a new horizon is the oldest transaction that was
still running when a pass began. Every event is taken by exactly one pass, however late its transaction commits, with
subtransactions too. Events that are visible already but lie beyond the horizon (a long transaction runs somewhere) are
taken at once and remembered in `measure_ahead` until the horizon has passed them. System columns have no index, so a
pass looks for them where they can be: by `created_at` from an hour before the previous horizon was set, where the
table has such an index, else by the platform's own index on `timestamp`, eight days back. What that cannot find
(a transaction that idled for more than an hour before its first write, an event with a `created_at` of its own from
long ago) is found by `sweep`, a scan of the whole table to be run once a day. The first pass reads the whole table.

**What makes it safe.** The state of a plan is a minimum, maximum, "or" or set of what its events said, so neither the
order of events nor of batches matters and a repeated event changes nothing. State, samples, counts and cursor change
in the caller's one transaction, under a lock on the cursor's row: whatever is cut short never happened.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Result, Row, text
from sqlalchemy.orm import Session

from core.rules import samples
from core.rules.samples import BUCKETS, EDGES_MS, NANO, Counts, Ints, Sample

KEEP_DAYS: Final = 90
"""How long the platform keeps raw events; the state of a plan is needed no longer."""
TOKENS, TOKEN_PLANS = "tokens", "token_plans"
"""Sums over plans that log tokens and no cost; a price turns them into cost when samples are read."""
NO_EXPERIMENT: Final = uuid.UUID(int=0)
"""Stands in `measure_counts` for events that name no experiment."""

_LAGS: Final = {"created_at": timedelta(hours=1), "timestamp": timedelta(days=8)}
_UNIT_SEED: Final = 7_203_441
_FLAWS: Final = (
    "late",  # came more than an hour after it happened
    "too_late",  # more than the 7 days that the platform promises; it counts all the same
    "early",  # happened more than an hour after it came; it counts all the same
    "no_plan",  # names no plan, so it speaks of none
    "no_experiment",
    "malformed_experiments",  # no array, or an entry without readable ids
    "orphaned",  # names an experiment or a variant that does not exist
    "malformed_metric",  # the plan counts, the metric does not
    "malformed_time",  # infinite
    "expired",  # speaks of a plan whose state is gone
)
_BIT: Final = {name: 1 << n for n, name in enumerate(_FLAWS)}


@dataclass(frozen=True)
class Progress:
    """What one batch did. Until `is_done`, there is more to be taken: commit, then call again."""

    events: int
    is_done: bool
    until: datetime | None
    """All that was committed before this time has been taken; None before the first pass is through."""


# --- Reading events ----------------------------------------------------------------------------------------------

_KINDS = "'plan_generated', 'plan_accepted', 'edit_applied', 'validator_intervention'"
_UUID = "'^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'"


def _number(field: str) -> str:
    """A metric may arrive as a string or as null; only what reads as a number counts."""
    is_number = rf"{field} #>> '{{}}' ~ '^\s*[+-]?[0-9]{{1,30}}(\.[0-9]{{0,40}})?([eE][+-]?[0-9]{{1,2}})?\s*$'"
    return f"""
CASE jsonb_typeof({field}) WHEN 'number' THEN CAST({field} AS numeric)
     WHEN 'string' THEN CASE WHEN {is_number}
                             THEN CAST({field} #>> '{{}}' AS numeric) END END"""


def _is_unreadable(field: str, number: str) -> str:
    return f"({field} IS NOT NULL AND jsonb_typeof({field}) <> 'null' AND {number} IS NULL)"


def _flaw(**when: str) -> str:
    return " | ".join(f"CASE WHEN {condition} THEN {_BIT[name]} ELSE 0 END" for name, condition in when.items())


# The subquery depends on `experiments` alone: PostgreSQL remembers its answer for each distinct value (Memoize).
# OFFSET 0 keeps it in one piece, and an expression from being computed once for each place that uses it.
_NAMED = f"""
SELECT coalesce(m.id, 0) AS experiment, a.id AS arm,
       {
    _flaw(
        no_experiment="i.named = 'null'",
        malformed_experiments="i.named <> 'null' AND (i.experiment_id IS NULL OR i.variant_id IS NULL)",
        orphaned="i.experiment_id IS NOT NULL AND i.variant_id IS NOT NULL AND a.id IS NULL",
    )
} AS flaws
  FROM (SELECT x.named,
               CASE WHEN x.named ->> 'experiment_id' ~ {_UUID}
                    THEN CAST(x.named ->> 'experiment_id' AS uuid) END AS experiment_id,
               CASE WHEN x.named ->> 'variant_id' ~ {_UUID}
                    THEN CAST(x.named ->> 'variant_id' AS uuid) END AS variant_id
          FROM jsonb_array_elements(
               CASE WHEN e.experiments IS NULL OR e.experiments IN (jsonb '[]', jsonb 'null') THEN jsonb '[null]'
                    WHEN jsonb_typeof(e.experiments) = 'array' THEN e.experiments ELSE jsonb '[0]' END) x (named)
         WHERE length(jsonb_typeof(x.named)) BETWEEN 1 AND 10 -- always; it tells the planner that there are few
        OFFSET 0) i
  LEFT JOIN promotion.measure_experiments m ON m.experiment_id = i.experiment_id
  LEFT JOIN (promotion.measure_arms a JOIN exp.variants v ON v.id = a.variant_id)
         ON a.variant_id = i.variant_id AND a.experiment = m.id
OFFSET 0"""

_READ = f"""
CREATE TEMP TABLE read ON COMMIT DROP AS
SELECT experiment, plan, kind = 'plan_generated' AS is_born, is_counted, at, tie, arm, unit,
       CAST(width_bucket(CAST(latency AS float8), CAST(:edges AS float8[])) AS smallint) AS bin,
       CAST(round(cost * {NANO}) AS bigint) AS cost_nano,
       CASE WHEN cost IS NULL THEN CAST(round(tokens) AS bigint) END AS tokens,
       kind = 'plan_accepted' AS accepted, kind = 'validator_intervention' AS intervened,
       CAST(round(edit_count) AS integer) AS edit_count, edit, flaws | metric_flaws AS flaws,
       CASE WHEN flaws | metric_flaws <> 0 THEN CAST(day AT TIME ZONE 'UTC' AS date) END AS day
  FROM (
    SELECT experiment, kind, at, arm, unit, day, is_counted, flaws,
           CASE WHEN kind = 'plan_generated' THEN uuid_hash_extended(id, 0) END AS tie,
           jsonb_hash_extended(edit_payload, at) AS edit,
           CASE WHEN plan_id IS NOT NULL AND experiment > 0 AND at >= :frozen_us
                     AND (kind <> 'plan_generated' OR arm IS NOT NULL)
                THEN hashtextextended(plan_id, 0) END AS plan,
           CASE WHEN latency BETWEEN 0 AND 1e9 THEN latency END AS latency,
           CASE WHEN cost BETWEEN 0 AND 1e6 THEN cost END AS cost,
           CASE WHEN tokens BETWEEN 0 AND 1e9 THEN tokens END AS tokens,
           CASE WHEN edit_count BETWEEN 0 AND 1e6 THEN edit_count END AS edit_count,
           {
    _flaw(
        malformed_metric="("
        + " OR ".join(
            [
                _is_unreadable("latency_json", "CASE WHEN latency BETWEEN 0 AND 1e9 THEN 1 END"),
                _is_unreadable("cost_json", "CASE WHEN cost BETWEEN 0 AND 1e6 THEN 1 END"),
                _is_unreadable("tokens_json", "CASE WHEN tokens BETWEEN 0 AND 1e9 THEN 1 END"),
                _is_unreadable("edit_count_json", "CASE WHEN edit_count BETWEEN 0 AND 1e6 THEN 1 END"),
            ]
        )
        + ")",
        no_plan="plan_id IS NULL",
        malformed_time="at IS NULL",
        expired="at < :frozen_us",
    )
} AS metric_flaws
      FROM (
        SELECT *, {_number("latency_json")} AS latency, {_number("cost_json")} AS cost,
               {_number("tokens_json")} AS tokens, {_number("edit_count_json")} AS edit_count
          FROM (
            SELECT e.id, e.event_type AS kind, nullif(e.payload ->> 'plan_id', '') AS plan_id, w.experiment, w.arm,
                   CASE WHEN isfinite(e.timestamp)
                        THEN CAST(date_part('epoch', e.timestamp) * 1e6 AS bigint) END AS at,
                   CASE WHEN e.event_type = 'plan_generated' THEN hashtextextended(e.unit_id, {_UNIT_SEED}) END AS unit,
                   e.event_type IN ({_KINDS}) AS is_counted,
                   CASE WHEN e.event_type = 'edit_applied' THEN e.payload END AS edit_payload,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'latency_ms' END AS latency_json,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'cost' END AS cost_json,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'token_count' END AS tokens_json,
                   e.metrics -> 'edit_count' AS edit_count_json,
                   CASE WHEN isfinite(e.timestamp) THEN e.timestamp ELSE e.created_at END AS day,
                   w.flaws | CASE WHEN e.created_at BETWEEN e.timestamp - interval '1 hour'
                                                        AND e.timestamp + interval '1 hour'
                                       OR NOT isfinite(e.timestamp) THEN 0
                                  WHEN e.created_at < e.timestamp THEN {_BIT["early"]}
                                  WHEN e.created_at <= e.timestamp + interval '7 days' THEN {_BIT["late"]}
                                  ELSE {_BIT["too_late"]} END AS flaws
              FROM exp.events e CROSS JOIN LATERAL ({_NAMED}) w
             WHERE {{which}} AND e.unit_type <> 'control'
               AND (e.event_type IN ({_KINDS})
                    OR e.event_type IN ('plan_rejected', 'meal_swapped') AND e.metrics ? 'edit_count')
            OFFSET 0) AS read OFFSET 0) AS numbers OFFSET 0) AS judged
"""

# What each plan's new events say together. To order the plans by themselves and to group only small numbers takes half
# the time of grouping all that was read.
_FRESH = """
CREATE TEMP TABLE fresh ON COMMIT DROP AS
SELECT o.experiment, o.plan, b.at, b.tie, b.arm, b.unit, b.bin, b.cost_nano, b.tokens, o.events, o.accepted,
       o.intervened, o.edit_count, k.edit_keys, o.first_at
  FROM (SELECT experiment, plan, CAST(count(*) FILTER (WHERE is_counted) AS integer) AS events,
               bool_or(accepted) AS accepted, bool_or(intervened) AS intervened,
               coalesce(max(edit_count), 0) AS edit_count, min(at) AS first_at
          FROM read WHERE plan IS NOT NULL GROUP BY experiment, plan) o
  LEFT JOIN (
        SELECT DISTINCT ON (experiment, plan) experiment, plan, at, tie, arm, unit, bin, cost_nano, tokens
          FROM read WHERE is_born AND plan IS NOT NULL ORDER BY experiment, plan, at, tie) b USING (experiment, plan)
  LEFT JOIN (
        SELECT experiment, plan, array_agg(edit) AS edit_keys FROM (
            SELECT DISTINCT experiment, plan, edit FROM read WHERE edit IS NOT NULL AND plan IS NOT NULL) AS edits
         GROUP BY experiment, plan) k USING (experiment, plan)
"""

# --- The state of plans ------------------------------------------------------------------------------------------

_STEPS = """
SELECT m.id AS experiment, s.id AS step, s.started_at AS since,
       lead(s.started_at, 1, 'infinity') OVER (PARTITION BY m.id ORDER BY s.started_at, s.id) AS until
  FROM promotion.allocation_steps s JOIN promotion.measure_experiments m ON m.experiment_id = s.experiment_id
"""

# What is the same before and after is compared column by column: for most plans there is no before.
_MERGED = f"""
CREATE TEMP TABLE merged ON COMMIT DROP AS
SELECT n.*, CASE WHEN n.arm IS NOT NULL THEN coalesce(s.step, 0) END AS step,
       greatest(coalesce(cardinality(n.edit_keys), 0), n.edit_count) AS edits,
       n.events - 1 - CAST(n.accepted AS integer) - CAST(n.intervened AS integer)
           - coalesce(cardinality(n.edit_keys), 0) AS repeats
  FROM (
    SELECT f.experiment, f.plan, p.plan IS NOT NULL AS is_known, p.arm AS arm_0, p.step AS step_0, p.at AS at_0,
           p.unit AS unit_0, p.bin AS bin_0, p.cost_nano AS cost_nano_0, p.tokens AS tokens_0,
           p.accepted AS accepted_0, p.intervened AS intervened_0,
           greatest(coalesce(cardinality(p.edit_keys), 0), p.edit_count) AS edits_0,
           p.events - 1 - CAST(p.accepted AS integer) - CAST(p.intervened AS integer)
               - coalesce(cardinality(p.edit_keys), 0) AS repeats_0,
           CASE WHEN b.is_first THEN to_timestamp(CAST(f.at AS float8) / 1e6) WHEN p.arm IS NOT NULL THEN p.at
                ELSE least(p.at, to_timestamp(CAST(f.first_at AS float8) / 1e6)) END AS at,
           CASE WHEN b.is_first THEN f.tie ELSE p.tie END AS tie,
           CASE WHEN b.is_first THEN f.arm ELSE p.arm END AS arm,
           CASE WHEN b.is_first THEN f.unit ELSE p.unit END AS unit,
           CASE WHEN b.is_first THEN f.bin ELSE p.bin END AS bin,
           CASE WHEN b.is_first THEN f.cost_nano ELSE p.cost_nano END AS cost_nano,
           CASE WHEN b.is_first THEN f.tokens ELSE p.tokens END AS tokens,
           coalesce(p.accepted, false) OR f.accepted AS accepted,
           coalesce(p.intervened, false) OR f.intervened AS intervened,
           greatest(p.edit_count, f.edit_count) AS edit_count,
           coalesce(p.events, 0) + f.events AS events,
           CASE WHEN f.edit_keys IS NULL THEN p.edit_keys WHEN p.edit_keys IS NULL THEN f.edit_keys
                ELSE (SELECT array_agg(DISTINCT key) FROM unnest(p.edit_keys || f.edit_keys) key) END AS edit_keys
      FROM fresh f LEFT JOIN LATERAL (
           SELECT * FROM promotion.plans p WHERE p.plan = f.plan AND p.experiment = f.experiment OFFSET 0) p ON true
     CROSS JOIN LATERAL (SELECT f.arm IS NOT NULL AND (p.arm IS NULL OR
           (f.at, f.tie) < (CAST(date_part('epoch', p.at) * 1e6 AS bigint), p.tie)) AS is_first OFFSET 0) b
    OFFSET 0
  ) n LEFT JOIN ({_STEPS}) s ON s.experiment = n.experiment AND n.at >= s.since AND n.at < s.until
"""

_COLUMNS = "at, tie, arm, unit, bin, cost_nano, tokens, accepted, intervened, edit_count, events, edit_keys, step"
_INSERT = f"""
INSERT INTO promotion.plans (plan, experiment, {_COLUMNS})
SELECT plan, experiment, {_COLUMNS} FROM merged WHERE NOT is_known
"""
_UPDATE = f"""
UPDATE promotion.plans p SET ({_COLUMNS}) = ({", ".join("m." + name for name in _COLUMNS.split(", "))})
  FROM merged m WHERE m.is_known AND p.plan = m.plan AND p.experiment = m.experiment
"""

# Bits of a record: bucket 8, bin 10 (0: none), accepted, intervened, cost, tokens, then the edits from bit 24 on.
_RECORDS = """
SELECT arm, step, CAST(at AT TIME ZONE 'UTC' AS date) AS day, sign,
       string_agg(int8send((unit & 255) | (CAST(coalesce(bin, -1) + 1 AS bigint) << 8)
           | CAST((CAST(accepted AS integer) << 18) | (CAST(intervened AS integer) << 19)
                  | (CAST(cost_nano IS NOT NULL AS integer) << 20)
                  | (CAST(tokens IS NOT NULL AS integer) << 21) AS bigint)
           | (CAST(edits AS bigint) << 24)), '') AS records,
       string_agg(int8send(coalesce(cost_nano, tokens, 0)), '') AS amounts
  FROM (
    SELECT 1 AS sign, arm, step, at, unit, bin, cost_nano, tokens, accepted, intervened, edits FROM merged
     WHERE arm IS NOT NULL AND {differs}
    UNION ALL
    SELECT -1, arm_0, step_0, at_0, unit_0, bin_0, cost_nano_0, tokens_0, accepted_0, intervened_0, edits_0 FROM merged
     WHERE arm_0 IS NOT NULL AND {differs}
  ) AS changed GROUP BY arm, step, day, sign
"""
_PARTS = ("arm", "step", "at", "unit", "bin", "cost_nano", "tokens", "accepted", "intervened", "edits")
_DIFFERS = f"""(arm_0 IS NULL OR ({", ".join(_PARTS)}) IS DISTINCT FROM ({", ".join(f"{p}_0" for p in _PARTS)}))"""

_MOVED = "arm_0 IS NOT NULL AND (arm_0, step_0, unit_0) IS DISTINCT FROM (arm, step, unit)"
_UNITS_GONE = f"""
WITH gone AS (
    DELETE FROM promotion.measure_units u USING (SELECT DISTINCT arm_0, step_0, unit_0 FROM merged WHERE {_MOVED}) m
     WHERE u.arm = m.arm_0 AND u.step = m.step_0 AND u.unit = m.unit_0
       AND NOT EXISTS (SELECT FROM promotion.plans p WHERE p.arm = u.arm AND p.step = u.step AND p.unit = u.unit)
    RETURNING u.arm, u.step)
SELECT arm, step, -count(*) AS units FROM gone GROUP BY arm, step
"""
_UNITS_COME = f"""
WITH come AS (
    INSERT INTO promotion.measure_units (arm, step, unit)
    SELECT arm, step, unit FROM (
        SELECT DISTINCT arm, step, unit FROM merged WHERE arm IS NOT NULL AND (arm_0 IS NULL OR {_MOVED})) m
     WHERE NOT EXISTS (
        SELECT FROM promotion.measure_units u WHERE (u.arm, u.step, u.unit) = (m.arm, m.step, m.unit))
    RETURNING arm, step)
SELECT arm, step, count(*) AS units FROM come GROUP BY arm, step
"""

_SLOTS = """
INSERT INTO promotion.measure_slots (experiment, slot, plans)
SELECT experiment, date_bin('15 minutes', at, '2000-01-01Z'), sum(plans)
  FROM (SELECT experiment, at, 1 AS plans FROM merged WHERE arm IS NOT NULL AND (arm_0 IS NULL OR at <> at_0)
        UNION ALL
        SELECT experiment, at_0, -1 FROM merged WHERE arm_0 IS NOT NULL AND at <> at_0) AS moved
 GROUP BY 1, 2 HAVING sum(plans) <> 0
ON CONFLICT (experiment, slot) DO UPDATE SET plans = measure_slots.plans + excluded.plans
"""

_COUNTS = """
INSERT INTO promotion.measure_counts (experiment_id, kind, day, events)
SELECT coalesce(m.experiment_id, CAST(:nobody AS uuid)), c.kind, c.day, sum(c.events)
  FROM (
    SELECT r.experiment, k.kind, r.day, 1 AS events
      FROM read r JOIN unnest(CAST(:kinds AS text[])) WITH ORDINALITY k (kind, n)
        ON r.flaws & (1 << CAST(k.n - 1 AS integer)) <> 0
     WHERE r.flaws <> 0
    UNION ALL
    SELECT experiment, 'repeated', CAST(at AT TIME ZONE 'UTC' AS date), repeats FROM merged
     WHERE arm IS NOT NULL AND repeats <> 0
    UNION ALL
    SELECT experiment, 'repeated', CAST(at_0 AT TIME ZONE 'UTC' AS date), -repeats_0 FROM merged
     WHERE arm_0 IS NOT NULL AND repeats_0 <> 0
  ) c LEFT JOIN promotion.measure_experiments m ON m.id = c.experiment
 GROUP BY 1, 2, 3 HAVING sum(c.events) <> 0
ON CONFLICT (experiment_id, kind, day) DO UPDATE SET events = measure_counts.events + excluded.events
"""

_EDGES: Final = "{" + ",".join(map(repr, EDGES_MS.tolist())) + "}"


def _run(session: Session, query: str, values: Mapping[str, Any]) -> Result[Any]:
    """Executes with those of the values that the query names."""
    return session.execute(text(query), {name: values[name] for name in values if f":{name}" in query})


def _take(
    session: Session, which: str, values: Mapping[str, Any], frozen_before: date | None, only: int | None = None
) -> int:
    """Reads the events that a condition chooses and applies them; returns how many there were."""
    frozen_us = -(2**62) if frozen_before is None else (frozen_before - date(1970, 1, 1)).days * 86_400_000_000
    _run(session, _READ.replace("{which}", which), {**values, "edges": _EDGES, "frozen_us": frozen_us})
    if only is not None:
        session.execute(text("DELETE FROM read WHERE experiment <> :only"), {"only": only})
    taken: int = session.execute(text("SELECT count(*) FROM read")).scalar_one()
    if taken:
        session.execute(text(_FRESH))
        _apply(session)
        session.execute(text(_COUNTS), {"nobody": NO_EXPERIMENT, "kinds": list(_FLAWS)})
        session.execute(text("DROP TABLE merged, fresh"))
    session.execute(text("DROP TABLE read"))
    return taken


def _apply(session: Session) -> None:
    """Brings plans and samples in line with the temporary table `fresh`; leaves what changed in `merged`."""
    session.execute(text(_MERGED))
    session.execute(text(_INSERT))
    session.execute(text(_UPDATE))
    session.execute(text(_SLOTS))
    _store(session, _changes(session), _units(session))


def _units(session: Session) -> dict[tuple[int, int], int]:
    """Keeps the distinct units of each arm and step; returns by how many they changed."""
    has_moved = session.execute(text(f"SELECT EXISTS (SELECT FROM merged WHERE {_MOVED})")).scalar_one()
    found: Counter[tuple[int, int]] = Counter()
    for query in (_UNITS_GONE, _UNITS_COME) if has_moved else (_UNITS_COME,):
        for row in session.execute(text(query)):
            found[row.arm, row.step] += row.units
    return found


# --- Samples -----------------------------------------------------------------------------------------------------

Day = tuple[int, int, date]
"""Arm, step and day."""


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


def _sample(row: Row[Any]) -> Sample:
    """What a group of records adds, or takes away where its sign is negative."""
    records = np.frombuffer(row.records, ">i8").astype(np.int64)
    amounts = np.frombuffer(row.amounts, ">i8").astype(np.int64)
    buckets, bins = records & 255, (records >> 8 & 1023) - 1
    sums = {name: row.sign * values for name, values in _sums(buckets, records, amounts).items()}
    timed = bins >= 0
    counts = Counts.of(buckets[timed], bins[timed], np.full(int(timed.sum()), row.sign))
    return Sample.of(sums, {samples.LATENCY: counts})


def _changes(session: Session) -> dict[Day, Sample]:
    found: dict[Day, list[Sample]] = {}
    for row in session.execute(text(_RECORDS.format(differs=_DIFFERS))):
        found.setdefault((row.arm, row.step, row.day), []).append(_sample(row))
    return {day: Sample.total(parts) for day, parts in found.items()}


def _added(stored: Mapping[Any, bytes], changes: Mapping[Any, Sample]) -> dict[Any, bytes]:
    return {
        key: Sample.total((Sample.from_bytes(stored[key]), change) if key in stored else (change,)).to_bytes()
        for key, change in changes.items()
    }


def _store(session: Session, changes: Mapping[Day, Sample], units: Mapping[tuple[int, int], int]) -> None:
    """Adds changes to the stored samples: to each day's and to the whole step's."""
    days = [{"arm": arm, "step": step, "day": day} for arm, step, day in changes]
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
        contents = _added(stored, changes)
        session.execute(text(upsert), [{**row, "content": contents[tuple(row.values())]} for row in days])
    _store_totals(session, changes, units)


def _store_totals(session: Session, changes: Mapping[Day, Sample], units: Mapping[tuple[int, int], int]) -> None:
    parts: dict[tuple[int, int], list[Sample]] = {key: [] for key in units}
    for (arm, step, _), change in changes.items():
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


# --- The cursor --------------------------------------------------------------------------------------------------

# Transaction numbers of rows have 32 bits and wrap around, so they are compared by age; a pass spans far fewer.
_AGE = "age(CAST(CAST({} & 4294967295 AS text) AS xid))"
_HIGH, _LOW = f"(SELECT {_AGE.format(':high')})", f"(SELECT {_AGE.format(':low_xid')})"
_IS_BELOW = f"age(e.xmin) > {_HIGH}"
_IS_NEWER = f"age(e.xmin) <= {_HIGH}"
# The same as _IS_BELOW; slower, but `age` would keep PostgreSQL from reading the whole table with several processes.
_IS_BELOW_IN_ALL = "((CAST(CAST(e.xmin AS text) AS bigint) - :high) & 4294967295) >= 1073741824"
_IS_FROM = f"age(e.xmin) <= {_LOW}"
_NOT_AHEAD = "NOT EXISTS (SELECT FROM promotion.measure_ahead h WHERE h.event_id = e.id)"
_MISSED = f"""EXISTS (
    SELECT FROM promotion.measure_passes w
     WHERE age(e.xmin) <= {_AGE.format("w.low_xid")} AND age(e.xmin) > {_AGE.format("w.high_xid")}
       AND CASE w.key WHEN 'created_at' THEN e.created_at ELSE e.timestamp END < w.low)"""


def _cursor(session: Session) -> Row[Any]:
    """The cursor, locked until the end of the transaction: one at a time."""
    return session.execute(text("SELECT * FROM promotion.measure_cursor FOR UPDATE")).one()


def _set(session: Session, **values: Any) -> Row[Any]:
    assigned = ", ".join(f"{name} = :{name}" for name in values)
    return session.execute(text(f"UPDATE promotion.measure_cursor SET {assigned} RETURNING *"), values).one()


def _key(session: Session) -> str:
    """The column that new events are looked for by: `created_at` where it has an index."""
    query = """
        SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                        WHERE i.indrelid = to_regclass('exp.events') AND i.indisvalid AND i.indpred IS NULL
                          AND a.attname = 'created_at')"""
    return "created_at" if session.execute(text(query)).scalar_one() else "timestamp"


_EVERYTHING: Final = {
    "pass_key": "timestamp",
    "pass_low": None,
    "after_at": None,
    "after_id": NO_EXPERIMENT,
}


def _begin(session: Session, cursor: Row[Any], sweep: bool) -> Row[Any]:
    """Opens a pass: everything that is committed by now and has not been taken."""
    now = session.execute(
        text("""SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint) AS horizon,
                       CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint) AS next, now() AS at
                  FROM pg_current_snapshot() s""")
    ).one()
    common = {"pass_horizon": now.horizon, "pass_next": now.next, "pass_at": now.at}
    if cursor.horizon is None:
        return _set(session, **common, scan="all", **_EVERYTHING)
    if sweep:
        common["pass_horizon"] = cursor.horizon
        return _set(session, **common, scan="sweep", **_EVERYTHING)
    key = _key(session)
    low = cursor.horizon_at - _LAGS[key]
    return _set(session, **common, scan="recent", pass_key=key, pass_low=low, after_at=None, after_id=NO_EXPERIMENT)


def _end(session: Session, cursor: Row[Any]) -> None:
    """Closes a pass. All transactions from the new horizon on got their number after `horizon_at`."""
    if cursor.scan == "sweep":
        values = {"high": cursor.pass_horizon}
        session.execute(text("DELETE FROM promotion.measure_passes WHERE high_xid <= :high"), values)
        session.execute(text("DELETE FROM promotion.measure_ahead WHERE xid < :high"), values)
        _set(session, scan=None)
        return
    if cursor.scan == "recent" and cursor.pass_horizon > cursor.horizon:
        session.execute(
            text("""INSERT INTO promotion.measure_passes (low_xid, high_xid, key, low)
                    SELECT horizon, pass_horizon, pass_key, pass_low FROM promotion.measure_cursor""")
        )
    horizon, at = cursor.pass_horizon, cursor.horizon_at
    if cursor.pass_next <= horizon:
        at = cursor.pass_at
    elif at is None:
        at = cursor.pass_at - timedelta(days=1)
    elif cursor.seen_next <= horizon:
        at = cursor.seen_at
    _set(session, scan=None, horizon=horizon, horizon_at=at, seen_next=cursor.pass_next, seen_at=cursor.pass_at)


# --- Going on ----------------------------------------------------------------------------------------------------


def advance(session: Session, *, limit: int = 200_000, sweep: bool = False) -> Progress:
    """Takes at most about `limit` new events; two at once wait for each other.

    A pass sees what was committed when it began. With `sweep`, and no pass under way, it is one over the whole table
    for events that the usual passes cannot find; once a day is enough.
    """
    session.execute(text(_SETTINGS))
    cursor = _cursor(session)
    _intern(session)
    _measure_steps(session)
    if cursor.scan is None:
        cursor = _begin(session, cursor, sweep)
    taken, is_done = _stretch(session, cursor, limit)
    until = session.execute(text("SELECT seen_at FROM promotion.measure_cursor")).scalar_one()
    return Progress(taken, is_done, until)


# For this transaction only. A batch fits into this much memory; compiling its queries takes longer than they do.
_SETTINGS = """
SELECT set_config('work_mem', '64MB', true), set_config('hash_mem_multiplier', '8', true),
       set_config('jit', 'off', true)"""


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


def _stretch(session: Session, cursor: Row[Any], limit: int) -> tuple[int, bool]:
    """The next events of a pass, by time; how many there were, and whether that was the last of them."""
    key = f"e.{cursor.pass_key}"
    which = f"{key} >= :after_at AND ({key}, e.id) > (:after_at, :after_id)"
    values = {
        "after_at": cursor.after_at or cursor.pass_low or "-infinity",
        "after_id": cursor.after_id,
        "high": cursor.pass_horizon,
        "low_xid": cursor.horizon,
    }
    if cursor.scan == "all":
        is_new = _IS_BELOW_IN_ALL
    elif cursor.scan == "sweep":
        is_new = f"{_IS_BELOW} AND {_MISSED} AND {_NOT_AHEAD}"
    elif cursor.pass_next > cursor.pass_horizon:
        is_new = f"{_IS_FROM} AND {_NOT_AHEAD}"
    else:
        is_new = f"{_IS_FROM} AND {_IS_BELOW} AND {_NOT_AHEAD}"
    last = _last(session, cursor, key, which, is_new, values, limit)
    if last is not None:
        which += f" AND {key} <= :until_at AND ({key}, e.id) <= (:until_at, :until_id)"
        values |= {"until_at": last[0], "until_id": last[1]}
    if cursor.scan == "recent" and cursor.pass_next > cursor.pass_horizon:
        values["ahead"] = _ahead(session, which, values)
        is_new = f"{_IS_FROM} AND ({_IS_BELOW} AND {_NOT_AHEAD} OR e.id = ANY(CAST(:ahead AS uuid[])))"
    taken = _take(session, f"{which} AND {is_new}", values, cursor.frozen_before)
    if last is not None:
        _set(session, after_at=last[0], after_id=last[1])
    else:
        _end(session, cursor)
    return taken, last is None


_LAST_ID: Final = uuid.UUID(int=2**128 - 1)


def _last(
    session: Session, cursor: Row[Any], key: str, which: str, is_new: str, values: Mapping[str, Any], limit: int
) -> tuple[str, uuid.UUID] | None:
    """Time and id of the last event of a batch; None where the batch is the last one.

    Over the whole table the index alone says it, and events of one moment stay together.
    """
    if cursor.scan != "recent":
        which = "true" if cursor.after_at is None else f"{key} > :after_at"
        query = f"SELECT CAST({key} AS text) FROM exp.events e WHERE {which} ORDER BY {key} OFFSET :skip LIMIT 1"
        found = _run(session, query, {**values, "skip": limit - 1}).scalar_one_or_none()
        return None if found is None else (found, _LAST_ID)
    query = f"""
        SELECT CAST({key} AS text) AS at, e.id FROM exp.events e WHERE {which} AND {is_new}
         ORDER BY {key}, e.id OFFSET :skip LIMIT 1"""
    row = _run(session, query, {**values, "skip": limit - 1}).mappings().one_or_none()
    return None if row is None else (row["at"], row["id"])


def _ahead(session: Session, which: str, values: Mapping[str, Any]) -> list[uuid.UUID]:
    """Notes the events that can be seen beyond the horizon, before any is taken: what commits later is not lost."""
    query = f"""
        INSERT INTO promotion.measure_ahead (event_id, xid)
        SELECT e.id, :high + {_HIGH} - age(e.xmin) FROM exp.events e WHERE {which} AND {_IS_NEWER} AND {_NOT_AHEAD}
        RETURNING event_id"""
    return list(_run(session, query, values).scalars())


def rebuild(session: Session, experiment: uuid.UUID | None = None, *, limit: int = 200_000) -> int:
    """Makes samples and counts anew from the raw events, of one experiment or of all; returns how many were read.

    One transaction: until it commits, everybody reads the old numbers. Days of which raw events are gone keep theirs.
    Events that came after the last pass are left to the next one.
    """
    cursor = _cursor(session)
    _intern(session)
    if experiment is None:
        _forget(session, None, floor := _floor(session, cursor))
        _set(session, horizon=None, horizon_at=None, scan=None, frozen_before=floor)
        session.execute(text("DELETE FROM promotion.measure_ahead"))
        session.execute(text("DELETE FROM promotion.measure_passes"))
        return _all_of(session, limit)
    while cursor.scan is not None or cursor.horizon is None:
        advance(session, limit=limit)
        cursor = _cursor(session)
    while not advance(session, limit=limit, sweep=True).is_done:
        pass
    return _again(session, experiment)


def _all_of(session: Session, limit: int) -> int:
    session.execute(text("UPDATE promotion.allocation_steps SET is_measured = true WHERE NOT is_measured"))
    _begin(session, _cursor(session), sweep=False)
    taken, is_done = 0, False
    while not is_done:
        found, is_done = _stretch(session, _cursor(session), limit)
        taken += found
    return taken


def _again(session: Session, experiment: uuid.UUID) -> int:
    """One experiment anew, from exactly the events that have been taken so far."""
    query = "SELECT id FROM promotion.measure_experiments WHERE experiment_id = :id"
    number = session.execute(text(query), {"id": experiment}).scalar_one()
    cursor = _cursor(session)
    floor = _floor(session, cursor)
    _forget(session, number, floor)
    which = f"({_IS_BELOW} OR e.id IN (SELECT event_id FROM promotion.measure_ahead))"
    return _take(session, which, {"high": cursor.horizon}, floor, only=number)


def _floor(session: Session, cursor: Row[Any]) -> date | None:
    """The first day that can be made anew: from there on neither raw events nor states were given up."""
    query = """
        SELECT CASE WHEN min(d.day) < r.day THEN r.day + 1 END
          FROM promotion.samples_daily d,
               (SELECT CAST(min(timestamp) AT TIME ZONE 'UTC' AS date) AS day FROM exp.events
                 WHERE timestamp > '-infinity') r
         GROUP BY r.day"""
    without_raw = session.execute(text(query)).scalar_one_or_none()
    return max((day for day in (cursor.frozen_before, without_raw) if day), default=None)


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
        *([] if floor else [f"DELETE FROM promotion.measure_units WHERE {in_arms}"]),
    ):
        _run(session, query, values)
    if floor is not None:
        _restore_totals(session)


def _restore_totals(session: Session) -> None:
    """The totals of steps that have days and no total."""
    kept: dict[Day, Sample] = {
        (r.arm, r.step, r.day): Sample.from_bytes(r.content)
        for r in session.execute(
            text("""SELECT d.* FROM promotion.samples_daily d WHERE NOT EXISTS (
                        SELECT FROM promotion.samples s WHERE s.arm = d.arm AND s.step = d.step)""")
        )
    }
    query = """
        SELECT u.arm, u.step, count(*) AS units FROM promotion.measure_units u WHERE NOT EXISTS (
               SELECT FROM promotion.samples s WHERE s.arm = u.arm AND s.step = u.step) GROUP BY u.arm, u.step"""
    units = {(r.arm, r.step): r.units for r in session.execute(text(query))}
    _store_totals(session, kept, units)


def purge(session: Session, *, keep_days: int = KEEP_DAYS) -> int:
    """Gives up the state of plans older than the platform keeps raw events; what happened to them by then stays.

    An event that speaks of that time and comes later still is counted as expired.
    """
    cursor = _cursor(session)
    query = "SELECT CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS integer)"
    before = max(session.execute(text(query), {"days": keep_days}).scalar_one(), cursor.frozen_before or date.min)
    _set(session, frozen_before=before)
    gone = session.execute(
        text("""WITH gone AS (DELETE FROM promotion.plans
                               WHERE at < CAST(:before AS timestamp) AT TIME ZONE 'UTC' RETURNING 1)
                SELECT count(*) FROM gone"""),
        {"before": before},
    )
    found: int = gone.scalar_one()
    return found


# --- Allocation steps --------------------------------------------------------------------------------------------


def _measure_steps(session: Session) -> None:
    """Moves plans into steps that were not known when they came: a step begins before its transaction commits."""
    query = """
        UPDATE promotion.allocation_steps s SET is_measured = true FROM promotion.measure_experiments m
         WHERE NOT s.is_measured AND m.experiment_id = s.experiment_id RETURNING m.id AS experiment, s.started_at"""
    since: dict[int, datetime] = {}
    for row in session.execute(text(query)):
        since[row.experiment] = min(row.started_at, since.get(row.experiment, row.started_at))
    if not since:
        return
    session.execute(
        text("""CREATE TEMP TABLE fresh ON COMMIT DROP AS
                SELECT p.experiment, p.plan, CAST(NULL AS bigint) AS at, p.tie, CAST(NULL AS integer) AS arm, p.unit,
                       p.bin, p.cost_nano, p.tokens, 0 AS events, false AS accepted, false AS intervened,
                       0 AS edit_count, CAST(NULL AS bigint[]) AS edit_keys, CAST(NULL AS bigint) AS first_at
                  FROM promotion.plans p
                  JOIN unnest(CAST(:experiments AS integer[]), CAST(:since AS timestamptz[])) k (experiment, since)
                    ON k.experiment = p.experiment AND p.at >= k.since
                 WHERE p.arm IS NOT NULL AND p.at >= :first"""),
        {"experiments": list(since), "since": list(since.values()), "first": min(since.values())},
    )
    _apply(session)
    session.execute(text("DROP TABLE merged, fresh"))


_SHARES = """
WITH present AS (
    SELECT v.experiment_id, sum(v.allocation) AS total,
           jsonb_object_agg(v.id, v.allocation) FILTER (WHERE v.allocation > 0) AS shares,
           jsonb_object_agg(v.id, CAST(v.allocation AS text)) FILTER (WHERE v.allocation > 0) AS written
      FROM exp.variants v JOIN exp.experiments e ON e.id = v.experiment_id
     WHERE e.status IN ('active', 'paused') GROUP BY v.experiment_id
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


def notice_steps(session: Session) -> list[int]:
    """Opens a step wherever the shares of a running experiment are not those of its newest one; returns their ids.

    Others changed them; when, nobody recorded, so the step begins now. The past of an experiment without any step is
    reconstructed from who was assigned when, so the first pass should be through. Shares that do not add up to 1 are
    somebody's work in progress and wait.
    """
    found = session.execute(text(_SHARES)).all()
    if not found:
        return []
    _cursor(session)
    ids = [row.experiment_id for row in found]
    session.execute(
        text("SELECT FROM exp.experiments WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"), {"ids": ids}
    )
    opened: list[int] = []
    for row in session.execute(text(_SHARES)).all():
        if row.experiment_id not in ids:
            continue
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
