"""The state of each plan, and what is counted of it: units, quarters of an hour, flaws, changes of samples.

The state is a minimum, maximum, "or" or set of what the plan's events said, so neither the order of events nor of
batches matters and a repeated event changes nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import sample_store
from core.events import FLAWS, Reading

NO_EXPERIMENT: Final = uuid.UUID(int=0)
"""Stands in `measure_counts` for events that name no experiment."""

# What each plan's new events say together. Nearly every plan is generated once, so the columns of its one birth are
# simply maxima; the few others are put right afterwards. Half the time of ordering all births.
_BIRTH: Final = ("tie", "arm", "unit", "bin", "cost_nano", "tokens")
_FRESH: Final = f"""
CREATE TEMP TABLE fresh ON COMMIT DROP AS
SELECT experiment, plan, min(at) FILTER (WHERE is_born) AS at,
       {", ".join(f"max({name}) AS {name}" for name in _BIRTH)},
       count(tie) AS births, CAST(count(is_counted) AS integer) AS events,
       bool_or(accepted) AS accepted, bool_or(intervened) AS intervened, coalesce(max(edit_count), 0) AS edit_count,
       array_agg(edit) FILTER (WHERE edit IS NOT NULL) AS edit_keys, min(at) AS first_at, CAST(NULL AS jsonb) AS extra,
       count(*) AS read, array_agg(flaws) FILTER (WHERE flaws <> 0) AS flaws,
       array_agg(day) FILTER (WHERE flaws <> 0) AS days {{extras}}
  FROM ({{reading}}) AS read GROUP BY experiment, plan ORDER BY plan, experiment
"""
_COLLECTED: Final = ", array_agg(extra) FILTER (WHERE extra IS NOT NULL) AS extras"
_HOW_MANY: Final = """
SELECT coalesce(CAST(sum(read) AS bigint), 0) AS read,
       coalesce(CAST(sum(births) FILTER (WHERE births > 1 AND plan IS NOT NULL) AS bigint), 0) AS repeated
  FROM fresh
"""
_BIRTHS: Final = """
CREATE TEMP TABLE births ON COMMIT DROP AS
SELECT r.* FROM ({reading}) AS r JOIN fresh n ON n.experiment = r.experiment AND n.plan = r.plan
 WHERE n.births > 1 AND r.is_born
"""
_FIRST_BIRTHS: Final = f"""
UPDATE fresh f SET ({", ".join(_BIRTH)}) = ({", ".join(f"b.{name}" for name in _BIRTH)})
  FROM (SELECT DISTINCT ON (experiment, plan) * FROM births ORDER BY experiment, plan, at, tie, arm) b
 WHERE f.experiment = b.experiment AND f.plan = b.plan
"""
# What is the same for all events of a plan is `true`; of arrays the smallest wins.
_EXTRAS: Final = """
UPDATE fresh f SET extra = (
       SELECT jsonb_object_agg(key, value)
         FROM (SELECT DISTINCT ON (x.key) x.key, x.value
                 FROM unnest(f.extras) e (extra) CROSS JOIN LATERAL jsonb_each(e.extra) x
                ORDER BY x.key, x.value) AS firsts)
 WHERE f.extras IS NOT NULL AND f.plan IS NOT NULL
"""

_STEPS: Final = """
SELECT m.id AS experiment, s.id AS step, s.started_at AS since,
       lead(s.started_at, 1, 'infinity') OVER (PARTITION BY m.id ORDER BY s.started_at, s.id) AS until
  FROM promotion.allocation_steps s JOIN promotion.measure_experiments m ON m.experiment_id = s.experiment_id
"""


def _repeats(p: str) -> str:
    return (
        f"{p}.events - 1 - CAST({p}.accepted AS integer) - CAST({p}.intervened AS integer)"
        f" - coalesce(cardinality({p}.edit_keys), 0)"
    )


# Whether this is the first birth of a plan: nearly always the only one that there is.
_IS_FIRST: Final = "f.arm IS NOT NULL AND (p.arm IS NULL OR (f.at, f.tie) < (p.at, p.tie))"
# What is the same before and after is compared column by column: for most plans there is no before.
_MERGED: Final = f"""
CREATE TEMP TABLE merged ON COMMIT DROP AS
SELECT n.*, CASE WHEN n.arm IS NOT NULL THEN coalesce(s.step, 0) END AS step,
       greatest(coalesce(cardinality(n.edit_keys), 0), n.edit_count) AS edits, {_repeats("n")} AS repeats
  FROM (
    SELECT f.experiment, f.plan, p.plan IS NOT NULL AS is_known, p.arm AS arm_0, p.step AS step_0, p.at AS at_0,
           p.unit AS unit_0, p.bin AS bin_0, p.cost_nano AS cost_nano_0, p.tokens AS tokens_0,
           p.accepted AS accepted_0, p.intervened AS intervened_0, p.extra AS extra_0,
           greatest(coalesce(cardinality(p.edit_keys), 0), p.edit_count) AS edits_0, {_repeats("p")} AS repeats_0,
           CASE WHEN {_IS_FIRST} THEN f.at WHEN p.arm IS NOT NULL THEN p.at ELSE least(p.at, f.first_at) END AS at,
           {", ".join(f"CASE WHEN {_IS_FIRST} THEN f.{name} ELSE p.{name} END AS {name}" for name in _BIRTH)},
           coalesce(p.accepted, false) OR f.accepted AS accepted,
           coalesce(p.intervened, false) OR f.intervened AS intervened,
           greatest(p.edit_count, f.edit_count) AS edit_count,
           coalesce(p.events, 0) + f.events AS events,
           CASE WHEN f.edit_keys IS NULL THEN p.edit_keys
                WHEN p.edit_keys IS NULL AND (cardinality(f.edit_keys) = 1
                     OR cardinality(f.edit_keys) = 2 AND f.edit_keys[1] <> f.edit_keys[2]) THEN f.edit_keys
                ELSE (SELECT array_agg(DISTINCT key) FROM unnest(p.edit_keys || f.edit_keys) key) END AS edit_keys,
           CASE WHEN f.extra IS NULL THEN p.extra WHEN p.extra IS NULL THEN f.extra
                ELSE p.extra || f.extra || (
                     SELECT coalesce(jsonb_object_agg(o.key, o.value), '{{}}') FROM jsonb_each(p.extra) o
                      WHERE jsonb_typeof(o.value) = 'array' AND o.value < f.extra -> o.key) END AS extra
      FROM fresh f LEFT JOIN LATERAL (
           SELECT * FROM promotion.plans p WHERE p.plan = f.plan AND p.experiment = f.experiment OFFSET 0) p ON true
     WHERE f.plan IS NOT NULL
    OFFSET 0
  ) n LEFT JOIN ({_STEPS}) s ON s.experiment = n.experiment AND n.at >= s.since AND n.at < s.until
"""

_COLUMNS: Final = (
    *("at", "tie", "arm", "unit", "bin", "cost_nano", "tokens", "accepted", "intervened"),
    *("edit_count", "events", "edit_keys", "step", "extra"),
)
_INSERT: Final = f"""
INSERT INTO promotion.plans (plan, experiment, {", ".join(_COLUMNS)})
SELECT plan, experiment, {", ".join(_COLUMNS)} FROM merged
"""
# An update with a join would read the whole table where statistics are old.
_UPDATE: Final = f"""
{_INSERT} WHERE is_known ON CONFLICT (plan, experiment)
DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""

_SLOTS: Final = """
INSERT INTO promotion.measure_slots (experiment, slot, plans)
SELECT experiment, date_bin('15 minutes', at, '2000-01-01Z'), sum(plans)
  FROM (SELECT experiment, at, 1 AS plans FROM merged WHERE arm IS NOT NULL AND (arm_0 IS NULL OR at <> at_0)
        UNION ALL
        SELECT experiment, at_0, -1 FROM merged WHERE arm_0 IS NOT NULL AND at <> at_0) AS moved
 GROUP BY 1, 2 HAVING sum(plans) <> 0
ON CONFLICT (experiment, slot) DO UPDATE SET plans = measure_slots.plans + excluded.plans
"""
_COUNTS: Final = """
INSERT INTO promotion.measure_counts (experiment_id, kind, day, events)
SELECT coalesce(m.experiment_id, CAST(:nobody AS uuid)), c.kind, c.day, sum(c.events)
  FROM (
    SELECT r.experiment, k.kind, r.day, r.events
      FROM (SELECT f.experiment, k.flaws, k.day, count(*) AS events
              FROM fresh f CROSS JOIN LATERAL unnest(f.flaws, f.days) k (flaws, day)
             WHERE f.flaws IS NOT NULL GROUP BY 1, 2, 3) r
      JOIN unnest(CAST(:kinds AS text[])) WITH ORDINALITY k (kind, n) ON r.flaws & (1 << CAST(k.n - 1 AS integer)) <> 0
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

# The first plan of each unit in an experiment is the first of all that were generated for it, also of those whose id
# another came before with: a minimum never has to be taken back.
_NEWCOMERS: Final = f"""
WITH first AS (
    SELECT DISTINCT ON (f.unit, f.experiment) f.*, u.arm AS arm_0, u.step AS step_0
      FROM (SELECT experiment, unit, at, tie, arm FROM fresh WHERE births = 1 AND plan IS NOT NULL {{repeated}}) AS f
      LEFT JOIN LATERAL (
           SELECT * FROM promotion.measure_units u WHERE u.experiment = f.experiment AND u.unit = f.unit OFFSET 0
           ) u ON true
     WHERE u.unit IS NULL OR (f.at, f.tie) < (u.at, u.tie)
     ORDER BY f.unit, f.experiment, f.at, f.tie, f.arm
), placed AS (
    SELECT f.experiment, f.unit, f.at, f.tie, f.arm, coalesce(s.step, 0) AS step, f.arm_0, f.step_0
      FROM first f LEFT JOIN ({_STEPS}) s ON s.experiment = f.experiment AND f.at >= s.since AND f.at < s.until
), added AS (
    INSERT INTO promotion.measure_units (experiment, unit, at, tie, arm, step)
    SELECT experiment, unit, at, tie, arm, step FROM placed WHERE arm_0 IS NULL
), put AS (
    INSERT INTO promotion.measure_units (experiment, unit, at, tie, arm, step)
    SELECT experiment, unit, at, tie, arm, step FROM placed WHERE arm_0 IS NOT NULL
    ON CONFLICT (unit, experiment)
    DO UPDATE SET at = excluded.at, tie = excluded.tie, arm = excluded.arm, step = excluded.step
)"""
_REPEATED: Final = "UNION ALL SELECT experiment, unit, at, tie, arm FROM births"
_MOVED_UNITS: Final = f"""
WITH placed AS (
    SELECT u.experiment, u.unit, u.arm, coalesce(s.step, 0) AS step, u.arm AS arm_0, u.step AS step_0
      FROM promotion.measure_units u
      JOIN unnest(CAST(:experiments AS integer[]), CAST(:since AS timestamptz[])) k (experiment, since)
        ON k.experiment = u.experiment AND u.at >= k.since
      LEFT JOIN ({_STEPS}) s ON s.experiment = u.experiment AND u.at >= s.since AND u.at < s.until
     WHERE u.step <> coalesce(s.step, 0)
), put AS (
    UPDATE promotion.measure_units u SET step = p.step
      FROM placed p WHERE u.experiment = p.experiment AND u.unit = p.unit
)"""
_BY_HOW_MANY: Final = """
SELECT arm, step, CAST(sum(units) AS bigint) AS units
  FROM (SELECT arm, step, 1 AS units FROM placed
        UNION ALL SELECT arm_0, step_0, -1 FROM placed WHERE arm_0 IS NOT NULL) AS changed
 GROUP BY arm, step HAVING sum(units) <> 0
"""


def read(session: Session, reading: Reading, *, has_extras: bool) -> None:
    """Reads the events that a query chooses into the temporary table `fresh`; changes nothing."""
    query = _FRESH.replace("{extras}", _COLLECTED if has_extras else "").replace("{reading}", reading.query)
    session.execute(text(query), reading.values)


def take(session: Session, reading: Reading, *, has_extras: bool) -> int:
    """Applies what was read; returns how many rows that were."""
    found = session.execute(text(_HOW_MANY)).one()
    if found.read:
        if found.repeated:
            _put_births_right(session, reading, found.repeated)
        if has_extras:
            session.execute(text(_EXTRAS))
        newcomers = _NEWCOMERS.replace("{repeated}", _REPEATED if found.repeated else "")
        _apply(session, _units(session, newcomers))
        session.execute(text(_COUNTS), {"nobody": NO_EXPERIMENT, "kinds": list(FLAWS)})
        session.execute(text("DROP TABLE merged"))
    session.execute(text("DROP TABLE IF EXISTS births"))
    session.execute(text("DROP TABLE fresh"))
    return int(found.read)


def _put_births_right(session: Session, reading: Reading, births: int) -> None:
    """Reads the births of plans that were generated more than once anew, into the temporary table `births`."""
    session.execute(text(_BIRTHS.replace("{reading}", reading.query)), reading.values)
    if session.execute(text("SELECT count(*) FROM births")).scalar_one() != births:
        raise RuntimeError("raw events were changed or deleted while they were read: nothing was kept, roll up again")
    session.execute(text(_FIRST_BIRTHS))


def _units(session: Session, placed: str, values: dict[str, object] | None = None) -> dict[tuple[int, int], int]:
    """Keeps the first plan of each unit; returns by how many newcomers each arm and step changed."""
    found: Counter[tuple[int, int]] = Counter()
    for row in session.execute(text(placed + _BY_HOW_MANY), values or {}):
        found[row.arm, row.step] += row.units
    return found


def _apply(session: Session, units: dict[tuple[int, int], int]) -> None:
    """Brings plans and samples in line with the temporary table `fresh`; leaves what changed in `merged`."""
    session.execute(text(_MERGED))
    session.execute(text(f"{_INSERT} WHERE NOT is_known"))
    session.execute(text(_UPDATE))
    session.execute(text(_SLOTS))
    sample_store.add(session, sample_store.changes(session), units)


def move_into_steps(session: Session) -> None:
    """Moves plans into steps that were not known when they came: a step begins before its transaction commits."""
    query = """
        UPDATE promotion.allocation_steps s SET is_measured = true FROM promotion.measure_experiments m
         WHERE NOT s.is_measured AND m.experiment_id = s.experiment_id RETURNING m.id AS experiment, s.started_at"""
    since: dict[int, datetime] = {}
    for row in session.execute(text(query)):
        since[row.experiment] = min(row.started_at, since.get(row.experiment, row.started_at))
    if not since:
        return
    changed: dict[str, object] = {"experiments": list(since), "since": list(since.values())}
    session.execute(
        text("""CREATE TEMP TABLE fresh ON COMMIT DROP AS
                SELECT p.experiment, p.plan, CAST(NULL AS timestamptz) AS at, p.tie, CAST(NULL AS integer) AS arm,
                       p.unit, p.bin, p.cost_nano, p.tokens, 0 AS events, false AS accepted, false AS intervened,
                       0 AS edit_count, CAST(NULL AS bigint[]) AS edit_keys, CAST(NULL AS timestamptz) AS first_at,
                       CAST(NULL AS jsonb) AS extra
                  FROM promotion.plans p
                  JOIN unnest(CAST(:experiments AS integer[]), CAST(:since AS timestamptz[])) k (experiment, since)
                    ON k.experiment = p.experiment AND p.at >= k.since
                 WHERE p.arm IS NOT NULL AND p.at >= :first"""),
        {**changed, "first": min(since.values())},
    )
    _apply(session, _units(session, _MOVED_UNITS, changed))
    session.execute(text("DROP TABLE merged, fresh"))
