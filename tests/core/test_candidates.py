"""None → Candidate, on stored replays, on MLflow runs and on the pipeline's own tag."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from core import candidates, db, experiments, stages
from core.candidates import Evaluated
from core.errors import Refused
from core.registry import Registry
from core.rules.evaluation import SCORES
from core.rules.lifecycle import Stage
from core.tables import Qualification, ReplayResult
from tests.core import steps
from tests.core.conftest import MODEL
from tests.core.steps import deliver_registry, tags

PASSING = dict(zip(SCORES, (1.0, 0.8, 0.7, 0.6, 0.5), strict=True))
FAILING = PASSING | {"plan_alignment_score": 0.1}


def replay(
    session: Session,
    number: int,
    scores: dict[str, float],
    *,
    days_ago: float = 1,
    baseline: int | None = 2,
    **more: Any,
) -> ReplayResult:
    base = steps.version(session, baseline).id if baseline else None
    made = ReplayResult(
        policy_version_id=steps.version(session, number).id,
        baseline_version_id=base,
        created_at=steps.long_ago(session, days_ago),
        **({"dataset_version": "d1"} | scores | more),
    )
    session.add(made)
    session.flush()
    return made


def run(client: MlflowClient, version: int, scores: dict[str, float], *, status: str = "FINISHED", **more: str) -> str:
    wanted = {"model_name": MODEL, "model_version": str(version), "evaluation_type": "offline_replay"}
    made = client.create_run("0", tags=wanted | {"dataset_version": "d1"} | more)
    for name, value in scores.items():
        client.log_metric(made.info.run_id, name, value)
    if status != "RUNNING":
        client.set_terminated(made.info.run_id, status)
    return str(made.info.run_id)


def evaluated(engine: Engine, registry: Registry, version: int = 3) -> Evaluated:
    with db.transaction(engine) as session:
        return candidates.evaluate(
            session, mlflow_model_name=MODEL, mlflow_model_version=str(version), registry=registry
        )


def qualify(engine: Engine, registry: Registry, version: int = 3) -> Evaluated:
    with db.transaction(engine) as session:
        return candidates.qualify(
            session, mlflow_model_name=MODEL, mlflow_model_version=str(version), actor="U1", registry=registry
        )


def stage_of_model(engine: Engine, version: int) -> Stage | None:
    with db.transaction(engine) as session:
        return stages.decided(session, MODEL).get(str(version))


@pytest.fixture
def replayed(desk: Engine) -> Engine:
    """The production version's own result on dataset d1; v1 is a version that may qualify again."""
    with db.transaction(desk) as session:
        replay(session, 2, PASSING, baseline=None, days_ago=9)
    return desk


def test_a_replay_that_passes_makes_a_candidate(replayed: Engine, registry: Registry, client: MlflowClient) -> None:
    with db.transaction(replayed) as session:
        replay(session, 1, PASSING)
    found = qualify(replayed, registry, 1)
    assert (found.passed, found.source, found.dataset_version, found.baseline) == (
        True,
        "replay",
        "d1",
        "planner_policy v2",
    )
    assert found.acceptance is not None
    assert len(found.acceptance.rows) == 5
    assert steps.stages_of(replayed, 1) == [Stage.CANDIDATE]
    with db.transaction(replayed) as session:
        kept = session.get_one(Qualification, (MODEL, "1"))
        assert (kept.source, kept.actor) == ("replay", "U1")
        assert kept.evidence == found.as_evidence()
    (entry,) = steps.ledger(replayed, "qualify")
    assert (entry.actor, entry.subject) == ("U1", f"{MODEL} 1")
    assert entry.after is not None
    assert [row["passed"] for row in entry.after["rows"]] == [True] * 5
    deliver_registry(replayed, registry)
    assert tags(client)["1"] == "candidate"


def test_one_that_fails_changes_nothing(replayed: Engine, registry: Registry, client: MlflowClient) -> None:
    with db.transaction(replayed) as session:
        replay(session, 1, FAILING)
    found = qualify(replayed, registry, 1)
    assert not found.passed
    assert steps.stages_of(replayed, 1) == [Stage.ARCHIVED]
    assert steps.ledger(replayed) == []
    deliver_registry(replayed, registry)
    assert tags(client)["1"] == "archived"


@pytest.mark.parametrize(
    ("newer", "passed"),
    [
        ({"status": "running"}, True),
        ({"status": "failed", "error_message": "out of memory"}, True),
        ({"status": "completed"}, False),
    ],
)
def test_the_newest_completed_result_counts(
    replayed: Engine, registry: Registry, newer: dict[str, str], passed: bool
) -> None:
    with db.transaction(replayed) as session:
        replay(session, 3, PASSING, days_ago=2)
        replay(session, 3, FAILING, days_ago=1, **newer)
    assert evaluated(replayed, registry).passed is passed


@pytest.mark.parametrize(
    "of_baseline",
    [
        {"dataset_version": "d2"},
        {"status": "running"},
        {"status": "failed"},
    ],
)
def test_without_the_baseline_on_the_same_dataset_nothing_passes(
    desk: Engine, registry: Registry, of_baseline: dict[str, str]
) -> None:
    with db.transaction(desk) as session:
        replay(session, 2, PASSING, baseline=None, **of_baseline)
        replay(session, 3, PASSING, is_better_than_baseline=True)
    found = evaluated(desk, registry)
    assert not found.passed
    assert found.note == "There is no completed result of the baseline on the same dataset."
    assert found.acceptance is not None
    assert [row.passed for row in found.acceptance.rows] == [True, None, None, None, None]


def test_two_unknown_datasets_are_not_the_same(desk: Engine, registry: Registry) -> None:
    with db.transaction(desk) as session:
        replay(session, 2, PASSING, baseline=None, dataset_version=None)
        replay(session, 3, PASSING, dataset_version=None)
    assert not evaluated(desk, registry).passed


def test_a_result_without_a_baseline_does_not_pass(replayed: Engine, registry: Registry) -> None:
    with db.transaction(replayed) as session:
        replay(session, 3, PASSING, baseline=None)
    found = evaluated(replayed, registry)
    assert (found.passed, found.baseline) == (False, None)


@pytest.mark.parametrize(("scores", "pipeline"), [(PASSING, False), (FAILING, True)])
def test_a_disagreement_with_the_pipeline_is_said_and_does_not_pass(
    replayed: Engine, registry: Registry, scores: dict[str, float], pipeline: bool
) -> None:
    with db.transaction(replayed) as session:
        replay(session, 3, scores, is_better_than_baseline=pipeline)
    found = qualify(replayed, registry)
    assert not found.passed
    assert "not passed" in str(found.note)


def test_the_baselines_newest_result_counts(replayed: Engine, registry: Registry) -> None:
    with db.transaction(replayed) as session:
        replay(session, 2, PASSING | {"diversity_score": 0.9}, baseline=None, days_ago=3)
        replay(session, 3, PASSING)
    assert not evaluated(replayed, registry).passed


def test_a_run_is_evidence_before_any_policy_version_exists(
    engine: Engine, registry: Registry, client: MlflowClient
) -> None:
    run(client, 2, PASSING)
    made = run(client, 4, PASSING)
    found = qualify(engine, registry, 4)
    assert (found.passed, found.source, found.baseline) == (True, "run", f"{MODEL} 2")
    assert stage_of_model(engine, 4) == Stage.CANDIDATE
    deliver_registry(engine, registry)
    assert tags(client) == {"1": "archived", "2": "production", "3": "candidate", "4": "candidate"}
    assert client.get_run(made).info.status == "FINISHED"
    with db.transaction(engine) as session:
        version = experiments.create_policy_version(
            session, policy="p", mlflow_model_name=MODEL, mlflow_model_version=4, create_policy=True, registry=registry
        )
        assert stages.of(session, version.id) == Stage.CANDIDATE
        assert session.get_one(Qualification, (MODEL, "4")).source == "run"


@pytest.mark.parametrize(
    ("scores", "more", "note"),
    [
        (FAILING, {}, None),
        (PASSING, {"dataset_version": "d2"}, f"MLflow has no finished evaluation of {MODEL} 2 on the same dataset."),
        (PASSING, {"status": "RUNNING"}, "No completed offline evaluation was found"),
        (PASSING, {"status": "FAILED"}, "No completed offline evaluation was found"),
        (PASSING, {"evaluation_type": "training"}, "No completed offline evaluation was found"),
        (PASSING, {"model_name": "another"}, "No completed offline evaluation was found"),
        ({"constraint_respect_score": 1.0}, {}, None),
    ],
)
def test_runs_that_do_not_pass(
    engine: Engine,
    registry: Registry,
    client: MlflowClient,
    scores: dict[str, float],
    more: dict[str, Any],
    note: str | None,
) -> None:
    run(client, 2, PASSING)
    run(client, 4, scores, **more)
    found = qualify(engine, registry, 4)
    assert not found.passed
    assert str(found.note).startswith(note or "None")
    assert stage_of_model(engine, 4) is None


def test_the_first_model_has_nothing_to_compare_with(engine: Engine, registry: Registry, client: MlflowClient) -> None:
    client.set_model_version_tag(MODEL, "2", "stage", "archived")
    run(client, 4, PASSING)
    found = qualify(engine, registry, 4)
    assert (found.passed, found.baseline) == (False, None)
    assert str(found.note).startswith(f"No version of {MODEL} is in production, so there is none to compare with.")


def test_the_baselines_run_on_the_dataset_is_found_behind_many_others(
    engine: Engine, registry: Registry, client: MlflowClient
) -> None:
    run(client, 2, PASSING)
    for number in range(51):
        run(client, 2, PASSING, dataset_version=f"other {number}")
    run(client, 4, PASSING)
    assert qualify(engine, registry, 4).passed


def test_a_newer_run_outweighs_an_older_replay_but_not_its_own(
    replayed: Engine, registry: Registry, client: MlflowClient
) -> None:
    run(client, 2, PASSING)
    with db.transaction(replayed) as session:
        replay(session, 3, PASSING, days_ago=5)
    own = run(client, 3, FAILING)
    found = evaluated(replayed, registry)
    assert (found.source, found.passed) == ("run", False)
    with db.transaction(replayed) as session:  # the pipeline stores the run's result: one evaluation, not two
        replay(session, 3, PASSING, days_ago=4, mlflow_run_id=own)
    found = evaluated(replayed, registry)
    assert (found.source, found.passed) == ("replay", True)


def test_the_pipelines_own_tag_is_accepted_and_shown_as_such(engine: Engine, registry: Registry) -> None:
    found = qualify(engine, registry, 3)
    assert (found.passed, found.source) == (True, "tag")
    assert "The pipeline set the tag" in str(found.note)
    assert found.acceptance is None
    assert stage_of_model(engine, 3) == Stage.CANDIDATE


def test_an_override_does_not_turn_into_the_pipelines_tag(
    desk: Engine, registry: Registry, client: MlflowClient
) -> None:
    with db.transaction(desk) as session:
        experiments.create_policy_version(
            session,
            policy="planner_policy",
            mlflow_model_name=MODEL,
            mlflow_model_version=4,
            override_reason="in a hurry",
            registry=registry,
        )
    deliver_registry(desk, registry)
    assert tags(client)["4"] == "candidate"
    found = qualify(desk, registry, 4)
    assert not found.passed
    assert "by override: in a hurry" in str(found.note)
    with db.transaction(desk) as session:
        assert session.get_one(Qualification, (MODEL, "4")).source == "override"


def test_without_any_evidence_nothing_passes(engine: Engine, registry: Registry) -> None:
    found = qualify(engine, registry, 4)
    assert not found.passed
    assert str(found.note).startswith("No completed offline evaluation was found")
    with db.transaction(engine) as session:
        assert session.scalars(select(Qualification)).all() == []


@pytest.mark.parametrize(("version", "says"), [(9, "no version 9"), (2, "already in stage “production”")])
def test_what_cannot_be_qualified(replayed: Engine, registry: Registry, version: int, says: str) -> None:
    with pytest.raises(Refused, match=says):
        qualify(replayed, registry, version)


def test_what_failed_has_to_qualify_anew(replayed: Engine, registry: Registry, client: MlflowClient) -> None:
    with db.transaction(replayed) as session:
        steps.qualified(session, 3)
    steps.change(replayed, "start")
    with pytest.raises(Refused, match="already in stage “experiment”"):
        qualify(replayed, registry, 3)
    steps.change(replayed, "rollback", reason="slow")
    deliver_registry(replayed, registry)
    assert tags(client)["3"] == "archived"
    assert not qualify(replayed, registry, 3).passed, "its qualification went with it"
    with pytest.raises(Refused, match="is not a candidate"):
        steps.ask(replayed, "start")
    with db.transaction(replayed) as session:
        replay(session, 3, PASSING)
    assert qualify(replayed, registry, 3).passed
    steps.change(replayed, "start")
    assert steps.shares(replayed) == steps.shares_of(control="0.9", candidate_v3="0.1")
