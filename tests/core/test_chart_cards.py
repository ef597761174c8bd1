"""What charts show is read from the record of steps and from the verdict, in percent and with its direction."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from core import chart_cards, db
from core.chart_cards import ChartCard, Difference
from core.errors import Refused
from core.rules.metrics import METRICS
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import BECAUSE, TERMS, change, days_pass, serve_all


def card_of(engine: Engine, variant: str | None = None) -> ChartCard:
    with db.transaction(engine, patience_ms=30_000) as session:
        return chart_cards.chart_card(session, EXPERIMENT, variant, terms=TERMS)


def test_shares_over_time_and_differences(desk: Engine) -> None:
    change(desk, "start")
    serve_all(desk, 6_000, accepted=0.6)
    days_pass(desk, 3)
    change(desk, "increase", override=BECAUSE)
    serve_all(desk, 6_000, accepted=0.6)

    card = card_of(desk)
    assert (card.experiment, card.variant, card.baseline, card.share) == (
        EXPERIMENT,
        "candidate_v3",
        "control",
        Decimal("0.25"),
    )
    assert card.variants == ("control", "candidate_v3")
    assert [dict(period.shares) for period in card.periods] == [
        {"control": Decimal(1)},
        {"control": Decimal("0.9"), "candidate_v3": Decimal("0.1")},
        {"control": Decimal("0.75"), "candidate_v3": Decimal("0.25")},
    ]
    assert sorted(period.started_at for period in card.periods) == [period.started_at for period in card.periods]
    assert card.periods[-1].started_at <= card.until

    found = {difference.metric.name: difference for difference in card.differences}
    acceptance = found["acceptance_rate"]
    assert acceptance.candidate == pytest.approx(0.6, abs=0.01)
    assert acceptance.change == pytest.approx(-25, abs=2)
    assert acceptance.limit == pytest.approx(-5)
    assert acceptance.low is not None
    assert acceptance.high is not None
    assert acceptance.low < acceptance.change < acceptance.high
    p99 = found["p99_latency"]
    assert p99.baseline is not None
    assert p99.limit == pytest.approx(100 * (2_000 / p99.baseline - 1))


def test_up_is_worse_whichever_direction_is_good() -> None:
    rising, falling = (next(m for m in METRICS if m.name == name) for name in ("avg_edits", "acceptance_rate"))
    edits = Difference(rising, "worse", 1.2, 1.0, 20.0, 15.0, 25.0, 10.0, None)
    accepted = Difference(falling, "worse", 0.8, 1.0, -20.0, -25.0, -15.0, -10.0, None)
    for found in (edits, accepted):
        assert (found.used_at_best, found.used, found.used_at_worst) == (150.0, 200.0, 250.0)
    better = replace(accepted, change=20.0, low=15.0, high=25.0)
    assert (better.used_at_best, better.used, better.used_at_worst) == (-250.0, -200.0, -150.0)
    for limit in (None, 0.0, -3.0):  # the baseline itself is beyond an absolute limit: nothing to be held against
        hopeless = replace(edits, limit=limit)
        assert hopeless.room is None
        assert hopeless.used is None


def test_without_a_candidate_there_are_shares_alone(desk: Engine) -> None:
    card = card_of(desk)
    assert (card.variant, card.differences, card.variants) == (None, (), ("control",))
    with pytest.raises(Refused, match="There is no variant"):
        card_of(desk, "nobody")
    with pytest.raises(Refused, match="is the baseline"):
        card_of(desk, "control")


def test_nothing_is_measurable_yet_and_says_why(desk: Engine) -> None:
    change(desk, "start")
    steps.roll_up(desk)
    card = card_of(desk)
    assert {difference.state for difference in card.differences} == {"not measurable"}
    assert all(difference.problem and difference.change is None for difference in card.differences)


def test_a_variant_that_was_deleted_keeps_its_part_of_the_past(desk: Engine) -> None:
    change(desk, "start")
    change(desk, "rollback", reason="it hurts")
    with desk.begin() as connection:
        connection.execute(text("DELETE FROM exp.variants WHERE name = 'candidate_v3'"))
    card = card_of(desk)
    assert card.variants[0] == "control"
    assert card.variants[1].startswith("deleted ")
    assert card.periods[1].shares[card.variants[1]] == Decimal("0.1")
