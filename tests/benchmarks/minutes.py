"""How many minutes of live traffic go by from the start of a candidate's regression to its alert.

    python -m tests.benchmarks.minutes [--runs 5] [--plans-a-day 20000 2000] [--share 0.25] [--no-slower] [--seed 100]

Rollouts of an identical model live side by side in one real database: a day at 10 %, two at the share asked for, then
as live: each quarter of an hour its events come in and are read, and the job that watches looks. Within the fourth day
each candidate turns as bad as `/rollout simulate regression` makes it, each at another hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, select, text

from bot.demo import clock
from bot.demo.outcomes import WORSE_ACCEPTANCE, WORSE_INTERVENTION, WORSE_LATENCY, EventRow, write_events
from core import db, watching
from core import steps as allocation_steps
from core.rules.decision import Terms
from core.tables import Alert, AllocationStep, Experiment
from tests.benchmarks.simulate import SAME, Model, Setting, World, events
from tests.core.conftest import add_variant
from tests.core.steps import TALK, roll_up

HARM = Model(acceptance=WORSE_ACCEPTANCE, validator=WORSE_INTERVENTION, latency=WORSE_LATENCY)
BEGAN = datetime(2045, 11, 20, tzinfo=UTC)
QUIET_DAYS = (("0.10", 1), ("0.25", 2))
DAY, QUARTER, HOUR = timedelta(days=1), timedelta(minutes=15), timedelta(hours=1)
FINE_FOR, GIVEN_UP_AFTER = timedelta(hours=6), timedelta(days=16)
"""How long after the last harm began looks are a quarter of an hour apart, then an hour; and when it is enough."""


@dataclass
class Rollout:
    """One candidate beside its baseline, and when it turns bad."""

    experiment: uuid.UUID
    arms: tuple[uuid.UUID, uuid.UUID]
    world: World
    share: float
    quarters: int
    """How many quarters of an hour of the fourth day it is still well."""
    harmed_at: datetime | None = None
    alerted_at: datetime | None = None
    said: str = ""


@contextmanager
def database() -> Iterator[Engine]:
    """An empty database of its own, whose clock can be put forward."""
    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as folder, db.embedded(Path(folder)) as url:
        engine = db.connect(url)
        clock.install(engine)
        db.migrate(engine)
        yield engine
        engine.dispose()


def _begun(engine: Engine, number: int, plans_a_day: int, quarters: int, seed: int) -> Rollout:
    share, _ = QUIET_DAYS[0]
    rest = str(1 - float(share))
    with db.transaction(engine) as session:
        place = Experiment(name=f"e{number}", status="active")
        session.add(place)
        session.flush()
        base, candidate = add_variant(session, place, "control", rest), add_variant(session, place, "candidate", share)
        session.add(AllocationStep(experiment_id=place.id, shares={str(base.id): rest, str(candidate.id): share}))
        world = World(Setting(plans_a_day=plans_a_day), SAME, seed + number)
        return Rollout(place.id, (base.id, candidate.id), world, float(share), quarters)


def _moved_on(engine: Engine, rollout: Rollout, share: float) -> None:
    rollout.share = share
    with db.transaction(engine) as session:
        for variant, mine in zip(rollout.arms, (1 - share, share), strict=True):
            session.execute(
                text("UPDATE exp.variants SET allocation = :share WHERE id = :id"), {"share": mine, "id": variant}
            )
    with db.transaction(engine) as session:
        allocation_steps.notice(session)


def _row(event: dict[str, object], at: datetime) -> EventRow:
    parts = {name: json.dumps(event[name]) for name in ("experiments", "metrics", "payload")}
    kind, unit_type, unit = (str(event[name]) for name in ("event_type", "unit_type", "unit_id"))
    return EventRow(str(uuid.uuid4()), kind, unit_type, unit, context="{}", timestamp=at, created_at=at, **parts)


def _live(engine: Engine, rollouts: Sequence[Rollout], lasts: timedelta, terms: Terms) -> None:
    """Time passes; what happened in it is stored and read, and the watch job looks at all."""
    now = clock.now(engine)
    clock.set_to(engine, now + lasts)
    for one in rollouts:
        plans = one.world.plans((now - BEGAN).days, one.share, lasts / DAY)
        seed = int(one.world.rng.integers(1 << 32))
        happened = events(plans, experiment_id=one.experiment, variants=one.arms, start=now, seed=seed)
        with db.transaction(engine, patience_ms=60_000) as session:
            write_events(session, (_row(each, now + (each["timestamp"] - now) * (lasts / DAY)) for each in happened))
    roll_up(engine)
    with db.transaction(engine, patience_ms=60_000) as session:
        watching.watch(session, {one.experiment: TALK for one in rollouts}, terms=terms)


def _note_alerts(engine: Engine, rollouts: Sequence[Rollout]) -> None:
    with db.transaction(engine) as session:
        found = session.scalars(select(Alert).where(Alert.whose == "candidate").order_by(Alert.id)).all()
    for one in rollouts:
        first = next((each for each in found if each.experiment_id == one.experiment), None)
        if first is not None and one.alerted_at is None:
            one.alerted_at, one.said = first.opened_at, f"{first.cause}: {first.why}"


def measured(engine: Engine, plans_a_day: int, share: float, runs: int, harm: Model, seed: int) -> list[Rollout]:
    """Rollouts at so many plans a day, each lived until its alert, or given up."""
    terms, a_day = Terms(), DAY // QUARTER
    clock.set_to(engine, BEGAN)
    rollouts = [_begun(engine, n, plans_a_day, n * a_day // runs, seed) for n in range(runs)]
    for at, days in (QUIET_DAYS[0], (str(share), QUIET_DAYS[1][1])):
        for one in rollouts:
            if one.share != float(at):
                _moved_on(engine, one, float(at))
        for _ in range(days):
            _live(engine, rollouts, DAY, terms)
    for quarter in range(a_day + GIVEN_UP_AFTER // HOUR):
        for one in rollouts:
            if one.quarters == quarter:
                one.world.model, one.harmed_at = harm, clock.now(engine)
        left = [one for one in rollouts if one.alerted_at is None]
        if not left:
            break
        _live(engine, left, QUARTER if quarter < a_day + FINE_FOR // QUARTER else HOUR, terms)
        _note_alerts(engine, left)
    return rollouts


def _minutes(one: Rollout) -> float | None:
    if one.alerted_at is None or one.harmed_at is None or one.alerted_at < one.harmed_at:
        return None
    return (one.alerted_at - one.harmed_at) / timedelta(minutes=1)


def tell(what: str, rollouts: Sequence[Rollout]) -> None:
    """Prints the minutes of each and their median; an alert before anything was wrong, or none at all, counts as -."""
    minutes = [_minutes(one) for one in rollouts]
    known = [each for each in minutes if each is not None]
    shown = ", ".join("-" if each is None else f"{each:.0f}" for each in minutes)
    middle = f"{statistics.median(known):.0f}" if known else "-"
    print(f"{what}: median {middle} min, each {shown}")
    for one in rollouts:
        print(f"    {'after' if _minutes(one) is not None else 'never, or before it began'}: {one.said}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plans-a-day", type=int, nargs="*", default=[20_000, 2_000])
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--no-slower", action="store_true", help="only people and the validator can tell")
    chosen = parser.parse_args()
    harm = replace(HARM, latency=1.0) if chosen.no_slower else HARM
    for plans in chosen.plans_a_day:
        began = time.perf_counter()
        with database() as engine:
            rollouts = measured(engine, plans, chosen.share, chosen.runs, harm, chosen.seed)
        tell(f"{plans:,} plans a day, candidate at {chosen.share:.0%}", rollouts)
        print(f"    took {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
