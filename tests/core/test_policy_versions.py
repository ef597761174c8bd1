"""create_policy_version: numbers, refusals, overrides, and what MLflow is told."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from core import choices, db, experiments, stages
from core.errors import Refused, RegistryUnavailable
from core.registry import Registry
from core.rules.lifecycle import Stage
from core.tables import Policy, PolicyVersion, Qualification
from core.variants import find_experiment
from tests.core import steps
from tests.core.conftest import MODEL
from tests.core.steps import at_once


def create(session: Session, registry: Registry, model_version: str | int = 3, **more: Any) -> PolicyVersion:
    wanted = {"policy": "planner_policy", "mlflow_model_name": MODEL, "mlflow_model_version": model_version}
    return experiments.create_policy_version(session, **(wanted | more), registry=registry)


def test_the_next_number_linked_and_a_candidate(desk: Engine, registry: Registry) -> None:
    with db.transaction(desk) as session:
        made = create(session, registry, config_defaults={"temperature": 0.7}, actor="U1")
        assert (made.version, made.status) == (4, "active")
        assert (made.mlflow_model_name, made.mlflow_model_version) == (MODEL, "3")
        assert made.config_defaults == {"temperature": 0.7}
        assert stages.of(session, made.id) == Stage.CANDIDATE
    (entry,) = steps.ledger(desk, "create_policy_version")
    assert (entry.actor, entry.subject) == ("U1", "planner_policy v4")
    assert entry.after == {"mlflow_model_name": MODEL, "mlflow_model_version": "3"}


def test_two_people_at_once_get_two_numbers(desk: Engine, registry: Registry) -> None:
    registry.versions(MODEL)  # connected, so that the threads meet at the database

    def work() -> int:
        with db.transaction(desk, patience_ms=10_000) as session:
            return create(session, registry).version

    assert sorted(at_once(*[work] * 6)) == [4, 5, 6, 7, 8, 9]


def test_two_people_at_once_make_one_policy(desk: Engine, registry: Registry) -> None:
    registry.versions(MODEL)

    def work() -> int:
        with db.transaction(desk, patience_ms=10_000) as session:
            return create(session, registry, policy="brand_new", create_policy=True).version

    assert sorted(at_once(*[work] * 4)) == [1, 2, 3, 4]
    with db.transaction(desk) as session:
        assert session.scalar(select(func.count()).where(Policy.name == "brand_new")) == 1


def test_where_there_is_none_yet_nothing_is_listed(engine: Engine) -> None:
    with (
        pytest.raises(Refused, match=r"^There is no experiment x, nor any other yet\.$"),
        db.transaction(engine) as session,
    ):
        find_experiment(session, "x")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"policy": "planer_policy"}, "no policy planer_policy. Did you mean planner_policy?"),
        ({"policy": "zzz"}, "There is: planner_policy"),
        ({"mlflow_model_name": "plannr"}, f"MLflow has no model plannr. Registered models: {MODEL}"),
        ({"mlflow_model_name": "a/b"}, "MLflow has no model a/b"),
        ({"mlflow_model_name": ""}, "MLflow has no model "),
        ({"mlflow_model_name": "it's"}, "MLflow has no model it's"),
        ({"mlflow_model_version": 9}, f"no version 9 of {MODEL}. It has: 1, 2, 3, 4."),
        ({"mlflow_model_version": "03"}, "no version 03"),
        ({"mlflow_model_version": "٣"}, "no version ٣"),
        ({"mlflow_model_version": "²"}, "no version ²"),
        ({"mlflow_model_version": "9" * 30}, "no version 999"),
        ({"mlflow_model_version": "latest"}, "no version latest"),
        ({"mlflow_model_version": 4}, "is not a candidate (its stage is “none”). Qualify it first, or override"),
        ({"mlflow_model_version": 1}, "its stage is “archived”"),
        ({"mlflow_model_version": 2}, "its stage is “production”"),
        ({"mlflow_model_version": 4, "override_reason": "  "}, "is not a candidate"),
    ],
)
def test_refusals_say_what_there_is(desk: Engine, registry: Registry, wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused) as refused, db.transaction(desk) as session:
        create(session, registry, **wanted)
    assert says in str(refused.value)
    assert not isinstance(refused.value, RegistryUnavailable)
    assert steps.ledger(desk) == []


def test_a_policy_is_made_on_request_only(desk: Engine, registry: Registry) -> None:
    with pytest.raises(Refused, match="no policy fresh"), db.transaction(desk) as session:
        create(session, registry, policy="fresh")
    with db.transaction(desk) as session:
        assert create(session, registry, policy="fresh", create_policy=True).version == 1
        assert create(session, registry, policy="fresh").version == 2


def test_an_override_is_kept_with_its_reason(desk: Engine, registry: Registry, client: MlflowClient) -> None:
    with db.transaction(desk) as session:
        made = create(session, registry, 4, override_reason="the pipeline is down", actor="U1")
        assert stages.of(session, made.id) == Stage.CANDIDATE
        kept = session.get_one(Qualification, (MODEL, "4"))
        assert (kept.source, kept.actor, kept.reason) == ("override", "U1", "the pipeline is down")
    assert [e.reason for e in steps.ledger(desk)] == ["the pipeline is down"] * 2
    steps.deliver_registry(desk, registry)
    assert steps.tags(client)["4"] == "candidate"


def test_a_tag_that_the_pipeline_set_is_enough_and_is_shown_as_such(engine: Engine, registry: Registry) -> None:
    """A database that knows nothing of the model yet: only the tag speaks."""
    with db.transaction(engine) as session:
        made = create(session, registry, create_policy=True)
        assert stages.of(session, made.id) == Stage.CANDIDATE
        assert session.get_one(Qualification, (MODEL, "3")).source == "tag"
        (line,) = (x for x in choices.model_lines(session, MODEL, registry) if x.version == "3")
        assert (line.stage, line.tag, line.policies) == ("candidate", "candidate", ("planner_policy v1",))


def test_an_unreachable_registry_locks_and_changes_nothing(desk: Engine) -> None:
    with pytest.raises(RegistryUnavailable), db.transaction(desk) as session:
        create(session, Registry("http://127.0.0.1:9", timeout_s=1), create_policy=True, policy="fresh")
    with db.transaction(desk) as session:
        assert session.scalar(select(func.count()).select_from(Policy)) == 1


@pytest.mark.parametrize(
    ("defaults", "params", "config"),
    [
        ({"temperature": 0.7, "max": 5}, {"temperature": 0.2}, {"temperature": 0.2, "max": 5}),
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, None, {"a": 1}),
    ],
)
def test_what_a_back_end_needs_to_serve(desk: Engine, defaults: Any, params: Any, config: dict[str, Any]) -> None:
    with db.transaction(desk) as session:
        version = steps.version(session, 3)
        version.config_defaults = defaults
        found = experiments.serving(session, policy_version=version, params=params)
        assert (found.model_uri, found.config) == (f"models:/{MODEL}/3", config)
        version.mlflow_model_name = None
        with pytest.raises(Refused, match="links to no MLflow model version"):
            experiments.serving(session, policy_version=version)
