"""Who is new in an experiment, and what is collected for a team's own metrics."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from core import db, measure
from core.rules import samples
from core.rules.metrics import Collected, Metric, Ratio, value_of
from tests.core.raw_events import (
    CANDIDATE,
    CONTROL,
    DAY,
    FIELDS,
    HOUR,
    ONE,
    OWN,
    START,
    STEP_TWO,
    Happened,
    accepted,
    arrive,
    catch_up,
    generated,
    kept,
    open_step,
    rebuilt,
    sums,
)

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


def histogram(engine: Engine, name: str, variant: uuid.UUID = CONTROL) -> dict[int, int]:
    """How many values a histogram has in each of its bins."""
    with db.transaction(engine) as session:
        there = measure.samples(session, ONE)
    total = samples.Sample.total(s.variants[variant].sample for s in there if variant in s.variants)
    by_bin = total.counts_of(name).by_bin
    return {int(at): int(by_bin[at]) for at in by_bin.nonzero()[0]}


def test_a_ratio_of_events_and_of_what_they_log(platform: Engine) -> None:
    """A repeated event counts once; a plan that was generated before says nothing."""
    arrive(platform, generated("old"))
    catch_up(platform)
    shared, eaten = Happened("plan_shared", more=1), accepted(metrics={"kcal": "600.25"})
    arrive(platform, generated(metrics={"latency_ms": 500}), shared, shared, replace(shared, more=2), eaten, eaten)
    arrive(platform, generated("q", metrics={"latency_ms": 250}), accepted("q", metrics={"kcal": -4}))
    arrive(platform, Happened("plan_shared", "old"), accepted(at=START + 2 * HOUR, metrics={"kcal": 99.75}))
    catch_up(platform, collected=FIELDS[len(OWN) + 1 :], limit=3)
    assert own(platform) == {
        "kcal_per_share": 700 * samples.NANO, "kcal_per_share:over": 2, "kcal_per_share:plans": 2,
        "shares_per_second": 2, "shares_per_second:over": 750 * samples.NANO, "shares_per_second:plans": 2,
    }  # fmt: skip
    with db.transaction(platform) as session:
        sample = measure.samples(session, ONE)[0].variants[CONTROL].sample
    values = [value_of(Metric(c.name, c.name, "number", c.ratio), sample) for c in FIELDS[len(OWN) + 1 :]]
    assert values == [350, pytest.approx(2 / 750)]


def test_a_quantile_of_what_events_log(platform: Engine) -> None:
    values = [0, "0.00000005", 0.02, 1, 1.019, 3, 650.5, 1e9, "many", None, -1, 1e10]
    arrive(platform, *(generated(str(n)) for n in range(len(values))))
    arrive(platform, *(accepted(str(n), metrics={"kcal": value}) for n, value in enumerate(values)))
    arrive(platform, accepted("5", at=START + 2 * HOUR, metrics={"kcal": 999}))  # the first counts
    catch_up(platform, collected=FIELDS, limit=5)
    believed = [float(value) for value in values[:8]]
    bins = samples.bin_of(believed, samples.WIDE_EDGES).tolist()
    assert histogram(platform, "extra:kcal_p90") == {k: bins.count(k) for k in bins}
    assert bins[:2] == [0, 0]
    assert bins[3] == bins[4] == bins[2] + 198
    assert kept(platform) == rebuilt(platform, collected=FIELDS) == rebuilt(platform, ONE, collected=FIELDS)
    rebuilt(platform)
    assert histogram(platform, "extra:kcal_p90") == {}


def test_quantiles_and_ratios_move_with_their_plan(platform: Engine) -> None:
    arrive(platform, generated(at=STEP_TWO, variant=CANDIDATE), Happened("plan_shared"), accepted(metrics={"kcal": 5}))
    catch_up(platform, collected=FIELDS)
    before = own(platform, CANDIDATE), histogram(platform, "extra:kcal_p90", CANDIDATE)
    arrive(platform, generated(at=START + DAY))
    catch_up(platform)
    assert (own(platform, CANDIDATE), histogram(platform, "extra:kcal_p90", CANDIDATE)) == ({}, {})
    assert (own(platform), histogram(platform, "extra:kcal_p90")) == before
    assert before[1]


def test_as_many_metrics_as_one_likes(platform: Engine) -> None:
    """PostgreSQL gives a function no more than 100 arguments."""
    many = tuple(Collected(f"m{n}", "ratio", "plan_shared", None, ("plan_accepted", None)) for n in range(40))
    arrive(platform, generated(), accepted(), Happened("plan_shared"))
    catch_up(platform, collected=many)
    assert own(platform) == {f"m{n}{part}": 1 for n in range(40) for part in ("", ":over", ":plans")}


def test_a_metric_begins_with_the_plans_generated_under_it(platform: Engine) -> None:
    arrive(platform, generated())
    catch_up(platform)
    arrive(platform, generated("q"), Happened("meal_swapped"), Happened("meal_swapped", "q"))
    catch_up(platform, collected=OWN[:1])
    assert own(platform) == {"swapped": 1, "swapped:plans": 1}


@pytest.mark.parametrize("wrong", [("a:b", "share", "e", None), ("m", "mean", "e", None), ("c", "count", "e", "f"),
                                   ("q", "quantile", "e", None), ("r", "ratio", "e", None)])  # fmt: skip
def test_a_metric_that_cannot_be_collected(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"a metric's name|a mean needs|a ratio needs"):
        Collected(*wrong)
