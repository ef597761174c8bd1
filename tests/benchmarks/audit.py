"""How long it takes to seal and to verify the record.

    python -m tests.benchmarks.audit [--rows 100000]

Rows are as long as those of a request: a reason, the shares before and after, and a checklist as evidence.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text

from core import audit, db
from core.db import Engine

T = TypeVar("T")
ROWS = """
INSERT INTO promotion.ledger (actor, action, subject, experiment_id, request_id, reason, before, after, evidence)
SELECT 'U0100000001', 'request', '#' || n || ' increase', gen_random_uuid(), n, 'numbers look good ' || n,
       jsonb_build_object('shares', jsonb_build_object('control', '0.9', 'candidate_v3', '0.1')),
       jsonb_build_object('shares', jsonb_build_object('control', '0.75', 'candidate_v3', '0.25')),
       jsonb_build_object('checklist', (SELECT jsonb_agg(jsonb_build_object(
            'title', 'Row ' || i, 'passed', true, 'detail', repeat('0.1234 ', 8))) FROM generate_series(1, 10) i))
  FROM generate_series(1, :rows) n
"""


def _timed(what: str, work: Callable[[], T]) -> T:
    began, busy = time.perf_counter(), time.process_time()
    found = work()
    print(f"{what:10} {time.perf_counter() - began:6.2f} s, {time.process_time() - busy:.2f} s of them in Python")
    return found


def _seal(engine: Engine) -> int:
    with db.transaction(engine, patience_ms=0) as session:
        return audit.seal(session)


def _verify(engine: Engine) -> audit.Report:
    with db.transaction(engine, patience_ms=0) as session:
        return audit.verify(session)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    print(f"{rows:,} rows, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as folder, db.embedded(Path(folder)) as url:
        engine = db.connect(url)
        db.migrate(engine)
        with engine.begin() as connection:
            connection.execute(text(ROWS), {"rows": rows})
        _timed("seal all", lambda: _seal(engine))
        _timed("seal none", lambda: _seal(engine))
        report = _timed("verify", lambda: _verify(engine))
        assert (report.entries, report.faults) == (rows, ())
        engine.dispose()


if __name__ == "__main__":
    main()
