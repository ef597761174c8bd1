"""Whatever order events arrive in, in whatever batches: the samples are the same to the last bit."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from core.rules import samples
from core.rules.metrics import Collected
from tests.core.raw_events import (
    CANDIDATE,
    CONTROL,
    FIELDS,
    GONE,
    HOUR,
    ONE,
    OTHER,
    OWN,
    START,
    STEP_TWO,
    TWO,
    WHERE,
    Happened,
    accepted,
    arrive,
    catch_up,
    generated,
    kept,
    open_step,
    rebuilt,
    run,
    sums,
)

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
    collected=st.sampled_from([(), OWN, FIELDS]),
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
