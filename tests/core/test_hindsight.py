"""Past verdicts on other terms: memory is carried along, what was never collected is said, nothing is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from core import db, hindsight, ledger, looks
from core.errors import Refused
from core.hindsight import Hindsight, Question
from core.rules import verdict
from core.rules.estimates import Step
from core.rules.samples import PLANS, Sample
from core.rules.sequential import Memory
from core.rules.verdict import Look
from core.settings import ApprovalsSection, ExperimentSection, MetricsSection, RolloutSection, Settings
from core.tables import Recommendation
from tests.core import steps
from tests.rules import worlds

DAYS = 8
SLOW = {"quantile": 0.9, "title": "Latency p90"}


def settings(minimum_samples: int = 1000, **custom: object) -> Settings:
    return Settings(
        rollout=RolloutSection(minimum_samples=minimum_samples),
        metrics=MetricsSection.model_validate({"custom": custom}),
    )


LOOSE, STRICT = (settings(p90_latency=SLOW | {"tolerance": tolerance}) for tolerance in (0.5, 0.05))


def slower(with_swaps: bool = False) -> list[Look]:
    """A candidate 7 % slower on eight days: when that is beyond chance depends on what earlier looks have spent."""
    arms: tuple[list[Sample], list[Sample]] = ([], [])
    found = []
    for day in range(1, DAYS + 1):
        arms[0].append(worlds.traffic(400, 5000 + day, p50_ms=500))
        arms[1].append(worlds.traffic(160, 5500 + day, p50_ms=535))
        parts = [Sample.total(arm) for arm in arms]
        if with_swaps:
            swaps = ("extra:swaps", "extra:swaps:plans")
            parts = [Sample.of({**p.sums, **dict.fromkeys(swaps, p.sum_of(PLANS))}, p.histograms) for p in parts]
        found.append(worlds.look(Step(*parts), days=float(day), in_step=float(day)))
    return found


def put(engine: Engine, seen: list[Look], found: Settings) -> list[str]:
    """Looks as if they had been made day by day, the last one today, on such terms; what they said."""
    memory, previous, said = Memory(), None, []
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        variant, today = steps.variant(session, "candidate_v3"), db.now_of(session).date()
        kept, terms = looks.keep(session, seen), found.terms.usual
        for n, look in enumerate(seen):
            decision, memory = verdict.decide(look, memory, terms)
            row = Recommendation(
                experiment_id=variant.experiment_id,
                variant_id=variant.id,
                first_step_id=2,
                step_id=2,
                day=today - timedelta(days=DAYS - 1 - n),
                is_daily=True,
                action=decision.action,
                why=decision.why,
                terms=looks.keep_terms(terms),
                look=kept[n],
                previous_id=previous,
                memory=memory.to_json(),
                decision=verdict.as_text(decision),
            )
            session.add(row)
            session.flush()
            previous = row.id
            said.append(decision.action)
    return said


def anew(engine: Engine, before: Settings, after: Settings, days: int = 90) -> Hindsight:
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS, only_reads=True) as session:
        since, redefined = hindsight.first_day(session, days), hindsight.redefined(session, after)
        question = Question(before, after, since, redefined)
        runs = hindsight.runs(session, question.since)
        return Hindsight.total([hindsight.judge_anew(session, run, question) for run in runs])


def changes(found: Hindsight) -> list[tuple[str, str, bool]]:
    return [(change.said, change.found, change.is_hypothetical) for change in found.changes]


@pytest.fixture
def place(desk: Engine) -> Engine:
    """A candidate that has joined."""
    steps.change(desk, "start")
    return desk


def test_what_earlier_looks_spent_is_carried_along(place: Engine) -> None:
    """With what was stored (of looser terms) day 7 would say increase, with nothing spent day 6 would say roll back."""
    assert put(place, slower(), LOOSE) == ["wait"] * 6 + ["increase"] * 2
    found = anew(place, LOOSE, STRICT)
    assert changes(found) == [("increase", "rollback", False), ("increase", "rollback", True)]
    assert (found.looks, found.not_whole, dict(found.without)) == (DAYS, 0, {})
    first = found.changes[0]
    assert (first.run.experiment, first.run.variant, first.is_older) == (steps.EXPERIMENT, "candidate_v3", False)
    assert first.why.startswith("Latency p90 is worse")
    # Days before the window are not counted, and what they leave is: the run began, and differed, before today.
    assert (anew(place, LOOSE, STRICT, 1).looks, changes(anew(place, LOOSE, STRICT, 1))) == (1, changes(found)[1:])


def test_the_same_terms_change_nothing_and_older_ones_are_told(place: Engine) -> None:
    put(place, slower(), LOOSE)
    with place.begin() as connection:
        connection.execute(text("UPDATE promotion.recommendations SET decision = NULL WHERE previous_id IS NULL"))
    same = LOOSE.model_copy(update={"approvals": ApprovalsSection(production=3)})
    assert anew(place, LOOSE, same) == Hindsight(DAYS, not_whole=1)
    assert [change.is_older for change in anew(place, STRICT, STRICT).changes] == [True, True]


def test_what_was_not_collected_is_said_and_holds_nothing_up(place: Engine) -> None:
    put(place, slower(), settings())
    swaps = {"count": "meal_swapped", "tolerance": 0.05, "required": True}
    found = anew(place, settings(), settings(swaps=swaps))
    assert len(found.without["swaps"]) == DAYS
    assert found == Hindsight(DAYS, without=found.without)


def test_sums_of_another_event_are_not_taken_for_a_metric_of_the_same_name(place: Engine) -> None:
    swaps = {"count": "meal_swapped", "tolerance": 0.05, "required": True}
    before, after = settings(swaps=swaps), settings(swaps=swaps | {"count": "plan_shared"})
    assert set(put(place, slower(with_swaps=True), before)) == {"wait"}  # all values are equal
    found = anew(place, before, after)
    assert len(found.without["swaps"]) == DAYS
    assert [(one.found, one.without) for one in found.changes] == [("increase", ("swaps",))] * 2


def test_sums_from_before_a_definition_was_changed_are_not_judged(place: Engine) -> None:
    swaps = {"count": "meal_swapped", "tolerance": 0.05, "required": True}
    first, now = settings(swaps=swaps | {"count": "plan_shared"}), settings(swaps=swaps)
    put(place, slower(with_swaps=True), now)

    def without(*records: Settings) -> int:
        with db.transaction(place) as session:
            for each in records:
                ledger.record_policy(session, each.policy)
        return len(anew(place, now, now).without.get("swaps", ()))

    assert without(settings(), now) == 0, "its beginning is no change"
    assert without(first, settings(), now) == DAYS
    with place.begin() as connection:
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = now() + interval '1 s'"))
    assert without() == 0, "the rollout began after the change"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ratio": ["meal_swapped", "plan_accepted"]}, {"ratio": ["meal_swapped", "plan_generated"]}),
        ({"ratio": ["a.b", "c"]}, {"ratio": ["a", "c"]}),
        ({"quantile": 0.9}, {"quantile": 0.9, "of": "plan_generated.token_count"}),
        ({"quantile": 0.9, "of": "a.b"}, {"quantile": 0.9, "of": "a.c"}),
        ({"mean": "a.b"}, {"quantile": 0.5, "of": "a.b"}),
    ],
)
def test_what_is_collected_otherwise_is_not_taken_for_the_same(place: Engine, before: Any, after: Any) -> None:
    """In the file of now against another, and where the definition was changed while a rollout went on."""
    there, then = (settings(own=each | {"tolerance": 0.05}) for each in (before, after))
    put(place, slower(), there)
    assert len(anew(place, there, then).without["own"]) == DAYS
    with db.transaction(place) as session:
        for each in (there, then):
            ledger.record_policy(session, each.policy)
    assert len(anew(place, then, then).without["own"]) == DAYS


def test_quantiles_of_one_histogram_are_known_together(place: Engine) -> None:
    before, after = (settings(own={"quantile": q, "of": "a.b", "tolerance": 0.05}) for q in (0.9, 0.99))
    put(place, slower(), before)
    assert dict(anew(place, before, after).without) == {}


def test_an_experiment_is_judged_anew_by_its_own(place: Engine) -> None:
    own = {"metrics": {"p90_latency": {"tolerance": 0.05}}}
    strict_here, strict_there = (
        LOOSE.model_copy(update={"experiments": {name: ExperimentSection.model_validate(own)}})
        for name in (steps.EXPERIMENT, "another_exp")
    )
    put(place, slower(), LOOSE)
    assert changes(anew(place, LOOSE, strict_here)) == changes(anew(place, LOOSE, STRICT)) != []
    assert changes(anew(place, LOOSE, strict_there)) == []


def test_a_higher_minimum_waits_longer(place: Engine) -> None:
    put(place, slower(), LOOSE)
    more = LOOSE.model_copy(update={"rollout": RolloutSection(minimum_samples=1200)})
    assert [(one.said, one.found, one.why) for one in anew(place, LOOSE, more).changes] == [
        ("increase", "wait", "1,120 of the 1,200 plans needed have been served.")
    ]


def test_nothing_is_written(place: Engine) -> None:
    with (
        pytest.raises(Refused, match="takes no changes"),
        db.transaction(place, only_reads=True) as session,
    ):
        session.execute(text("UPDATE promotion.recommendations SET day = day"))
