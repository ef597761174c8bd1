"""Steps up, production, and the way back, on a real database and, where tags matter, a real registry."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from core import db, evidence, experiments, promotions, stages
from core.errors import Refused
from core.registry import Registry
from core.rules.decision import CheckRow, Terms
from core.rules.lifecycle import Stage
from core.tables import AllocationStep
from tests.core import steps
from tests.core.conftest import EXPERIMENT, add_variant, add_version, set_stage
from tests.core.steps import (
    BECAUSE,
    alias,
    change,
    deliver_registry,
    place,
    shares,
    shares_of,
    stages_of,
    tags,
    variant,
)
from tests.core.steps import version as policy_version

D = Decimal


@pytest.fixture
def trial(desk: Engine) -> Engine:
    """v3 runs at 10 % beside `control`."""
    change(desk, "start")
    return desk


@pytest.fixture
def live(trial: Engine) -> Engine:
    """v3 is in production, `control` archived."""
    change(trial, "promote", override=BECAUSE)
    return trial


def increase(engine: Engine, terms: Terms = steps.TERMS, **more: Any) -> None:
    with db.transaction(engine) as session:
        promotions.increase_allocation(session, experiment=EXPERIMENT, terms=terms, **more)


def promote(engine: Engine, number: int = 3, **more: Any) -> None:
    with db.transaction(engine) as session:
        promotions.promote_to_production(
            session, experiment=EXPERIMENT, policy_version=policy_version(session, number).id, **more
        )


def rollback(engine: Engine, failed: str, **more: Any) -> str:
    with db.transaction(engine) as session:
        return promotions.rollback_variant(
            session, experiment=EXPERIMENT, failed_variant=failed, **({"reason": "slow"} | more)
        ).name


def second_candidate(engine: Engine, share: str = "0.10") -> None:
    """v1 joins as well."""
    with db.transaction(engine) as session:
        set_stage(session, policy_version(session, 1), Stage.CANDIDATE)
        experiments.add_candidate_variant(
            session, experiment=EXPERIMENT, policy_version=policy_version(session, 1), initial_allocation=share
        )


# --- One step at a time ---------------------------------------------------------------------------------------------


def test_ten_to_a_quarter_to_a_half_and_then_production(trial: Engine) -> None:
    for share, rest in (("0.25", "0.75"), ("0.5", "0.5")):
        increase(trial, actor="U1", reason="good")
        assert shares(trial) == shares_of(control=rest, candidate_v3=share)
    with pytest.raises(Refused, match=r"After 50 % comes production. Promote candidate_v3 instead"):
        increase(trial)
    last = steps.ledger(trial, "increase")[-1]
    assert (last.actor, last.reason, last.subject) == ("U1", "good", "candidate_v3")
    assert last.before == {"shares": {"control": "0.7500", "candidate_v3": "0.2500"}}
    assert last.after == {"shares": {"control": "0.5000", "candidate_v3": "0.5000"}}


def test_the_steps_can_be_configured(trial: Engine) -> None:
    increase(trial, Terms(steps=(D("0.05"), D("0.3"), D(1))))
    assert shares(trial)["candidate_v3"] == D("0.3")
    with pytest.raises(Refused, match="After 30 % comes production"):
        increase(trial, Terms(steps=(D("0.05"), D("0.3"), D(1))))


def test_every_step_is_on_record(trial: Engine) -> None:
    increase(trial)
    with db.transaction(trial) as session:
        found = session.query(AllocationStep).order_by(AllocationStep.id).all()
        candidate_id = str(variant(session, "candidate_v3").id)
    assert [D(step.shares.get(candidate_id, "0")) for step in found] == [0, D("0.1"), D("0.25")]


@pytest.mark.parametrize("status", ["draft", "paused", "completed"])
def test_shares_move_only_while_the_experiment_is_active(trial: Engine, status: str) -> None:
    with db.transaction(trial) as session:
        place(session).status = status
    with pytest.raises(Refused, match=f"is {status}; its shares change only while it is active"):
        increase(trial)
    with pytest.raises(Refused, match=f"is {status}"):
        promote(trial, override=BECAUSE)
    assert shares(trial) == shares_of(control="0.9", candidate_v3="0.1")


def test_one_without_traffic_has_to_be_started(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, place(session), "idle", "0")
    with pytest.raises(Refused, match=r"idle has no traffic. Start it first"):
        increase(desk, variant="idle")


# --- To production --------------------------------------------------------------------------------------------------


def test_the_documents_four_steps(trial: Engine, registry: Registry, client: MlflowClient) -> None:
    promote(trial, override="agreed in the review", actor="U2")
    assert shares(trial) == shares_of(control="0", candidate_v3="1")
    assert stages_of(trial, 1, 2, 3) == [Stage.ARCHIVED, Stage.ARCHIVED, Stage.PRODUCTION]
    deliver_registry(trial, registry)
    assert tags(client) == {"1": "archived", "2": "archived", "3": "production", "4": None}
    assert alias(client) == "3"
    with db.transaction(trial) as session:
        version, there = policy_version(session, 3).id, place(session).id
    assert steps.events(trial) == [
        (
            "model_promoted",
            {"policy_version_id": str(version), "mlflow_model_version": "3", "experiment_id": str(there)},
            [],
        )
    ]
    (entry,) = steps.ledger(trial, "promote")
    assert (entry.actor, entry.subject, entry.reason) == ("U2", "candidate_v3", "agreed in the review")
    assert entry.before == {
        "shares": {"control": "0.9000", "candidate_v3": "0.1000"}, "production": ["planner_policy v2"],
    }  # fmt: skip
    assert entry.after == {
        "shares": {"control": "0.0000", "candidate_v3": "1.0000"}, "production": ["planner_policy v3"],
    }  # fmt: skip


def test_a_failing_row_needs_an_override(trial: Engine) -> None:
    with pytest.raises(Refused) as refused:
        promote(trial)
    for title in ("Offline evaluation", "Minimum duration", "Sample size", "Acceptance", "Cost per plan"):
        assert title in str(refused.value)
    assert shares(trial) == shares_of(control="0.9", candidate_v3="0.1")
    assert steps.events(trial) == []


@pytest.mark.parametrize(("passed", "may"), [(True, True), (False, False), (None, False)])
def test_the_rows_that_the_deciders_saw_count(trial: Engine, passed: bool | None, may: bool) -> None:
    seen = [CheckRow("Offline evaluation", True, "replay"), CheckRow("Cost per plan", passed, "0.01 against 0.01")]
    if may:
        promote(trial, checked=seen)
        assert shares(trial)["candidate_v3"] == 1
        return
    with pytest.raises(Refused, match="Not ready for production: Cost"):
        promote(trial, checked=seen)


def test_other_candidates_become_candidates_again(trial: Engine, registry: Registry, client: MlflowClient) -> None:
    second_candidate(trial)
    promote(trial, override=BECAUSE)
    assert stages_of(trial, 1, 2, 3) == [Stage.CANDIDATE, Stage.ARCHIVED, Stage.PRODUCTION]
    assert shares(trial) == shares_of(control="0", candidate_v1="0", candidate_v3="1")
    deliver_registry(trial, registry)
    assert tags(client) == {"1": "candidate", "2": "archived", "3": "production", "4": None}


def test_production_of_the_model_elsewhere_is_archived_too(trial: Engine) -> None:
    """`control` here serves an old version; the model's production runs in another experiment."""
    with db.transaction(trial) as session:
        variant(session, "control").config = {"policy_version_id": str(policy_version(session, 1).id)}
    promote(trial, override=BECAUSE)
    assert stages_of(trial, 1, 2, 3) == [Stage.ARCHIVED, Stage.ARCHIVED, Stage.PRODUCTION]


@pytest.mark.parametrize(("number", "says"), [(1, "has no variant in"), (None, "There is no policy version")])
def test_what_has_no_variant_here(trial: Engine, number: int | None, says: str) -> None:
    with db.transaction(trial) as session:
        version = policy_version(session, number).id if number else uuid.uuid4()
    with pytest.raises(Refused, match=says), db.transaction(trial) as session:
        promotions.promote_to_production(session, experiment=EXPERIMENT, policy_version=version, override=BECAUSE)


def test_only_from_the_experiment_stage(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, place(session), "hand_made", "0", policy_version(session, 3))
    with pytest.raises(Refused, match="in stage “candidate” and cannot become “production”"):
        promote(desk, override=BECAUSE)


def test_an_unlinked_variant_cannot_be_promoted_or_judged(desk: Engine) -> None:
    with db.transaction(desk) as session:
        variant(session, "control").allocation = D("0.9")
        add_variant(session, place(session), "rules", "0.1")
    with pytest.raises(Refused, match="rules links to no policy version, so it cannot be promoted"):
        steps.ask(desk, "promote", variant="rules", override=BECAUSE)


@pytest.mark.parametrize("link", ["nothing", "no model"])
def test_over_a_baseline_that_serves_no_model_and_back(
    trial: Engine, registry: Registry, client: MlflowClient, link: str
) -> None:
    """The first model ever replaces plain rules or a prompt; the way back must exist all the same."""
    with db.transaction(trial) as session:
        session.execute(text("DELETE FROM promotion.stages WHERE stage = 'production'"))
        control = policy_version(session, 2)
        control.mlflow_model_name = control.mlflow_model_version = None
        if link == "nothing":
            variant(session, "control").config = {}
    change(trial, "promote", override=BECAUSE)
    deliver_registry(trial, registry)
    assert (tags(client)["3"], alias(client)) == ("production", "3")
    change(trial, "rollback", variant="candidate_v3", reason="worse than the rules")
    assert shares(trial) == shares_of(control="1", candidate_v3="0")
    assert stages_of(trial, 3) == [Stage.ARCHIVED]
    deliver_registry(trial, registry)
    assert tags(client)["3"] == "archived"
    assert alias(client) is None, "nothing is in production, so nothing may be loaded as such"


# --- And back -------------------------------------------------------------------------------------------------------


def test_a_failed_candidate_gives_everything_back(trial: Engine, registry: Registry, client: MlflowClient) -> None:
    assert rollback(trial, "candidate_v3", actor="U3", reason="p99 doubled") == "control"
    assert shares(trial) == shares_of(control="1", candidate_v3="0")
    assert stages_of(trial, 2, 3) == [Stage.PRODUCTION, Stage.ARCHIVED]
    deliver_registry(trial, registry)
    assert tags(client) == {"1": "archived", "2": "production", "3": "archived", "4": None}
    assert alias(client) == "2"
    ((kind, payload, experiments_of_event),) = steps.events(trial)
    assert (kind, payload["reason"], experiments_of_event) == ("model_rollback", "p99 doubled", [])
    with db.transaction(trial) as session:
        assert payload["failed_variant_id"] == str(variant(session, "candidate_v3").id)
    (entry,) = steps.ledger(trial, "rollback")
    assert (entry.actor, entry.subject, entry.reason) == ("U3", "candidate_v3", "p99 doubled")
    assert entry.before == {"shares": {"control": "0.9000", "candidate_v3": "0.1000"}}
    assert entry.after == {"shares": {"control": "1.0000", "candidate_v3": "0.0000"}, "restored": None}


@pytest.mark.parametrize(
    ("scope", "after", "stage_of_other"),
    [
        ("all", {"control": "1", "candidate_v1": "0", "candidate_v3": "0"}, Stage.CANDIDATE),
        ("share", {"control": "0.91", "candidate_v1": "0", "candidate_v3": "0.09"}, Stage.EXPERIMENT),
    ],
)
def test_with_two_candidates(trial: Engine, scope: Any, after: dict[str, str], stage_of_other: Stage) -> None:
    second_candidate(trial)
    rollback(trial, "candidate_v1", scope=scope)
    assert shares(trial) == shares_of(**after)
    assert stages_of(trial, 1, 2, 3) == [Stage.ARCHIVED, Stage.PRODUCTION, stage_of_other]


def test_to_another_variant_that_is_named(trial: Engine) -> None:
    """What takes all the traffic stays in the experiment; only what lost its traffic is sent back."""
    second_candidate(trial)
    assert rollback(trial, "candidate_v1", baseline_variant="candidate_v3") == "candidate_v3"
    assert shares(trial) == shares_of(control="0", candidate_v1="0", candidate_v3="1")
    assert stages_of(trial, 1, 2, 3) == [Stage.ARCHIVED, Stage.PRODUCTION, Stage.EXPERIMENT]


@pytest.mark.parametrize("status", ["paused", "completed", "draft"])
def test_in_any_status_of_the_experiment(trial: Engine, status: str) -> None:
    with db.transaction(trial) as session:
        place(session).status = status
    change(trial, "rollback", reason="now")
    assert shares(trial) == shares_of(control="1", candidate_v3="0")


def test_of_a_variant_that_links_to_nothing(desk: Engine) -> None:
    with db.transaction(desk) as session:
        variant(session, "control").allocation = D("0.9")
        add_variant(session, place(session), "rules", "0.1")
    change(desk, "rollback", reason="broken")
    assert shares(desk) == shares_of(control="1", rules="0")
    assert stages_of(desk, 2) == [Stage.PRODUCTION]


def test_production_gives_way_to_what_it_replaced(live: Engine, registry: Registry, client: MlflowClient) -> None:
    deliver_registry(live, registry)
    second = shares(live)
    assert second["candidate_v3"] == 1
    assert rollback(live, "candidate_v3") == "control"
    assert shares(live) == shares_of(control="1", candidate_v3="0")
    assert stages_of(live, 2, 3) == [Stage.PRODUCTION, Stage.ARCHIVED]
    deliver_registry(live, registry)
    assert tags(client) == {"1": "archived", "2": "production", "3": "archived", "4": None}
    assert alias(client) == "2"
    assert steps.ledger(live, "rollback")[-1].after == {
        "shares": {"control": "1.0000", "candidate_v3": "0.0000"}, "restored": "planner_policy v2",
    }  # fmt: skip


@pytest.mark.parametrize(("taken", "name"), [((), "candidate_v2"), (("candidate_v2",), "candidate_v2_2")])
def test_also_when_its_variant_was_deleted(live: Engine, taken: tuple[str, ...], name: str) -> None:
    with db.transaction(live) as session:
        experiments.retire_old_variants(session, experiment=EXPERIMENT, mode="delete")
        for other in taken:
            add_variant(session, place(session), other, "0")
    assert set(shares(live)) == {"candidate_v3", *taken}
    assert rollback(live, "candidate_v3") == name
    assert shares(live) == {**dict.fromkeys(taken, D(0)), name: D(1), "candidate_v3": D(0)}
    assert stages_of(live, 2, 3) == [Stage.PRODUCTION, Stage.ARCHIVED]
    with db.transaction(live) as session:
        restored = variant(session, name)
        assert restored.config == {"policy_version_id": str(policy_version(session, 2).id), "params": {}}


def test_also_when_its_name_was_taken_since(live: Engine) -> None:
    with db.transaction(live) as session:
        add_variant(session, place(session), "control", "0")
    assert rollback(live, "candidate_v3").startswith("control_archived_")
    assert sorted(shares(live).values()) == [0, 0, 1]


def test_twice_in_a_row_goes_back_twice(live: Engine) -> None:
    with db.transaction(live) as session:
        set_stage(session, policy_version(session, 1), Stage.CANDIDATE)
        experiments.add_candidate_variant(session, experiment=EXPERIMENT, policy_version=policy_version(session, 1))
    promote(live, 1, override=BECAUSE)
    assert rollback(live, "candidate_v1") == "candidate_v3"
    assert stages_of(live, 1, 2, 3) == [Stage.ARCHIVED, Stage.ARCHIVED, Stage.PRODUCTION]
    assert rollback(live, "candidate_v3") == "control"
    assert stages_of(live, 1, 2, 3) == [Stage.ARCHIVED, Stage.PRODUCTION, Stage.ARCHIVED]
    assert shares(live) == shares_of(control="1", candidate_v1="0", candidate_v3="0")


def test_production_elsewhere_is_not_taken_down(live: Engine) -> None:
    """What v3 replaced serves another model, of which another experiment made v4 production: that one stays."""
    with db.transaction(live) as session:
        made = add_version(session, policy_version(session, 1).policy, 4)
        set_stage(session, made, Stage.ARCHIVED)
        session.execute(text("UPDATE exp.policy_versions SET mlflow_model_name = 'other' WHERE version IN (2, 4)"))
        session.execute(
            text("UPDATE promotion.stages SET mlflow_model_name = 'other' WHERE mlflow_model_version IN ('2', '4')")
        )
        session.execute(text("UPDATE promotion.stages SET stage = 'production' WHERE mlflow_model_version = '4'"))
    assert stages_of(live, 2, 3, 4) == [Stage.ARCHIVED, Stage.PRODUCTION, Stage.PRODUCTION]
    assert rollback(live, "candidate_v3") == "control"
    assert shares(live) == shares_of(control="1", candidate_v3="0")
    assert stages_of(live, 2, 3, 4) == [Stage.ARCHIVED, Stage.ARCHIVED, Stage.PRODUCTION]


def test_where_nothing_is_known_to_return_to(desk: Engine) -> None:
    with pytest.raises(Refused, match="no version before it that did not fail is on record"):
        rollback(desk, "control")
    with db.transaction(desk) as session:
        add_variant(session, place(session), "rules", "0")
    assert rollback(desk, "control", baseline_variant="rules") == "rules"
    assert shares(desk) == shares_of(control="0", rules="1")
    assert stages_of(desk, 2) == [Stage.ARCHIVED]


@pytest.mark.parametrize("failed", ["candidate_v3", "control"])
def test_never_to_itself(trial: Engine, failed: str) -> None:
    with pytest.raises(Refused, match=f"{failed} is the baseline itself"):
        rollback(trial, failed, baseline_variant=failed)


def test_a_share_cannot_be_returned_where_the_shares_are_wrong_but_everything_can(trial: Engine) -> None:
    """An adopted database has no constraint of ours on its variants."""
    with trial.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE exp.variants SET allocation = 0.5 WHERE name = 'control'"))
    with pytest.raises(Refused, match=r"add up to 0\.6000"):
        rollback(trial, "candidate_v3", scope="share")
    rollback(trial, "candidate_v3")
    assert shares(trial) == shares_of(control="1", candidate_v3="0")


def test_predecessors_are_remembered(live: Engine) -> None:
    with db.transaction(live) as session:
        before = stages.predecessor(session, policy_version(session, 3).id)
        assert before is not None
        assert stages.label(before) == "planner_policy v2"
        assert stages.predecessor(session, policy_version(session, 2).id) is None


def test_control_events_never_count_as_traffic(live: Engine) -> None:
    rollback(live, "candidate_v3")
    with db.transaction(live) as session:
        assert evidence.measure_step(session, place(session), steps.TERMS) == {}
    assert len(steps.events(live)) == 2


def test_what_failed_is_never_returned_to(live: Engine) -> None:
    """v3 was rolled back; when `control` fails as well, v3 does not come back without qualifying."""
    rollback(live, "candidate_v3")
    with pytest.raises(Refused, match="did not fail"):
        rollback(live, "control")
    assert shares(live)["control"] == 1


def test_a_version_that_another_variant_serves_did_not_fail(trial: Engine) -> None:
    """Two variants of one policy version that differ in params only: the rollback of one leaves the version alone."""
    with db.transaction(trial) as session:
        add_variant(session, place(session), "explore_more", "0", policy_version(session, 2))
        session.execute(text("UPDATE exp.variants SET allocation = 0.8 WHERE name = 'control'"))
        session.execute(text("UPDATE exp.variants SET allocation = 0.1 WHERE name = 'explore_more'"))
    assert rollback(trial, "explore_more") == "control"
    assert stages_of(trial, 2, 3) == [Stage.PRODUCTION, Stage.CANDIDATE]
    assert shares(trial) == shares_of(control="1", candidate_v3="0", explore_more="0")
