"""Events become samples: each plan once, whatever arrives in whatever order, cut short or twice at once."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db, measure, rollup, steps
from core.rules import samples
from core.rules.metrics import Collected, Metric, Ratio, value_of
from core.rules.samples import Sample
from tests.core.steps import at_once, roll_up

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
CONTROL, CANDIDATE, OTHER = uuid.UUID(int=11), uuid.UUID(int=12), uuid.UUID(int=21)
WHERE = {CONTROL: ONE, CANDIDATE: ONE, OTHER: TWO}
STEP_TWO = START + 3 * DAY


@pytest.fixture
def platform(engine: Engine) -> Engine:
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
    return engine


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


# --- What is counted ---------------------------------------------------------------------------------------------


def test_a_plan_and_its_outcomes(platform: Engine) -> None:
    arrive(platform, generated(), accepted(), edit(more=1), edit(more=2), intervention(), intervention(at=START + DAY))
    assert catch_up(platform) == 6
    assert sums(platform) == {
        samples.PLANS: 1,
        samples.ACCEPTED: 1,
        samples.EDITS: 2,
        samples.INTERVENTIONS: 1,
        samples.COST_NANO: 10_000_000,
        samples.COST_PLANS: 1,
    }
    assert flaws(platform)["repeated"] == 1  # two interventions say no more than one


def test_the_latency_falls_into_its_bin(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), metrics={"latency_ms": ms}) for n, ms in enumerate((0, 2000, "1999.9", None))))
    catch_up(platform)
    with db.transaction(platform) as session:
        [first, _] = measure.samples(session, ONE)
    by_bin = first.variants[CONTROL].sample.counts_of(samples.LATENCY).by_bin
    bins = samples.bin_of([0, 2000, 1999.9])
    assert {int(k): int(by_bin[k]) for k in by_bin.nonzero()[0]} == dict(Counter(bins.tolist()))


def test_a_repeated_event_changes_nothing(platform: Engine) -> None:
    events = [generated(), accepted(), edit(more=1), edit(more=2), intervention()]
    arrive(platform, *events)
    catch_up(platform)
    before = sums(platform)
    arrive(platform, *events, *events)
    catch_up(platform)
    assert sums(platform) == before
    assert flaws(platform)["repeated"] == 10


def test_a_team_that_logs_the_number_of_edits(platform: Engine) -> None:
    arrive(platform, generated(), accepted(metrics={"edit_count": "3"}), edit(more=1))
    arrive(platform, generated("q"), Happened("plan_rejected", "q", metrics={"edit_count": 2}))
    catch_up(platform)
    assert sums(platform)[samples.EDITS] == 5


def test_tokens_become_cost_when_they_are_read(platform: Engine) -> None:
    arrive(
        platform, generated("p", metrics={"token_count": 1500}), generated("q", metrics={"token_count": 9, "cost": 1})
    )
    catch_up(platform)
    with db.transaction(platform) as session:
        found = measure.samples(session, ONE, price_per_1000_tokens=2)  # type: ignore[arg-type]
        without = measure.samples(session, ONE)
    assert int(found[0].variants[CONTROL].sample.sum_of(samples.COST_NANO).sum()) == 4 * samples.NANO
    assert int(found[0].variants[CONTROL].sample.sum_of(samples.COST_PLANS).sum()) == 2
    assert int(without[0].variants[CONTROL].sample.sum_of(samples.COST_PLANS).sum()) == 1


def test_control_events_never_count(platform: Engine) -> None:
    arrive(platform, generated(unit_type="control"), Happened("model_promoted", unit_type="control"))
    catch_up(platform)
    assert sums(platform) == {}
    assert flaws(platform) == {}


def test_an_event_of_several_experiments_counts_in_each(platform: Engine) -> None:
    both = [
        {"experiment_id": str(ONE), "variant_id": str(CANDIDATE)},
        {"experiment_id": str(TWO), "variant_id": str(OTHER)},
    ]
    arrive(platform, generated(experiments=both), accepted(experiments=both[1:]))
    catch_up(platform)
    assert sums(platform, CANDIDATE)[samples.PLANS] == 1
    assert samples.ACCEPTED not in sums(platform, CANDIDATE)
    assert sums(platform, OTHER)[samples.ACCEPTED] == 1


def test_an_id_in_capitals_is_the_same_id(platform: Engine) -> None:
    where = [{"experiment_id": str(ONE).upper(), "variant_id": str(uuid.UUID(int=0xB)).upper()}]
    arrive(platform, generated(experiments=where))
    catch_up(platform)
    assert sums(platform)[samples.PLANS] == 1


def test_an_outcome_before_its_plan_waits_for_it(platform: Engine) -> None:
    arrive(platform, accepted(arrived=START + HOUR), edit(arrived=START + HOUR))
    catch_up(platform)
    assert sums(platform) == {}
    assert flaws(platform) == {"waiting": 1}
    arrive(platform, generated(arrived=START))
    catch_up(platform)
    catch_up(platform, sweep=True)
    assert (sums(platform)[samples.ACCEPTED], sums(platform)[samples.EDITS]) == (1, 1)
    assert flaws(platform) == {}


def test_of_two_plans_with_one_id_the_first_counts(platform: Engine) -> None:
    arrive(platform, generated(at=START + HOUR, variant=CANDIDATE, unit="late", arrived=START + HOUR))
    catch_up(platform)
    arrive(platform, generated(at=START, variant=CONTROL, arrived=START + HOUR))
    catch_up(platform)
    catch_up(platform, sweep=True)
    assert (sums(platform, CANDIDATE), sums(platform)[samples.PLANS]) == ({}, 1)
    assert flaws(platform) == {"repeated": 1}
    assert kept(platform) == rebuilt(platform)


NAMED = [{"experiment_id": str(ONE), "variant_id": str(CONTROL)}]
GONE = uuid.UUID(int=99)


@pytest.mark.parametrize(
    ("event", "kind", "experiment"),
    [
        (generated(plan=None), "no_plan", ONE),  # type: ignore[arg-type]
        (generated(plan=""), "no_plan", ONE),
        (generated(experiments=None), "no_experiment", rollup.NO_EXPERIMENT),
        (generated(experiments=[]), "no_experiment", rollup.NO_EXPERIMENT),
        (generated(experiments=[None]), "no_experiment", rollup.NO_EXPERIMENT),
        (generated(experiments={"experiment_id": str(ONE)}), "malformed_experiments", rollup.NO_EXPERIMENT),
        (generated(experiments="x"), "malformed_experiments", rollup.NO_EXPERIMENT),
        (generated(experiments=[7]), "malformed_experiments", rollup.NO_EXPERIMENT),
        (
            generated(experiments=[{"experiment_id": "x", "variant_id": 7}]),
            "malformed_experiments",
            rollup.NO_EXPERIMENT,
        ),
        (generated(experiments=[{"experiment_id": str(ONE)}]), "malformed_experiments", ONE),
        (generated(experiments=[{"experiment_id": str(ONE), "variant_id": str(GONE)}]), "orphaned", ONE),
        (generated(experiments=[{"experiment_id": str(TWO), "variant_id": str(CONTROL)}]), "orphaned", TWO),
        (
            generated(experiments=[{"experiment_id": str(GONE), "variant_id": str(GONE)}]),
            "orphaned",
            rollup.NO_EXPERIMENT,
        ),
        (generated(at="infinity"), "malformed_time", ONE),  # type: ignore[arg-type]
        (generated(at="-infinity"), "malformed_time", ONE),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_counted_is_seen(platform: Engine, event: Happened, kind: str, experiment: uuid.UUID) -> None:
    arrive(platform, replace(event, arrived=START), generated("whole", arrived=START))
    catch_up(platform)
    assert sums(platform)[samples.PLANS] == 1
    assert flaws(platform, experiment) == {kind: 1}
    assert kept(platform) == rebuilt(platform)


@pytest.mark.parametrize(
    "metrics",
    [
        {"latency_ms": "fast"},
        {"latency_ms": -1},
        {"latency_ms": 1e300},
        {"latency_ms": "NaN"},
        {"latency_ms": {"ms": 4}},
        {"cost": "1 USD"},
        {"cost": "1e99"},
        {"token_count": True},
        {"edit_count": "-3"},
        {"edit_count": 1e30},
    ],
)
def test_a_metric_that_is_no_number_is_left_out(platform: Engine, metrics: dict[str, Any]) -> None:
    arrive(platform, generated(metrics=metrics, arrived=START))
    catch_up(platform)
    assert sums(platform) == {samples.PLANS: 1}
    assert flaws(platform) == {"malformed_metric": 1}


def test_a_number_too_large_for_any_type_fails_nothing(platform: Engine) -> None:
    arrive(platform, generated())
    with platform.begin() as connection:
        run(connection, """UPDATE exp.events SET metrics = '{"latency_ms": 1e400, "cost": null}'""")
    catch_up(platform)
    assert sums(platform) == {samples.PLANS: 1}


@pytest.mark.parametrize("metrics", [None, [], "x", 7, {"latency_ms": None, "cost": None}])
def test_nothing_logged_is_no_flaw(platform: Engine, metrics: Any) -> None:
    arrive(platform, generated(metrics=metrics, arrived=START))
    catch_up(platform)
    assert (sums(platform), flaws(platform)) == ({samples.PLANS: 1}, {})


@pytest.mark.parametrize(
    ("lag", "expected"),
    [
        (timedelta(minutes=59), {}),
        (timedelta(hours=2), {"late": 1}),
        (timedelta(days=7), {"late": 1}),
        (timedelta(days=8), {"too_late": 1}),
        (timedelta(hours=-2), {"early": 1}),
    ],
)
def test_late_events_count_and_are_counted(platform: Engine, lag: timedelta, expected: dict[str, int]) -> None:
    arrive(platform, generated(arrived=START + lag))
    catch_up(platform)
    assert (sums(platform)[samples.PLANS], flaws(platform)) == (1, expected)


# --- Steps -------------------------------------------------------------------------------------------------------


def test_an_outcome_counts_in_the_step_of_its_plan(platform: Engine) -> None:
    arrive(platform, generated(at=STEP_TWO - HOUR), generated("q", at=STEP_TWO))
    catch_up(platform)
    arrive(platform, accepted(at=STEP_TWO + 6 * DAY), accepted("q", at=STEP_TWO + HOUR))
    catch_up(platform)
    assert sums(platform, step=0)[samples.ACCEPTED] == 1
    assert sums(platform, step=1)[samples.ACCEPTED] == 1


def test_a_step_that_is_recorded_afterwards_takes_its_plans(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), at=STEP_TWO + n * HOUR, unit=f"u{n % 7}") for n in range(40)), accepted("39"))
    catch_up(platform)
    with platform.begin() as connection:
        open_step(connection, ONE, STEP_TWO + 30 * HOUR, {CANDIDATE: "1"})
    catch_up(platform)
    assert [sums(platform, step=n).get(samples.PLANS, 0) for n in range(3)] == [0, 30, 10]
    assert kept(platform) == rebuilt(platform)


def test_traffic_before_the_first_step_is_kept_apart(platform: Engine) -> None:
    arrive(platform, generated(at=START - HOUR))
    catch_up(platform)
    with db.transaction(platform) as session:
        [before, *others] = measure.samples(session, ONE)
    assert (before.step_id, before.until, before.source) == (0, START, "none")
    assert before.variants[CONTROL].sample.plans == 1
    assert not any(step.variants for step in others)


def _sources(engine: Engine, experiment: uuid.UUID = ONE) -> list[str]:
    with db.transaction(engine) as session:
        return [step.source for step in measure.steps(session, experiment)]


def test_shares_changed_by_others_open_a_step(platform: Engine) -> None:
    with db.transaction(platform) as session:
        assert steps.notice(session) == []
    with platform.begin() as connection:
        run(connection, "UPDATE exp.variants SET allocation = 0.75 WHERE id = :id", id=CONTROL)
        run(connection, "UPDATE exp.variants SET allocation = 0.25 WHERE id = :id", id=CANDIDATE)

    def notice() -> list[int]:
        with db.transaction(platform, patience_ms=10_000) as session:
            return steps.notice(session)

    found = at_once(notice, notice)
    assert sorted(len(opened) for opened in found if isinstance(opened, list)) == [0, 1]
    assert _sources(platform) == ["bot", "bot", "noticed"]


def _without_steps(engine: Engine) -> None:
    with engine.begin() as connection:
        run(connection, "DELETE FROM promotion.allocation_steps")


def _assign(engine: Engine, day: int, **units: int) -> None:
    query = """
        INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id, assigned_at)
        SELECT :e, 'user', gen_random_uuid()::text, :v, :at FROM generate_series(1, :n)"""
    with engine.begin() as connection:
        for name, n in units.items():
            variant = {"control": CONTROL, "candidate": CANDIDATE}[name]
            run(connection, query, e=ONE, v=variant, at=START + day * DAY + HOUR, n=n)


def test_the_past_is_reconstructed_from_assignments(platform: Engine) -> None:
    _without_steps(platform)
    for day in range(3):
        _assign(platform, day, control=900 + day, candidate=100)
    for day in range(3, 6):
        _assign(platform, day, control=505, candidate=495)
    arrive(platform, *(generated(f"{n}", at=START + n * DAY + HOUR) for n in range(6)))
    catch_up(platform)
    with db.transaction(platform) as session:
        steps.notice(session)
    catch_up(platform)
    with db.transaction(platform) as session:
        there = measure.samples(session, ONE)
    assert [step.source for step in there] == ["reconstructed", "reconstructed"]
    assert [step.started_at for step in there] == [START, START + 3 * DAY]
    assert float(there[0].shares[CONTROL]) == pytest.approx(0.9, abs=0.001)
    assert {str(share) for share in there[1].shares.values()} == {"0.5000"}
    assert [step.variants[CONTROL].sample.plans for step in there] == [3, 3]


def test_the_past_is_reconstructed_from_events_where_there_are_no_assignments(platform: Engine) -> None:
    _without_steps(platform)
    arrive(platform, *(generated(f"{n}", unit=f"{n}", variant=(CONTROL, CANDIDATE)[n % 2]) for n in range(40)))
    catch_up(platform)
    with db.transaction(platform) as session:
        assert len(steps.notice(session)) == 2  # one for each experiment
        assert steps.notice(session) == []
    assert (_sources(platform), _sources(platform, TWO)) == (["reconstructed"], ["reconstructed"])


def test_shares_that_nobody_was_assigned_by_begin_now(platform: Engine) -> None:
    _without_steps(platform)
    _assign(platform, 0, control=500)
    with db.transaction(platform) as session:
        steps.notice(session)
    assert _sources(platform) == ["reconstructed", "noticed"]


# --- Nothing twice, nothing lost ---------------------------------------------------------------------------------


def test_what_commits_late_is_not_lost_and_holds_nothing_up(platform: Engine) -> None:
    catch_up(platform)
    with platform.connect() as slow, slow.begin():
        happen(slow, generated("slow"))
        with slow.begin_nested():  # a number of its own, higher than the transaction's
            happen(slow, generated("slower"))
        arrive(platform, generated("quick"), accepted("quick"))
        assert catch_up(platform) == 2
        arrive(platform, generated("quicker"))
        assert catch_up(platform) == 1
        assert catch_up(platform) == 0
    assert catch_up(platform) == 2
    assert catch_up(platform) == 0
    assert sums(platform)[samples.PLANS] == 4
    assert "repeated" not in flaws(platform)
    assert catch_up(platform, sweep=True) == 0
    assert kept(platform) == rebuilt(platform) == rebuilt(platform, ONE)


@pytest.fixture(params=[True, False], ids=["by created_at", "by timestamp"])
def either_index(request: pytest.FixtureRequest, platform: Engine) -> Iterator[Engine]:
    """The platform with an index on `created_at` and, as an adopted database may be, without."""
    if request.param:
        yield platform
        return
    with platform.begin() as connection:
        made = run(connection, "SELECT pg_get_indexdef('exp.events_created_at_idx'::regclass)").scalar_one()
        run(connection, "DROP INDEX exp.events_created_at_idx")
    yield platform
    with platform.begin() as connection:
        run(connection, made)


def test_old_and_new_timestamps_are_found(either_index: Engine) -> None:
    catch_up(either_index)
    now = datetime.now(UTC)
    arrive(either_index, generated("a", at=now), generated("b", at=now - 7 * DAY), generated("c", at=now + HOUR))
    assert catch_up(either_index) == 3
    assert catch_up(either_index) == 0


def test_what_came_by_an_unusual_way_is_found_by_the_sweep(platform: Engine) -> None:
    catch_up(platform)
    arrive(platform, generated("copied", arrived=START), generated("usual"))
    assert catch_up(platform) == 1
    arrive(platform, generated("usual, too"))
    assert catch_up(platform) == 1
    assert catch_up(platform, sweep=True) == 1
    assert catch_up(platform, sweep=True) == 0
    assert catch_up(platform) == 0
    assert kept(platform) == rebuilt(platform)


def test_a_crash_in_the_middle_never_happened(platform: Engine) -> None:
    arrive(platform, *(generated(str(n)) for n in range(50)), *(accepted(str(n)) for n in range(40)))
    catch_up(platform, limit=30)
    arrive(platform, *(generated(str(n)) for n in range(50, 90)), *(edit(str(n)) for n in range(60)))
    before = kept(platform)
    for killed_after in range(3):
        with Session(platform) as session:
            me = run(session, "SELECT pg_backend_pid()").scalar_one()
            for _ in range(killed_after):
                rollup.advance(session, limit=25)
            with platform.connect() as other:
                run(other, "SELECT pg_terminate_backend(:pid)", pid=me)
            with pytest.raises(DBAPIError):
                rollup.advance(session, limit=25)
        assert kept(platform) == before
    assert catch_up(platform, limit=25) == 100
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED], sums(platform)[samples.EDITS]) == (
        90,
        40,
        60,
    )
    assert kept(platform) == rebuilt(platform)


def test_two_at_once_count_once(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), unit=f"u{n}") for n in range(200)), *(accepted(str(n)) for n in range(150)))
    found = at_once(*[lambda: catch_up(platform, limit=40)] * 3)
    assert sum(taken for taken in found if isinstance(taken, int)) == 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert "repeated" not in flaws(platform)


def much(engine: Engine) -> None:
    times = [START + n * timedelta(minutes=1) for n in range(200)]
    arrive(engine, *(generated(str(n), at=at, unit=f"u{n}") for n, at in enumerate(times)))
    arrive(engine, *(accepted(str(n), at=at) for n, at in enumerate(times[:150])))


@pytest.mark.parametrize("failing", [2, 4, 5, 7])
def test_a_batch_that_fails_among_others_never_happened(platform: Engine, failing: int) -> None:
    much(platform)
    opened = count()

    @contextmanager
    def transaction() -> Iterator[Session]:
        number = next(opened)
        with db.transaction(platform, patience_ms=30_000) as session:
            yield session
            if number == failing:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rollup.catch_up(transaction, limit=40)
    assert catch_up(platform, limit=40) < 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert kept(platform) == rebuilt(platform)


def test_what_was_read_ahead_is_forgotten_where_another_was_faster(platform: Engine) -> None:
    much(platform)
    opened, others = count(), []

    @contextmanager
    def transaction() -> Iterator[Session]:
        if next(opened) == 3:  # between the choice of the second batch and its reading
            with db.transaction(platform) as session:
                others.append(rollup.advance(session, limit=30).events)
        with db.transaction(platform, patience_ms=30_000) as session:
            yield session

    taken = rollup.catch_up(transaction, limit=40)
    assert others == [30]
    assert taken + 30 == 350
    assert (sums(platform)[samples.PLANS], sums(platform)[samples.ACCEPTED]) == (200, 150)
    assert kept(platform) == rebuilt(platform)


def test_one_moment_with_more_events_than_a_batch(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), arrived=START) for n in range(100)))
    assert catch_up(platform, limit=7) == 100
    arrive(platform, *(generated(f"b{n}") for n in range(100)))
    assert catch_up(platform, limit=7) == 100
    assert sums(platform)[samples.PLANS] == 200


def test_what_is_given_up_stays_as_it_was(platform: Engine) -> None:
    now = datetime.now(UTC)
    arrive(platform, generated("old", at=now - 100 * DAY), accepted("old", at=now - 99 * DAY), generated("new", at=now))
    catch_up(platform)
    before = kept(platform)
    with db.transaction(platform) as session:
        assert rollup.purge(session) == 1
    arrive(platform, edit("old", at=now - 99 * DAY, arrived=now))
    catch_up(platform)
    assert kept(platform)["totals"] == before["totals"]
    assert flaws(platform)["expired"] == 1
    assert rebuilt(platform)["totals"] == before["totals"]


def test_raw_events_that_are_gone_take_no_sample_with_them(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), at=START + n * DAY) for n in range(6)))
    catch_up(platform)
    before = kept(platform)
    with platform.begin() as connection:
        run(connection, "DELETE FROM exp.events WHERE timestamp < :at", at=START + 2 * DAY)
    after = rebuilt(platform)
    assert after["days"] == before["days"]
    assert after["totals"] == before["totals"]


# --- Newcomers ---------------------------------------------------------------------------------------------------


def newcomers(engine: Engine, variant: uuid.UUID = CONTROL) -> list[int]:
    """The units of a variant step by step."""
    with db.transaction(engine) as session:
        return [s.variants[variant].units if variant in s.variants else 0 for s in measure.samples(session, ONE)]


def test_a_unit_is_new_once_in_an_experiment(platform: Engine) -> None:
    arrive(platform, generated("a"), generated("b", at=STEP_TWO), generated("c", at=STEP_TWO, unit="v"))
    arrive(platform, generated("d", at=STEP_TWO + HOUR, unit="v", variant=CANDIDATE))
    catch_up(platform, limit=1)
    assert (newcomers(platform), newcomers(platform, CANDIDATE)) == ([1, 1], [0, 0])


def test_the_first_plan_may_come_last(platform: Engine) -> None:
    arrive(platform, generated("a", at=STEP_TWO, variant=CANDIDATE), generated("b", at=STEP_TWO, unit="v"))
    catch_up(platform)
    assert (newcomers(platform), newcomers(platform, CANDIDATE)) == ([0, 1], [0, 1])
    arrive(platform, generated("c", at=START))
    catch_up(platform)
    assert (newcomers(platform), newcomers(platform, CANDIDATE)) == ([1, 1], [0, 0])
    assert kept(platform) == rebuilt(platform) == rebuilt(platform, ONE)


def test_newcomers_move_into_a_step_recorded_afterwards(platform: Engine) -> None:
    arrive(platform, *(generated(str(n), at=STEP_TWO + n * HOUR, unit=f"u{n % 5}") for n in range(20)))
    catch_up(platform)
    with platform.begin() as connection:
        open_step(connection, ONE, STEP_TWO + 3 * HOUR, {CANDIDATE: "1"})
    catch_up(platform)
    assert newcomers(platform) == [0, 3, 2]
    assert kept(platform) == rebuilt(platform)


# --- A team's own metrics ----------------------------------------------------------------------------------------

OWN = (
    Collected("swapped", "share", "meal_swapped"),
    Collected("shared", "count", "plan_shared"),
    Collected("kcal", "mean", "plan_accepted", "kcal"),
)


def own(engine: Engine, variant: uuid.UUID = CONTROL, step: int | None = None) -> dict[str, int]:
    """The sums of the team's own metrics, without their prefix."""
    return {n.removeprefix("extra:"): v for n, v in sums(engine, variant, step).items() if n.startswith("extra:")}


def test_own_metrics_are_collected(platform: Engine) -> None:
    swap = Happened("meal_swapped")
    arrive(platform, generated(), generated("q"), swap, replace(swap, at=START + HOUR))
    shared = Happened("plan_shared", "q", more=1)
    arrive(
        platform, shared, shared, replace(shared, more=2), replace(shared, at=START + DAY), Happened("plan_shared", "r")
    )
    arrive(platform, accepted(metrics={"kcal": "650.5"}), accepted("q", metrics={"kcal": "many"}))
    catch_up(platform, collected=OWN, limit=3)
    assert own(platform) == {
        "swapped": 1, "swapped:plans": 2, "shared": 3, "shared:plans": 2,
        "kcal": 650_500_000_000, "kcal:plans": 1,
    }  # fmt: skip
    with db.transaction(platform) as session:
        sample = measure.samples(session, ONE)[0].variants[CONTROL].sample
    kcal = Metric("kcal", "Calories", "count", Ratio("extra:kcal", "extra:kcal:plans", 1 / samples.NANO))
    assert value_of(kcal, sample) == 650.5
    assert kept(platform) == rebuilt(platform, collected=OWN) == rebuilt(platform, ONE, collected=OWN)
    rebuilt(platform)
    assert own(platform) == {}


def test_of_several_values_the_first_counts(platform: Engine) -> None:
    arrive(platform, generated(), accepted(at=START + 3 * HOUR, metrics={"kcal": 3}))
    catch_up(platform, collected=OWN)
    arrive(platform, accepted(at=START + 2 * HOUR, metrics={"kcal": 2}), accepted(metrics={"kcal": None}))
    catch_up(platform, collected=OWN)
    arrive(platform, accepted(at=START + 4 * HOUR, metrics={"kcal": 4}), accepted(metrics={"kcal": 1e7}))
    catch_up(platform, collected=OWN)
    assert (own(platform)["kcal"], own(platform)["kcal:plans"]) == (2 * samples.NANO, 1)


def test_own_metrics_move_with_their_plan(platform: Engine) -> None:
    arrive(platform, generated(at=STEP_TWO, variant=CANDIDATE), Happened("meal_swapped"), accepted(metrics={"kcal": 5}))
    catch_up(platform, collected=OWN)
    before = own(platform, CANDIDATE, 1)
    arrive(platform, generated(at=START + DAY))
    catch_up(platform)  # what is known moves, whatever is collected by now
    assert own(platform, CANDIDATE) == {}
    assert own(platform, CONTROL, 0) == before == {
        "swapped": 1, "swapped:plans": 1, "shared:plans": 1, "kcal": 5 * samples.NANO, "kcal:plans": 1,
    }  # fmt: skip


def test_a_metric_begins_with_the_plans_generated_under_it(platform: Engine) -> None:
    arrive(platform, generated())
    catch_up(platform)
    arrive(platform, generated("q"), Happened("meal_swapped"), Happened("meal_swapped", "q"))
    catch_up(platform, collected=OWN[:1])
    assert own(platform) == {"swapped": 1, "swapped:plans": 1}


@pytest.mark.parametrize("wrong", [("a:b", "share", "e", None), ("m", "mean", "e", None), ("c", "count", "e", "f")])
def test_a_metric_that_cannot_be_collected(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"a metric's name|a mean needs"):
        Collected(*wrong)


# --- Any order ---------------------------------------------------------------------------------------------------

numbers = st.sampled_from([None, "12.5", 0, 3, 250.125, 1999.99, 2000, "x"])
plans = st.sampled_from(["a", "b", "c", "d"])
moments = st.integers(0, 6 * 24).map(lambda hours: START + hours * HOUR)
variants = st.sampled_from([CONTROL, CANDIDATE, OTHER])
arrivals = st.integers(0, 9 * 24)
events = st.builds(
    lambda kind, plan, at, variant, unit, latency, cost, tokens, edits, lag, more, broken: Happened(
        kind,
        plan,
        at,
        variant,
        unit,
        {"latency_ms": latency, "kcal": latency, "cost": cost, "token_count": tokens, "edit_count": edits},
        arrived=at + lag * HOUR,
        more=more,
        **({"experiments": broken} if broken is not False else {}),
    ),
    st.sampled_from(
        ["plan_generated", "plan_generated", "plan_accepted", "edit_applied", "validator_intervention", "plan_shared"]
    ),
    plans,
    moments,
    variants,
    st.sampled_from(["u", "v", "w"]),
    numbers,
    numbers,
    numbers,
    st.sampled_from([None, None, 1, "4", "x"]),
    arrivals,
    st.integers(0, 1),
    st.sampled_from([False] * 9 + [[], [{"experiment_id": str(ONE), "variant_id": str(GONE)}]]),
)


KINDS = ("plan_generated", "plan_accepted", "edit_applied", "validator_intervention")


def expected(happened: Sequence[Happened]) -> dict[uuid.UUID, tuple[int, int, int, int]]:
    """Plans, accepted, edits, interventions by variant, the slow and simple way."""
    found: Counter[tuple[uuid.UUID, str]] = Counter()
    for experiment in (ONE, TWO):
        for plan in {e.plan for e in happened}:
            mine = [
                e for e in happened if e.plan == plan and any(n["experiment_id"] == str(experiment) for n in e.named)
            ]
            born = [e for e in mine if e.kind == "plan_generated" and e.named[0]["variant_id"] != str(GONE)]
            if born:
                variant = uuid.UUID(min(born, key=lambda e: e.at).named[0]["variant_id"])
                edits = len({(e.at, e.more) for e in mine if e.kind == "edit_applied"})
                logged = [
                    int(e.metrics["edit_count"])
                    for e in mine
                    if e.kind in KINDS
                    and (e.kind != "plan_generated" or e in born)
                    and e.metrics["edit_count"] not in (None, "x")
                ]
                found[variant, "plans"] += 1
                found[variant, "accepted"] += any(e.kind == "plan_accepted" for e in mine)
                found[variant, "edits"] += max([edits, *logged])
                found[variant, "interventions"] += any(e.kind == "validator_intervention" for e in mine)
    return {
        v: (found[v, "plans"], found[v, "accepted"], found[v, "edits"], found[v, "interventions"])
        for v in WHERE
        if found[v, "plans"]
    }


def _at_different_times(happened: list[Happened]) -> list[Happened]:
    """Plans with one id at one moment in two variants have no first one: the ids decide, which nobody can foresee."""
    return [
        replace(e, at=e.at + timedelta(seconds=n)) if e.kind == "plan_generated" else e for n, e in enumerate(happened)
    ]


@pytest.mark.timeout(300)  # each example is some fifty transactions; shrinking one would take minutes
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    happened=st.lists(events, min_size=1, max_size=30).map(_at_different_times),
    repeats=st.lists(st.integers(0, 29), max_size=8),
    order=st.randoms(use_true_random=False),
    parts=st.integers(1, 5),
    limit=st.integers(4, 20),
    late_step=st.booleans(),
    collected=st.sampled_from([(), OWN]),
)
def test_any_order_in_any_batches_gives_the_same_to_the_last_bit(
    platform: Engine,
    happened: list[Happened],
    repeats: list[int],
    order: Any,
    parts: int,
    limit: int,
    late_step: bool,
    collected: tuple[Collected, ...],
) -> None:
    with platform.begin() as connection:
        run(connection, "TRUNCATE exp.events, promotion.samples_daily")
        run(connection, "DELETE FROM promotion.allocation_steps WHERE started_at > :at", at=STEP_TWO)
    rebuilt(platform, collected=collected)
    arriving = happened + [happened[n] for n in repeats if n < len(happened)]
    order.shuffle(arriving)
    for part in range(parts):
        arrive(platform, *arriving[part::parts])
        catch_up(platform, limit=limit, sweep=part % 2 == 1, collected=collected)
        if late_step and part == 0:
            with platform.begin() as connection:
                open_step(connection, ONE, STEP_TWO + 12 * HOUR, {CANDIDATE: "1"})
    catch_up(platform, limit=limit, collected=collected)
    catch_up(platform, limit=limit, sweep=True, collected=collected)
    catch_up(platform, limit=limit, collected=collected)
    found = kept(platform)
    names = (samples.PLANS, samples.ACCEPTED, samples.EDITS, samples.INTERVENTIONS)
    measured = {v: tuple(sums(platform, v).get(name, 0) for name in names) for v in WHERE}
    assert {v: values for v, values in measured.items() if values[0]} == expected(happened)
    assert found == rebuilt(platform, ONE, collected=collected)
    assert found == rebuilt(platform, limit=15, collected=collected)
    assert sum(n for _, kind, _, n in found["counts"] if kind == "no_experiment") == sum(
        e.named == [] and (e.kind in KINDS or bool(collected)) for e in arriving
    )
    assert all(isinstance(day, date) for _, _, day, _ in found["days"])


@pytest.mark.parametrize("only", [None, ONE])
def test_a_rebuild_keeps_what_raw_events_are_gone_for(platform: Engine, only: uuid.UUID | None) -> None:
    arrive(platform, generated("p"), accepted("p"))
    catch_up(platform)
    before = kept(platform)["totals"]
    with platform.begin() as connection:
        run(connection, "DELETE FROM exp.events")
    arrive(platform, generated("of long ago", at=datetime(1970, 1, 2, tzinfo=UTC), experiments=[]))
    assert [row for row in rebuilt(platform, only)["totals"] if row in before] == before != []
