"""The whole way of a model, typed and clicked in the workspace."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from tests.core.conftest import EXPERIMENT, MODEL
from tests.workspace import Workspace, text_of

pytestmark = pytest.mark.usefixtures("bot")


def test_from_candidate_to_production_and_back(workspace: Workspace, client: MlflowClient) -> None:
    alice, bob = workspace.person("alice"), workspace.person("bob")
    alice.types(f"/rollout start {EXPERIMENT} planner_policy 3", channel="ml-rollouts")
    alice.waits_for("100 % → 90 %", channel="ml-rollouts")
    card = bob.waits_for("Start candidate_v3", channel="ml-approvals")
    bob.clicks(card, "Approve")
    card = bob.waits_for("white_check_mark: Approved", channel="ml-approvals")
    assert "candidate_v3` *0 % → 10 %*" in text_of(card)
    bob.waits_for("white_check_mark: MLflow tags", channel="ml-approvals")
    assert client.get_model_version(MODEL, "3").tags["stage"] == "experiment"
