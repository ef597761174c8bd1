"""How long verdicts take: of one experiment, against gbstats on the same sums, and the daily ones of thousands.

    python -m tests.benchmarks.verdicts [--experiments 1000] [--processes 2] [--at-once 25] [--rules-only]

Each experiment has a candidate at 50 % in its third step, ten days of 2,000 plans a day behind it. The daily verdict is
the whole of what the bot does each day for one: read samples, days, freshness and units, decide, keep the evidence.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.rules.decision import Terms
from core.rules.estimates import Step, compare
from core.rules.samples import Sample
from core.rules.sequential import Memory
from core.rules.verdict import Look, decide
from tests.benchmarks.decisions_rivals import PresentStep, six_tests
from tests.benchmarks.simulate import SAME, Arms, Setting, World
from tests.benchmarks.timing import median_ms

SHARES, DAYS = (0.10, 0.25, 0.50), (3, 5, 2)


def _world() -> tuple[list[Step], list[Step], PresentStep]:
    """The steps of one rollout, the parts of its last nine days, and all plans of the present step."""
    world, steps, days, present = World(Setting(), SAME, 11), [], [], PresentStep()
    for share, lasts in zip(SHARES, DAYS, strict=True):
        whole, present = Arms(), PresentStep()
        for _ in range(lasts):
            plans, part = world.plans(len(days), share), Arms()
            for arms in (whole, part):
                arms.add(plans, world.bucket)
            present.days.append(plans)
            days.append(part.step())
        steps.append(whole.step())
    return steps, days[-9:], present


def rules(steps: list[Step], present: PresentStep) -> None:
    """One verdict without the database, and six metrics of one step by both engines."""
    stored = [(step.baseline.to_bytes(), step.candidate.to_bytes()) for step in steps]

    def decoded() -> tuple[Step, ...]:
        return tuple(Step(*(Sample.from_bytes(arm) for arm in pair)) for pair in stored)

    def verdict() -> None:
        look = Look(decoded(), Decimal("0.50"), 10.0, 2.0, datetime(2026, 1, 5, tzinfo=UTC))
        decide(look, Memory(), Terms())

    print(f"decode {median_ms(decoded):.2f} ms, decode and decide over three steps {median_ms(verdict):.2f} ms")
    tests = six_tests(present)
    if tests is None:
        print("gbstats: not installed")
        return
    mine = [stored[-1]]
    ours = median_ms(lambda: compare([Step(*(Sample.from_bytes(arm) for arm in pair)) for pair in mine]))
    theirs = median_ms(tests)
    print(f"six metrics of one step: ours {ours:.2f} ms with decoding, gbstats {theirs:.2f} ms")


FILL = (
    """INSERT INTO exp.experiments (id, name, status, start_at)
       SELECT md5('e' || n)::uuid, 'e' || n, 'active', now() - interval '10 days' FROM generate_series(1, :n) n""",
    """INSERT INTO exp.variants (id, experiment_id, name, allocation)
       SELECT md5(a || n)::uuid, md5('e' || n)::uuid, a, 0.5
         FROM generate_series(1, :n) n, unnest(ARRAY['control', 'candidate']) a""",
    """INSERT INTO promotion.allocation_steps (experiment_id, shares, started_at)
       SELECT md5('e' || n)::uuid, jsonb_build_object(md5('control' || n)::uuid, (1 - s)::text,
              md5('candidate' || n)::uuid, s::text), now() - make_interval(days => d)
         FROM generate_series(1, :n) n, (VALUES (0.1, 10), (0.25, 7), (0.5, 2)) k (s, d) ORDER BY n, d DESC""",
    """INSERT INTO promotion.measure_experiments (experiment_id) SELECT id FROM exp.experiments""",
    """INSERT INTO promotion.measure_arms (experiment, variant_id)
       SELECT m.id, v.id FROM exp.variants v JOIN promotion.measure_experiments m USING (experiment_id)""",
    """INSERT INTO promotion.measure_slots (experiment, slot, plans)
       SELECT id, date_bin('15 minutes', now(), '2000-01-01Z') - interval '15 minutes' * g, 21
         FROM promotion.measure_experiments, generate_series(0, 5) g""",
    "UPDATE promotion.measure_cursor SET seen_at = now()",
)
SAMPLES = """
INSERT INTO promotion.samples (arm, step, units, content)
SELECT a.id, s.id, 700, CASE v.name WHEN 'control' THEN CAST(:control AS bytea) ELSE :candidate END
  FROM (SELECT *, row_number() OVER (PARTITION BY experiment_id ORDER BY started_at) AS k
          FROM promotion.allocation_steps) s
  JOIN exp.variants v ON v.experiment_id = s.experiment_id JOIN promotion.measure_arms a ON a.variant_id = v.id
 WHERE s.k = :k
"""
DAILY = """
INSERT INTO promotion.samples_daily (arm, step, day, content)
SELECT s.arm, s.step, CURRENT_DATE - CAST(:ago AS int),
       CASE v.name WHEN 'control' THEN CAST(:control AS bytea) ELSE :candidate END
  FROM promotion.samples s JOIN promotion.measure_arms a ON a.id = s.arm JOIN exp.variants v ON v.id = a.variant_id
  JOIN (SELECT id, row_number() OVER (PARTITION BY experiment_id ORDER BY started_at) AS k
          FROM promotion.allocation_steps) k ON k.id = s.step
 WHERE k.k = CASE WHEN :ago < 2 THEN 3 WHEN :ago < 7 THEN 2 ELSE 1 END
"""


def _fill(url: str, experiments: int, steps: list[Step], days: list[Step]) -> None:
    from sqlalchemy import text

    from core import db

    engine = db.connect(url)
    db.migrate(engine)

    def arms(step: Step) -> dict[str, Any]:
        return {"control": step.baseline.to_bytes(), "candidate": step.candidate.to_bytes()}

    with engine.begin() as connection:
        for query in FILL:
            connection.execute(text(query), {"n": experiments} if ":n" in query else {})
        for k, step in enumerate(steps, 1):
            connection.execute(text(SAMPLES), arms(step) | {"k": k})
        for ago, day in enumerate(reversed(days)):
            connection.execute(text(DAILY), arms(day) | {"ago": ago})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def _share(url: str, part: int, of: int, at_once: int) -> tuple[int, float]:
    """The daily verdicts of every `of`-th experiment, so many in one transaction."""
    from core import db, digests, recommendations

    engine, terms = db.connect(url), Terms()
    with db.transaction(engine) as session:
        mine = [experiment for experiment, _ in digests.watched(session)[part::of]]
    began, made = time.perf_counter(), 0
    for start in range(0, len(mine), at_once):
        with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
            found = recommendations.recommend(session, mine[start : start + at_once], terms)
            made += sum(len(candidates) for candidates in found.values())
    engine.dispose()
    return made, time.perf_counter() - began


def daily(experiments: int, processes: int, at_once: int, steps: list[Step], days: list[Step]) -> None:
    """The daily verdicts of that many experiments, shared by as many processes."""
    from concurrent.futures import ProcessPoolExecutor

    from core import db

    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as folder, db.embedded(Path(folder)) as url:
        _fill(url, experiments, steps, days)
        with ProcessPoolExecutor(processes) as pool:
            began = time.perf_counter()
            parts = ((url, part, processes, at_once) for part in range(processes))
            found = list(pool.map(_share, *zip(*parts, strict=True)))
            took = time.perf_counter() - began
        made = sum(count for count, _ in found)
        print(
            f"{made:,} daily verdicts in {took:.1f} s by {processes} processes: 10,000 in {took / made * 10_000:.0f} s"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=25, help="experiments in one transaction")
    parser.add_argument("--rules-only", action="store_true", help="without a database")
    chosen = parser.parse_args()
    steps, days, present = _world()
    rules(steps, present)
    if not chosen.rules_only:
        daily(chosen.experiments, chosen.processes, chosen.at_once, steps, days)


if __name__ == "__main__":
    main()
