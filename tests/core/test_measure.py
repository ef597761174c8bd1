"""exp.events -> metrics per variant, on events as they really arrive."""

from __future__ import annotations

import math
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import db, measure, rollup
from core.rules.metrics import VariantMetrics
from tests.core.steps import event, roll_up

HERE, ELSEWHERE, A, B = (uuid.uuid4() for _ in range(4))
IN_A, IN_B = [(HERE, A)], [(HERE, B)]


@pytest.fixture
def now(session: Session) -> datetime:
    """The experiment with its two variants, at its present shares for a week by now."""
    found: datetime = session.execute(text("SELECT now()")).scalar_one()
    session.execute(text("INSERT INTO exp.experiments (id, name) VALUES (:here, 'here')"), {"here": HERE})
    for variant, name in ((A, "a"), (B, "b")):
        insert = "INSERT INTO exp.variants (id, experiment_id, name, allocation) VALUES (:id, :here, :name, 0.5)"
        session.execute(text(insert), {"id": variant, "here": HERE, "name": name})
    session.execute(
        text("INSERT INTO promotion.allocation_steps (experiment_id, shares, started_at) VALUES (:here, :shares, :at)"),
        {"here": HERE, "shares": f'{{"{A}": "0.5", "{B}": "0.5"}}', "at": found - timedelta(days=7)},
    )
    session.commit()
    return found


def measured(
    session: Session, now: datetime, days: float = 7, price: str | None = None
) -> dict[uuid.UUID, VariantMetrics]:
    """What a look finds once everything has been rolled up."""
    session.commit()
    roll_up(session.get_bind())  # type: ignore[arg-type]
    return measure.variant_metrics(
        session,
        experiment_id=HERE,
        since=now - timedelta(days=days),
        price_per_1000_tokens=None if price is None else Decimal(price),
    )


def near(value: float) -> Any:
    """A latency, to within its bin."""
    return pytest.approx(value, rel=0.0201)


def of_a(session: Session, now: datetime, **more: Any) -> VariantMetrics:
    return measured(session, now, **more)[A]


def test_nothing_served_is_nothing(session: Session, now: datetime) -> None:
    assert measured(session, now) == {}


def test_the_six_metrics(session: Session, now: datetime) -> None:
    for n in range(100):
        event(session, "plan_generated", f"p{n}", IN_A, metrics={"latency_ms": n + 1, "cost": 0.01 * (n % 2)})
    for n in range(80):
        event(session, "plan_accepted", f"p{n}", IN_A)
    for n in range(4):
        event(session, "validator_intervention", f"p{n}", IN_A, rule="budget")
        event(session, "validator_intervention", f"p{n}", IN_A, rule="allergy")
    for n in range(50):
        event(session, "edit_applied", "p0", IN_A, meal=n)
    event(session, "plan_rejected", "p99", IN_A)
    event(session, "meal_swapped", "p98", IN_A)
    event(session, "plan_generated", "q", IN_B, metrics={"latency_ms": 7})
    found = measured(session, now)
    assert found[A] == VariantMetrics(
        sample_size=100,
        acceptance_rate=pytest.approx(0.8),  # type: ignore[arg-type]
        avg_edits=pytest.approx(0.5),  # type: ignore[arg-type]
        validator_rate=pytest.approx(0.04),  # type: ignore[arg-type]
        p50_latency=near(50.5),
        p99_latency=near(99.01),
        cost_per_plan=pytest.approx(0.005),  # type: ignore[arg-type]
    )
    assert found[B] == VariantMetrics(1, 0.0, 0.0, 0.0, near(7), near(7), None)


def test_repeated_events_change_nothing(session: Session, now: datetime) -> None:
    for _ in range(3):
        event(session, "plan_generated", "p", IN_A, metrics={"latency_ms": 100, "cost": 1})
        event(session, "plan_accepted", "p", IN_A)
        event(session, "validator_intervention", "p", IN_A)
        event(session, "edit_applied", "p", IN_A, meal=1)
    assert of_a(session, now) == VariantMetrics(1, 1.0, 1.0, 1.0, near(100), near(100), 1.0)


def test_of_a_plan_that_was_generated_twice_the_first_counts(session: Session, now: datetime) -> None:
    event(session, "plan_generated", "p", IN_B, at=now, metrics={"latency_ms": 900})
    event(session, "plan_generated", "p", IN_A, at=now - timedelta(hours=1), metrics={"latency_ms": 100})
    event(session, "plan_accepted", "p", IN_B, at=now)
    assert measured(session, now) == {A: VariantMetrics(1, 1.0, 0.0, 0.0, near(100), near(100), None)}


def test_late_events_count_where_they_belong(session: Session, now: datetime) -> None:
    """Stored today about last week: what counts is when it happened."""
    event(session, "plan_generated", "before", IN_A, at=now - timedelta(days=7, seconds=1))
    event(session, "plan_accepted", "before", IN_A, at=now)
    event(session, "plan_generated", "after", IN_A, at=now - timedelta(days=6, hours=23))
    event(session, "plan_accepted", "after", IN_A, at=now - timedelta(days=6))
    assert of_a(session, now, days=7).sample_size == 1
    assert of_a(session, now, days=7).acceptance_rate == 1.0
    assert of_a(session, now, days=8).sample_size == 2


def test_what_names_no_plan_no_experiment_or_another(session: Session, now: datetime) -> None:
    event(session, "plan_generated", "p", IN_A)
    event(session, "plan_generated", None, IN_A)
    event(session, "plan_accepted", None, IN_A)
    event(session, "plan_generated", "q")
    event(session, "plan_generated", "r", [(ELSEWHERE, A)])
    event(session, "plan_accepted", "p", [(ELSEWHERE, A)])
    event(session, "edit_applied", "unknown", IN_A)
    assert measured(session, now) == {A: VariantMetrics(1, 0.0, 0.0, 0.0)}


def test_one_event_for_two_experiments(session: Session, now: datetime) -> None:
    event(session, "plan_generated", "p", [(ELSEWHERE, B), (HERE, A)], metrics={"latency_ms": 5})
    event(session, "plan_accepted", "p", [(HERE, A), (ELSEWHERE, B)])
    assert measured(session, now) == {A: VariantMetrics(1, 1.0, 0.0, 0.0, near(5), near(5), None)}


@pytest.mark.parametrize("variant", ["not-a-uuid", "", None])
def test_a_variant_that_is_none_is_left_out(session: Session, now: datetime, variant: Any) -> None:
    event(session, "plan_generated", "p", IN_A)
    event(session, "plan_generated", "q", [(HERE, variant)])
    session.execute(
        text("UPDATE exp.events SET experiments = jsonb_set(experiments, '{0,variant_id}', 'null')"
             " WHERE payload ->> 'plan_id' = 'q' AND :null"),
        {"null": variant is None},
    )  # fmt: skip
    assert set(measured(session, now)) == {A}


def test_a_variant_that_no_longer_exists_keeps_what_was_counted(session: Session, now: datetime) -> None:
    event(session, "plan_generated", "p", IN_A)
    event(session, "plan_generated", "q", IN_B)
    assert {key: m.sample_size for key, m in measured(session, now).items()} == {A: 1, B: 1}
    session.execute(text("DELETE FROM exp.variants WHERE id = :b"), {"b": B})
    event(session, "plan_generated", "r", IN_B)
    assert {key: m.sample_size for key, m in measured(session, now).items()} == {A: 1, B: 1}
    assert sum(measure.flaws(session, HERE)["orphaned"].values()) == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metrics", "[]"), ("metrics", '"fast"'), ("metrics", "null"), ("metrics", '{"latency_ms": {"p50": 1}}'),
        ("metrics", '{"latency_ms": [1]}'), ("metrics", '{"latency_ms": true}'),
        ("payload", "[]"), ("payload", '"p"'), ("payload", "null"),
        ("experiments", "{}"), ("experiments", "null"), ("experiments", '"all"'), ("experiments", "[1, null, []]"),
    ],
)  # fmt: skip
def test_an_odd_event_spoils_nothing(session: Session, now: datetime, column: str, value: str) -> None:
    event(session, "plan_generated", "odd", IN_A)
    session.execute(text(f"UPDATE exp.events SET {column} = CAST(:value AS jsonb)"), {"value": value})
    event(session, "plan_generated", "p", IN_A, metrics={"latency_ms": 100})
    found = of_a(session, now)
    assert (found.sample_size, found.p50_latency) == (2 if column == "metrics" else 1, near(100))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12.5, 12.5),
        (0, 0.0),
        ("12.5", 12.5),
        (" 12.5 ", 12.5),
        ("+3", 3.0),
        ("5.", 5.0),
        ("1.2e3", 1200.0),
        ("1.5E-05", 1.5e-5),
        (0.30000000000000004, 0.30000000000000004),
        ("0.30000000000000004", 0.30000000000000004),
        ("-1", None),
        (None, None),
        ("", None),
        ("fast", None),
        ("12 ms", None),
        ("1,200", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e400", None),
        ("1e7", None),
        ("0x10", None),
        ("--1", None),
        ("٣", None),
    ],
)
def test_what_reads_as_a_number(session: Session, now: datetime, value: Any, number: float | None) -> None:
    event(session, "plan_generated", "p", IN_A, metrics={"cost": value})
    assert of_a(session, now).cost_per_plan == (None if number is None else pytest.approx(number, abs=1e-9))


@pytest.mark.parametrize(
    ("number", "p50"), [("1e400", 100), ("-1e400", 100), ("1" + "0" * 200, 100), ("1e-400", 1)]
)  # the last is a number, below the first bin
def test_a_json_number_beyond_any_float_spoils_nothing(
    session: Session, now: datetime, number: str, p50: float
) -> None:
    event(session, "plan_generated", "p", IN_A, metrics={"latency_ms": 100})
    event(session, "plan_generated", "q", IN_A)
    session.execute(
        text("UPDATE exp.events SET metrics = CAST(:m AS jsonb) WHERE payload ->> 'plan_id' = 'q'"),
        {"m": f'{{"latency_ms": {number}}}'},
    )
    found = of_a(session, now)
    assert (found.sample_size, found.p50_latency) == (2, near(p50))


values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.from_regex(r"[-+ ]?[0-9]{0,20}[.,]?[0-9]{0,20}([eE][-+]?[0-9]{0,3})?", fullmatch=True),
    st.booleans(),
    st.none(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values, is_text=st.booleans())
def test_whatever_arrives_is_a_number_or_nothing(session: Session, now: datetime, value: Any, is_text: bool) -> None:
    sent = str(value) if is_text and isinstance(value, int | float) else value
    session.execute(text("DELETE FROM exp.events"))
    session.execute(text("DELETE FROM promotion.samples_daily"))
    rollup.rebuild(session)
    event(session, "plan_generated", "p", IN_A, metrics={"latency_ms": sent, "cost": sent, "edit_count": sent})
    found = of_a(session, now)
    assert found.p50_latency is None or math.isfinite(found.p50_latency)
    if isinstance(value, float | int) and not isinstance(value, bool) and (value == 0 or 1e-20 < value <= 1e6):
        assert found.cost_per_plan == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("metrics", "price", "cost"),
    [
        ({"cost": 0.02, "token_count": 9000}, "0.5", 0.02),
        ({"token_count": 1500}, "0.002", 0.003),
        ({"token_count": "1500", "cost": None}, "0.002", 0.003),
        ({"token_count": 1500}, None, None),
        ({"cost": "0.02"}, None, 0.02),
        ({}, "0.002", None),
        ({"cost": 0}, "0.002", 0.0),
    ],
)
def test_cost_is_logged_or_tokens_times_the_price(
    session: Session, now: datetime, metrics: dict[str, Any], price: str | None, cost: float | None
) -> None:
    event(session, "plan_generated", "p", IN_A, metrics=metrics)
    found = of_a(session, now, price=price).cost_per_plan
    assert found == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    ("on_plan", "on_edits", "edits"),
    [
        ({}, [], 0),
        ({}, [None, None, None], 3),
        ({}, [{"edit_count": 4}], 4),
        ({}, [{"edit_count": 1}, {"edit_count": 2}, {"edit_count": 3}], 3),
        ({}, [{"edit_count": 1}, {"edit_count": 1}, {"edit_count": 1}], 3),
        ({"edit_count": 2}, [], 2),
        ({"edit_count": "2"}, [{"edit_count": None}], 2),
        ({"edit_count": 0}, [None], 1),
    ],
)
def test_edits_are_events_or_a_logged_count(
    session: Session, now: datetime, on_plan: dict[str, Any], on_edits: list[Any], edits: int
) -> None:
    event(session, "plan_generated", "p", IN_A, metrics=on_plan)
    for n, metrics in enumerate(on_edits):
        event(session, "edit_applied", "p", IN_A, metrics=metrics, meal=n)
    assert of_a(session, now).avg_edits == edits


def test_a_logged_count_on_another_outcome(session: Session, now: datetime) -> None:
    event(session, "plan_generated", "p", IN_A)
    event(session, "plan_accepted", "p", IN_A, metrics={"edit_count": 5})
    assert of_a(session, now).avg_edits == 5


def test_it_takes_time_in_proportion_to_the_traffic(engine: Engine) -> None:
    """Statistics of a fresh table mislead the planner; the query must not turn quadratic by that."""
    with Session(engine) as session:
        for kind in ("plan_generated", "plan_accepted", "edit_applied"):
            session.execute(
                text(
                    "INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, metrics, payload, timestamp)"
                    " SELECT :kind, 'user', 'u', jsonb_build_array(jsonb_build_object("
                    " 'experiment_id', CAST(:e AS text), 'variant_id', CAST(:v AS text))),"
                    " '{\"latency_ms\": 400}', jsonb_build_object('plan_id', n), now() FROM generate_series(1, 10000) n"
                ),
                {"kind": kind, "e": str(HERE), "v": str(A)},
            )
        session.commit()
    with db.transaction(engine, patience_ms=5_000) as session:
        assert rollup.advance(session).events == 30_000
