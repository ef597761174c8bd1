"""Events become samples: each plan once, whatever arrives in whatever order, cut short or twice at once."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from core import db, measure, rollup
from core.rules import samples
from tests.core.raw_events import (
    CANDIDATE,
    CONTROL,
    DAY,
    GONE,
    HOUR,
    ONE,
    OTHER,
    START,
    TWO,
    Happened,
    accepted,
    arrive,
    catch_up,
    edit,
    flaws,
    generated,
    intervention,
    kept,
    rebuilt,
    run,
    sums,
)


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
