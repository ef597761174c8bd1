"""What people are shown: frozen values, from the rows as they are now."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from core import cards, choices, db, experiments, rollout_cards
from core.cards import Place
from core.errors import Refused
from core.registry import Registry
from core.rollout_cards import ExperimentCard
from core.rules.decision import AllTerms, Rule, Rulebook, Terms
from core.rules.lifecycle import Stage
from core.tables import Experiment
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, add_variant, set_stage
from tests.core.steps import ALICE, BECAUSE, BOB, TERMS, change, days_pass, place, serve, variant


def shown(engine: Engine, terms: AllTerms = TERMS, *, measured: bool = True) -> ExperimentCard:
    with db.transaction(engine) as session:
        return rollout_cards.experiment_card(session, EXPERIMENT, terms=terms, measured=measured)


def test_an_experiment_at_a_glance(desk: Engine) -> None:
    change(desk, "start")
    serve(desk, "control", 30)
    serve(desk, "candidate_v3", 10, accepted=0.5, latency_ms=480)
    number = steps.ask(desk, "increase", override=BECAUSE)
    found = shown(desk)
    assert (found.name, found.status, found.open_request, found.note) == (EXPERIMENT, "active", number, None)
    lines = [(v.name, v.role, v.share, v.served, v.version, v.model, v.stage) for v in found.variants]
    assert lines == [
        ("control", "baseline", Decimal("0.9"), 0.75, "planner_policy v2", f"{MODEL} 2", "production"),
        ("candidate_v3", "candidate", Decimal("0.1"), 0.25, "planner_policy v3", f"{MODEL} 3", "experiment"),
    ]
    (candidate,) = found.candidates
    decision = candidate.decision
    assert (candidate.variant, decision.action, candidate.next_step) == ("candidate_v3", "wait", Decimal("0.25"))
    assert decision.why == "10 of the 1,000 plans needed have been served."
    assert {f.state for f in decision.findings} == {"not measurable"}, "ten plans are too few to judge by"


def test_no_traffic_is_said_and_not_shown_as_zero(desk: Engine) -> None:
    change(desk, "start")
    found = shown(desk)
    assert [v.served for v in found.variants] == [None, None]
    decision = found.candidates[0].decision
    assert {(f.overall.candidate, f.state) for f in decision.findings} == {(None, "not measurable")}


def test_a_variant_at_nothing_that_still_serves_is_seen(desk: Engine) -> None:
    """Assignments are kept, so a rollback does not move the units that already have the variant."""
    change(desk, "start")
    change(desk, "rollback", reason="slow")
    serve(desk, "candidate_v3", 5)
    serve(desk, "control", 15)
    line = next(v for v in shown(desk).variants if v.name == "candidate_v3")
    assert (line.share, line.served, line.role, line.stage) == (0, 0.25, "", "archived")


def test_only_what_happened_at_the_present_step_counts(desk: Engine) -> None:
    change(desk, "start")
    serve(desk, "candidate_v3", 50)
    days_pass(desk, 1)
    change(desk, "increase", override=BECAUSE)
    assert shown(desk).candidates[0].decision.why == "0 of the 1,000 plans needed have been served."


@pytest.mark.parametrize(
    ("latency_ms", "days", "verdict"), [(400, 3.1, "increase"), (400, 2.9, "wait"), (600, 3.1, "rollback")]
)
@pytest.mark.parametrize("rule", ["calibrated", "document"])
def test_the_verdict_is_the_rules(desk: Engine, latency_ms: float, days: float, verdict: str, rule: Rule) -> None:
    change(desk, "start")
    steps.serve_all(desk, 10_000, latency_ms=latency_ms)
    days_pass(desk, days)
    decision = shown(desk, Rulebook(own={EXPERIMENT: Terms(rule=rule)})).candidates[0].decision
    assert (decision.action, decision.rule) == (verdict, rule)


def test_two_candidates_are_shown_side_by_side(desk: Engine) -> None:
    change(desk, "start")
    with db.transaction(desk) as session:
        set_stage(session, steps.version(session, 1), Stage.CANDIDATE)
        experiments.add_candidate_variant(session, experiment=EXPERIMENT, policy_version=steps.version(session, 1))
    assert {c.variant for c in shown(desk).candidates} == {"candidate_v1", "candidate_v3"}
    assert shown(desk, measured=False).candidates == ()


def test_the_checklist_of_one_candidate(desk: Engine) -> None:
    change(desk, "start")
    with db.transaction(desk) as session:
        steps.qualified(session, 3)
        name, rows = rollout_cards.checklist_card(session, EXPERIMENT, None, terms=TERMS)
    assert (name, len(rows)) == ("candidate_v3", 10)
    passed = {row.title: (row.passed, row.detail) for row in rows}
    assert passed["Offline evaluation"] == (True, "replay on d1")
    assert passed["Policy version"] == (True, f"planner_policy v3 → {MODEL} 3")
    assert passed["Experiment variant"][0] is True
    assert passed["Sample size"] == (False, "0 of 1,000 plans")
    assert passed["Cost per plan"][0] is None


@pytest.mark.parametrize(
    ("source", "passed", "detail"),
    [
        ("replay", True, "replay on d1"),
        ("run", True, "MLflow run on d1"),
        ("tag", True, "tagged by the pipeline"),
        ("override", False, "overridden: None"),
        (None, None, "no evaluation on record"),
    ],
)
def test_where_the_evaluation_came_from(desk: Engine, source: str | None, passed: bool | None, detail: str) -> None:
    change(desk, "start")
    with db.transaction(desk) as session:
        if source:
            steps.qualified(session, 3, source)
        _, rows = rollout_cards.checklist_card(session, EXPERIMENT, "candidate_v3", terms=TERMS)
    assert (rows[0].passed, rows[0].detail) == (passed, detail)


def test_the_first_share_of_the_present_run_counts(desk: Engine) -> None:
    """An earlier run that began at a half, by hand, does not stand against the present one."""
    change(desk, "start")
    with desk.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE promotion.allocation_steps SET shares = (SELECT jsonb_object_agg(id, 0.5) FROM exp.variants)"
            " WHERE id = (SELECT max(id) FROM promotion.allocation_steps)"
        )

    def row() -> tuple[bool | None, str]:
        with db.transaction(desk) as session:
            _, rows = rollout_cards.checklist_card(session, EXPERIMENT, "candidate_v3", terms=TERMS)
        return rows[2].passed, rows[2].detail

    assert row()[0] is False
    change(desk, "rollback", reason="slow")
    with db.transaction(desk) as session:
        set_stage(session, steps.version(session, 3), Stage.CANDIDATE)
    change(desk, "start")
    assert row()[0] is True


def test_lists_to_choose_from(desk: Engine) -> None:
    with db.transaction(desk) as session:
        for status in ("draft", "paused", "completed"):
            session.add(Experiment(name=f"exp_{status}", status=status))
        session.flush()
        assert choices.experiment_names(session, statuses=("draft", "paused", "active")) == [
            "exp_draft",
            "exp_paused",
            EXPERIMENT,
        ]
        assert choices.policy_names(session) == ["planner_policy"]
        found, total = rollout_cards.experiments(session, terms=TERMS)
        assert [e.name for e in found] == [EXPERIMENT, "exp_paused", "exp_draft", "exp_completed"]
        assert total == 4
        (line,) = choices.candidate_lines(session)
        assert (line.label, line.model) == ("planner_policy v3", f"{MODEL} 3")


def test_what_can_be_rolled_back(desk: Engine) -> None:
    def names() -> list[str]:
        with db.transaction(desk) as session:
            return [choice.variant for choice in choices.running_choices(session)]

    assert names() == []
    change(desk, "start")
    assert names() == ["candidate_v3"]
    change(desk, "promote", override=BECAUSE)
    assert names() == ["candidate_v3"], "in production, with what it replaced on record"
    change(desk, "rollback", variant="candidate_v3", reason="slow")
    assert names() == []


def test_also_where_it_replaced_plain_rules(desk: Engine) -> None:
    with db.transaction(desk) as session:
        variant(session, "control").name = "live"
        add_variant(session, place(session), "control", "0")
        assert [choice.variant for choice in choices.running_choices(session)] == ["live"]


def test_history_newest_first(desk: Engine) -> None:
    number = change(desk, "start", reason="new features")
    with db.transaction(desk) as session:
        lines = cards.history(session, EXPERIMENT)
        assert cards.history(session, EXPERIMENT, limit=1) == lines[:1]
        news = cards.notice(session, lines[0].id)
        assert news.line == lines[0]
        assert news.request == cards.request_card(session, number)
    assert [(line.action, line.actor, line.request_id) for line in lines] == [
        ("approve", BOB.id, number),
        ("request", ALICE.id, number),
    ]
    assert lines[0].after == {"shares": {"control": "0.9000", "candidate_v3": "0.1000"}}
    assert lines[1].reason == "new features"


def test_model_versions_with_both_stages(desk: Engine, registry: Registry) -> None:
    with db.transaction(desk) as session:
        lines = choices.model_lines(session, MODEL, registry)
        assert [(x.version, x.stage, x.tag, x.known_stage, x.policies) for x in lines] == [
            ("4", "none", None, "none", ()),
            ("3", "candidate", "candidate", "candidate", ("planner_policy v3",)),
            ("2", "production", "production", "production", ("planner_policy v2",)),
            ("1", "archived", "archived", "archived", ("planner_policy v1",)),
        ]
        assert choices.model_lines(session, None, registry) == lines
        with pytest.raises(Refused, match=f"MLflow has no model nope. Registered models: {MODEL}"):
            choices.model_lines(session, "nope", registry)


def test_a_card_knows_its_place(desk: Engine) -> None:
    with db.transaction(desk) as session:
        assert cards.place_of(session, "request:1") is None
        for ts in ("1.1", "1.2"):
            cards.remember_place(session, "request:1", Place("C1", ts))
    with db.transaction(desk) as session:
        assert cards.place_of(session, "request:1") == Place("C1", "1.2")


@pytest.mark.parametrize(
    "card", [c for c in vars(cards).values() if dataclasses.is_dataclass(c) and c.__module__ == "core.cards"]
)
def test_every_card_is_frozen(card: type) -> None:
    assert card.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["planner_policy_xp", "zzz"])
def test_an_experiment_that_is_not_there(desk: Engine, name: str) -> None:
    with db.transaction(desk) as session:
        for look in (cards.history, lambda s, n: rollout_cards.experiment_card(s, n, terms=TERMS)):
            with pytest.raises(Refused, match=f"no experiment {name}.*{EXPERIMENT}"):
                look(session, name)
        with pytest.raises(Refused, match="There is no request #9"):
            cards.request_card(session, 9)
