"""Two experiments with steps, raw events that arrive, and what the roll-up keeps of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from core import db, measure, rollup
from core.rules.metrics import Collected
from core.rules.samples import Sample
from tests.core.steps import roll_up

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
CONTROL, CANDIDATE, OTHER = uuid.UUID(int=11), uuid.UUID(int=12), uuid.UUID(int=21)
WHERE = {CONTROL: ONE, CANDIDATE: ONE, OTHER: TWO}
STEP_TWO = START + 3 * DAY
GONE = uuid.UUID(int=99)
"""A variant that there is not."""
OWN = (
    Collected("swapped", "share", "meal_swapped"),
    Collected("shared", "count", "plan_shared"),
    Collected("kcal", "mean", "plan_accepted", "kcal"),
)
FIELDS = (
    *OWN,
    Collected("kcal_p90", "quantile", "plan_accepted", "kcal"),
    Collected("kcal_per_share", "ratio", "plan_accepted", "kcal", ("plan_shared", None)),
    Collected("shares_per_second", "ratio", "plan_shared", None, ("plan_generated", "latency_ms")),
)


def add_experiments(engine: Engine) -> None:
    """Experiment ONE with control and candidate in two steps, experiment TWO with one variant in one step."""
    with engine.begin() as connection:
        for number, experiment in enumerate((ONE, TWO)):
            run(
                connection,
                "INSERT INTO exp.experiments (id, name, status, start_at) VALUES (:id, :name, 'active', :at)",
                id=experiment,
                name=f"e{number}",
                at=START,
            )
        for variant, share in ((CONTROL, "0.5"), (CANDIDATE, "0.5"), (OTHER, "1")):
            run(
                connection,
                "INSERT INTO exp.variants (id, experiment_id, name, allocation) VALUES (:id, :e, :name, :share)",
                id=variant,
                e=WHERE[variant],
                name=str(variant.int),
                share=share,
            )
        open_step(connection, ONE, START, {CONTROL: "0.9", CANDIDATE: "0.1"})
        open_step(connection, ONE, STEP_TWO, {CONTROL: "0.5", CANDIDATE: "0.5"})
        open_step(connection, TWO, START, {OTHER: "1"})


def run(connection: Connection | Session, query: str, **values: Any) -> Any:
    return connection.execute(text(query), values)


def open_step(
    connection: Connection | Session, experiment: uuid.UUID, at: datetime, shares: dict[uuid.UUID, str]
) -> int:
    query = """INSERT INTO promotion.allocation_steps (experiment_id, shares, started_at)
               VALUES (:id, CAST(:shares AS jsonb), :at) RETURNING id"""
    written = json.dumps({str(variant): share for variant, share in shares.items()})
    found: int = run(connection, query, id=experiment, shares=written, at=at).scalar_one()
    return found


@dataclass(frozen=True)
class Happened:
    """One row of exp.events to be."""

    kind: str
    plan: Any = "p"
    at: datetime = START
    variant: Any = CONTROL
    unit: str = "u"
    metrics: Any = None
    experiments: Any = field(default="as the variant says")
    arrived: datetime | None = None
    unit_type: str = "user"
    more: Any = None
    """Something more in the payload, to tell edits of one moment apart."""

    @property
    def named(self) -> Any:
        if self.experiments != "as the variant says":
            return self.experiments
        return [{"experiment_id": str(WHERE[self.variant]), "variant_id": str(self.variant)}]

    @property
    def payload(self) -> Any:
        return ({} if self.plan is None else {"plan_id": self.plan}) | ({} if self.more is None else {"n": self.more})


def happen(connection: Connection | Session, *events: Happened) -> None:
    query = """
        INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, metrics, payload, timestamp, created_at)
        VALUES (:kind, :unit_type, :unit, CAST(:experiments AS jsonb), CAST(:metrics AS jsonb),
                CAST(:payload AS jsonb), CAST(:at AS timestamptz), coalesce(CAST(:arrived AS timestamptz), now()))"""
    rows = [
        {
            "kind": e.kind,
            "unit_type": e.unit_type,
            "unit": e.unit,
            "experiments": json.dumps(e.named),
            "metrics": json.dumps(e.metrics),
            "payload": json.dumps(e.payload),
            "at": e.at,
            "arrived": e.arrived,
        }
        for e in events
    ]
    if rows:
        connection.execute(text(query), rows)


def arrive(engine: Engine, *events: Happened) -> None:
    with engine.begin() as connection:
        happen(connection, *events)


def catch_up(engine: Engine, *, limit: int = 1000, sweep: bool = False, collected: Sequence[Collected] = ()) -> int:
    """Advances until everything has been taken; returns how many events there were."""
    return roll_up(engine, limit=limit, sweep=sweep, collected=collected)


def kept(engine: Engine) -> dict[str, Any]:
    """Everything that is kept of the events, to the last bit; what is empty counts as absent."""
    with engine.connect() as connection:
        totals = run(connection, "SELECT arm, step, units, content FROM promotion.samples").all()
        days = run(connection, "SELECT arm, step, day, content FROM promotion.samples_daily").all()
        counts = run(connection, "SELECT experiment_id, kind, day, events FROM promotion.measure_counts").all()
        slots = run(connection, "SELECT experiment, slot, plans FROM promotion.measure_slots").all()
        units = run(connection, "SELECT experiment, unit, at, tie, arm, step FROM promotion.measure_units").all()
    return {
        "totals": sorted(
            (r.arm, r.step, r.units, bytes(r.content)) for r in totals if Sample.from_bytes(r.content).plans
        ),
        "days": sorted((r.arm, r.step, r.day, bytes(r.content)) for r in days if Sample.from_bytes(r.content).plans),
        "counts": sorted((str(r.experiment_id), r.kind, r.day, r.events) for r in counts if r.events),
        "units": sorted(map(tuple, units)),
        "slots": sorted((r.experiment, r.slot, r.plans) for r in slots if r.plans),
    }


def rebuilt(
    engine: Engine, experiment: uuid.UUID | None = None, limit: int = 1000, collected: Sequence[Collected] = ()
) -> dict[str, Any]:
    with db.transaction(engine, patience_ms=30_000) as session:
        rollup.rebuild(session, experiment, limit=limit, collected=collected)
    return kept(engine)


def sums(engine: Engine, variant: uuid.UUID = CONTROL, step: int | None = None) -> dict[str, int]:
    """The sums of a variant over its steps, or in the step of that place in the order of steps."""
    with db.transaction(engine) as session:
        found = measure.samples(session, WHERE[variant])
    chosen = found if step is None else found[step : step + 1]
    total = Sample.total(s.variants[variant].sample for s in chosen if variant in s.variants)
    return {name: int(values.sum()) for name, values in total.sums.items()}


def flaws(engine: Engine, experiment: uuid.UUID = ONE) -> dict[str, int]:
    with db.transaction(engine) as session:
        return {kind: sum(days.values()) for kind, days in measure.flaws(session, experiment).items()}


def generated(plan: str = "p", at: datetime = START, **more: Any) -> Happened:
    return Happened("plan_generated", plan, at, **{"metrics": {"latency_ms": 400, "cost": 0.01}, **more})


def accepted(plan: str = "p", at: datetime = START + HOUR, **more: Any) -> Happened:
    return Happened("plan_accepted", plan, at, **more)


def edit(plan: str = "p", at: datetime = START + HOUR, **more: Any) -> Happened:
    return Happened("edit_applied", plan, at, **more)


def intervention(plan: str = "p", at: datetime = START + HOUR, **more: Any) -> Happened:
    return Happened("validator_intervention", plan, at, **more)


def assign(engine: Engine, day: int, **units: int) -> None:
    query = """
        INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id, assigned_at)
        SELECT :e, 'user', gen_random_uuid()::text, :v, :at FROM generate_series(1, :n)"""
    with engine.begin() as connection:
        for name, n in units.items():
            variant = {"control": CONTROL, "candidate": CANDIDATE}[name]
            run(connection, query, e=ONE, v=variant, at=START + day * DAY + HOUR, n=n)
