"""The whole way of a model, without Slack: start, increase, promote, rollback, on a real database and registry."""

from __future__ import annotations

from decimal import Decimal

import pytest
from core import cards, db, outbox, plans, requests, stages
from core.errors import Refused
from core.registry import Registry
from core.rules.approval import Actor
from core.rules.decision import Terms
from core.variants import find_policy_version
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from tests.core.conftest import EXPERIMENT, MODEL

TERMS = Terms()
ALICE, BOB = Actor("U1", "alice"), Actor("U2", "bob")


def ask(engine: Engine, action: str, **wish: object) -> int:
    with db.transaction(engine) as session:
        if action == "start":
            wish["policy_version_id"] = find_policy_version(session, "planner_policy", 3).id
        made = plans.Ask(action, EXPERIMENT, **wish)  # type: ignore[arg-type]
        return requests.ask(session, made, requester=ALICE.id, terms=TERMS).id


def approve(engine: Engine, number: int, actor: Actor = BOB) -> requests.Decided:
    with db.transaction(engine) as session:
        return requests.approve(session, number, actor=actor, approvers={"U2"}, terms=TERMS)


def shares(engine: Engine) -> dict[str, Decimal]:
    with db.transaction(engine) as session:
        card = cards.experiment_card(session, EXPERIMENT, terms=TERMS)
        return {line.name: line.share for line in card.variants}


def deliver_registry(engine: Engine, registry: Registry) -> None:
    handlers = {"registry": lambda session, due: stages.align_registry(session, due, registry)}
    while outbox.deliver_next(engine, handlers):
        pass


def tags(client: MlflowClient) -> dict[str, str | None]:
    return {str(v.version): v.tags.get("stage") for v in client.search_model_versions(f"name='{MODEL}'")}


def test_a_model_goes_to_production_and_back(desk: Engine, registry: Registry, client: MlflowClient) -> None:
    assert approve(desk, ask(desk, "start")).outcome == "applied"
    assert shares(desk) == {"control": Decimal("0.9"), "candidate_v3": Decimal("0.1")}
    deliver_registry(desk, registry)
    assert tags(client)["3"] == "experiment"

    with pytest.raises(Refused, match="wait"):
        ask(desk, "increase")
    for share in ("0.25", "0.50"):
        assert approve(desk, ask(desk, "increase", override="try-out")).outcome == "applied"
        assert shares(desk)["candidate_v3"] == Decimal(share)
    with pytest.raises(Refused, match="production"):
        ask(desk, "increase", override="try-out")

    with pytest.raises(Refused, match="Minimum duration"):
        ask(desk, "promote")
    assert approve(desk, ask(desk, "promote", override="try-out")).outcome == "applied"
    deliver_registry(desk, registry)
    assert tags(client) == {"1": "archived", "2": "archived", "3": "production", "4": None}
    assert str(client.get_model_version_by_alias(MODEL, "production").version) == "3"
    (archived,) = (name for name in shares(desk) if name != "candidate_v3")
    assert archived.startswith("control_archived_")
    assert shares(desk)["candidate_v3"] == 1

    number = ask(desk, "rollback", variant="candidate_v3", reason="users complain")
    assert approve(desk, number, ALICE).outcome == "applied"
    deliver_registry(desk, registry)
    assert shares(desk) == {"control": Decimal(1), "candidate_v3": Decimal(0)}
    assert tags(client) == {"1": "archived", "2": "production", "3": "archived", "4": None}
    assert str(client.get_model_version_by_alias(MODEL, "production").version) == "2"
    with db.transaction(desk) as session:
        kinds = session.scalars(text("SELECT event_type FROM exp.events ORDER BY timestamp")).all()
        lines = cards.history(session, EXPERIMENT)
        card = cards.request_card(session, number)
    assert kinds == ["model_promoted", "model_rollback"]
    assert [line.action for line in lines][:2] == ["rollback", "approve"]
    assert card.state == "applied"
    assert all(p.is_done for p in card.progress)
