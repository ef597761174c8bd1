"""How long the roll-up of raw events takes, against one bare GROUP BY over the same events in the same run, and a look.

    python -m tests.benchmarks.measure [--events 5000000] [--limit 200000]

The GROUP BY reads the same fields of the same rows (EXPLAIN ANALYZE without timing, so nothing is sent or stored) with
the same settings. It runs once before the roll-up and twice after it; the ratio is to the median of the three. Both
want every core, so the load of the machine is printed with them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, measure, rollup, steps
from core.db import Engine
from tests.benchmarks.timing import median_ms

EXPERIMENTS, VARIANTS, UNITS, DAYS = 3, ("control", "candidate"), 100_000, 20
EVENTS_A_PLAN = 3.25
NEW_EVENTS = 5_000

EVENTS = """
INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, context, metrics, payload, timestamp, created_at)
SELECT kind, 'user', unit,
       jsonb_build_array(jsonb_build_object('experiment_id', e, 'variant_id', v)),
       jsonb_build_object('policy_version_id', e, 'app_version', '5.3.1'),
       CASE kind WHEN 'plan_generated' THEN jsonb_build_object('latency_ms', round(CAST(latency AS numeric), 1),
            'token_count', 1200 + g % 100, 'cost', 0.012 + (g % 7) * 0.0001) ELSE '{}' END,
       jsonb_build_object('plan_id', plan), at + wait * interval '1 second', at + wait * interval '1 second'
  FROM (
    SELECT p.*, k.kind, k.wait FROM (
        SELECT g, 'user-' || u AS unit, md5('e' || (1 + u % :experiments))::uuid AS e,
               md5('v' || (1 + u % :experiments) || CASE WHEN u % 4 = 0 THEN 'candidate' ELSE 'control' END)::uuid AS v,
               gen_random_uuid() AS plan,
               now() - make_interval(days => :days) + g * (make_interval(days => :days) / CAST(:plans AS float8)) AS at,
               exp(6 + 0.4 * sqrt(-2 * ln(1 - random())) * cos(6.28318 * random())) AS latency
          FROM (SELECT g, floor(random() * :units)::int AS u
                  FROM generate_series(CAST(:first AS int), :last) g) AS drawn
        ) AS p, LATERAL (
        SELECT 'plan_generated' AS kind, 0 AS wait
        UNION ALL SELECT 'plan_accepted', 120 WHERE random() < 0.7 + 0 * g
        UNION ALL SELECT 'plan_rejected', 120 WHERE random() < 0.2 + 0 * g
        UNION ALL SELECT 'edit_applied', 30 + i FROM generate_series(1, CAST(random() * 2.6 + 0 * g AS int)) i
        UNION ALL SELECT 'validator_intervention', 5 WHERE random() < 0.05 + 0 * g) AS k
  ) AS made ORDER BY at + wait * interval '1 second'
"""
ASSIGNMENTS = """
INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id, assigned_at)
SELECT md5('e' || (1 + u % :experiments))::uuid, 'user', 'user-' || u,
       md5('v' || (1 + u % :experiments) || CASE WHEN u % 4 = 0 THEN 'candidate' ELSE 'control' END)::uuid, now()
  FROM generate_series(0, :units - 1) u
"""
BARE = """
SELECT experiment_id, variant_id, plan_id,
       min(timestamp) FILTER (WHERE event_type = 'plan_generated'), min(unit_id),
       count(*) FILTER (WHERE event_type = 'plan_accepted'),
       count(*) FILTER (WHERE event_type = 'edit_applied'),
       count(*) FILTER (WHERE event_type = 'validator_intervention'),
       max(edit_count), max(latency_ms), max(cost), max(token_count)
  FROM (
    SELECT event_type, timestamp, unit_id, payload ->> 'plan_id' AS plan_id, x ->> 'experiment_id' AS experiment_id,
           x ->> 'variant_id' AS variant_id, CAST(metrics ->> 'edit_count' AS float8) AS edit_count,
           CAST(metrics ->> 'latency_ms' AS float8) AS latency_ms, CAST(metrics ->> 'cost' AS float8) AS cost,
           CAST(metrics ->> 'token_count' AS float8) AS token_count
      FROM exp.events CROSS JOIN LATERAL jsonb_array_elements(experiments) x
     WHERE event_type IN ('plan_generated', 'plan_accepted', 'edit_applied', 'validator_intervention')
  ) AS read GROUP BY experiment_id, variant_id, plan_id
"""


def _fill(engine: Engine, plans: int) -> int:
    with engine.begin() as connection:
        for n in range(1, EXPERIMENTS + 1):
            connection.execute(
                text("INSERT INTO exp.experiments (id, name, status) VALUES (md5('e' || :n)::uuid, :n, 'draft')"),
                {"n": str(n)},
            )
            for name in VARIANTS:
                connection.execute(
                    text("""INSERT INTO exp.variants (id, experiment_id, name, allocation)
                            VALUES (md5('v' || :n || :name)::uuid, md5('e' || :n)::uuid, :name, 0.5)"""),
                    {"n": str(n), "name": name},
                )
    for done in range(0, plans, 100_000):
        _happen(engine, done, min(done + 100_000, plans), plans)
    with engine.begin() as connection:
        connection.execute(text(ASSIGNMENTS), {"experiments": EXPERIMENTS, "units": UNITS})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE exp.events"))
        return int(connection.execute(text("SELECT count(*) FROM exp.events")).scalar_one())


def _happen(engine: Engine, done: int, until: int, plans: int) -> None:
    """The events of the plans after number `done`, up to number `until`, where `plans` fill the days until now."""
    values = {"experiments": EXPERIMENTS, "units": UNITS, "days": DAYS, "plans": plans}
    with engine.begin() as connection:
        connection.execute(text(EVENTS), {**values, "first": done + 1, "last": until})


def _bare(engine: Engine) -> float:
    with engine.begin() as connection:
        began = time.perf_counter()
        connection.execute(text(f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {BARE}")).all()
        return time.perf_counter() - began


def _roll_up(engine: Engine, limit: int) -> tuple[float, int]:
    began = time.perf_counter()
    taken = rollup.catch_up(partial(db.transaction, engine, patience_ms=600_000), limit=limit)
    return time.perf_counter() - began, taken


def _whole_look(session: Session, experiment: uuid.UUID) -> None:
    measure.freshness(session, experiment)
    measure.assigned_units(session, {experiment: measure.samples(session, experiment)})


LOOKS: dict[str, Callable[[Session, uuid.UUID], object]] = {
    "samples": measure.samples,
    "every day": measure.daily,
    "freshness": measure.freshness,
    "a whole look": _whole_look,
}


def main(events: int, limit: int) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as folder, db.embedded(Path(folder)) as url:
        engine = db.connect(url)
        db.migrate(engine)
        plans = round(events / EVENTS_A_PLAN)
        print(f"{_fill(engine, plans):,} raw events")
        _bare(engine)  # once unmeasured: the first reader pays for the cache
        before = _bare(engine)
        took, taken = _roll_up(engine, limit)
        bares = (before, _bare(engine), _bare(engine))
        bare = statistics.median(bares)
        print(f"bare GROUP BY {bare:6.1f} s   roll-up {took:6.1f} s of {taken:,} events   ratio {took / bare:.2f}")
        runs = ", ".join(f"{seconds:.1f}" for seconds in bares)
        print(f"bare runs {runs} s   {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        again, _ = _roll_up(engine, limit)
        print(f"roll-up when nothing is new {again * 1000:6.1f} ms")
        _happen(engine, plans, plans + round(NEW_EVENTS / EVENTS_A_PLAN), plans)
        again, taken = _roll_up(engine, limit)
        print(f"roll-up of {taken:,} new events {again * 1000:6.1f} ms")
        steps.count_assigned(partial(db.transaction, engine, patience_ms=db.BACKGROUND_MS))
        with db.transaction(engine) as session:
            experiment: uuid.UUID = session.execute(text("SELECT md5('e1')::uuid")).scalar_one()
            for what, work in LOOKS.items():
                print(f"{what:12} {median_ms(partial(work, session, experiment)):6.1f} ms")
        engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--limit", type=int, default=200_000)
    given = parser.parse_args()
    main(given.events, given.limit)
