"""The whole way of a model, without Slack: start, increase, promote, rollback, on a real database and registry."""

from __future__ import annotations

from decimal import Decimal

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine

from core import cards, db
from core.errors import Refused
from core.registry import Registry
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, alias, approve, ask, change, deliver_registry, shares, tags


def test_a_model_goes_to_production_and_back(desk: Engine, registry: Registry, client: MlflowClient) -> None:
    assert approve(desk, ask(desk, "start")).outcome == "applied"
    assert shares(desk) == {"control": Decimal("0.9"), "candidate_v3": Decimal("0.1")}
    deliver_registry(desk, registry)
    assert tags(client)["3"] == "experiment"

    steps.roll_up(desk)
    with pytest.raises(Refused, match="wait"):
        ask(desk, "increase")
    for share in ("0.25", "0.50"):
        change(desk, "increase", override="try-out")
        assert shares(desk)["candidate_v3"] == Decimal(share)
    with pytest.raises(Refused, match="production"):
        ask(desk, "increase", override="try-out")

    with pytest.raises(Refused, match="Minimum duration"):
        ask(desk, "promote")
    change(desk, "promote", override="try-out")
    deliver_registry(desk, registry)
    assert tags(client) == {"1": "archived", "2": "archived", "3": "production", "4": None}
    assert alias(client) == "3"
    (archived,) = (name for name in shares(desk) if name != "candidate_v3")
    assert archived.startswith("control_archived_")
    assert shares(desk)["candidate_v3"] == 1

    number = ask(desk, "rollback", variant="candidate_v3", reason="users complain")
    assert approve(desk, number, ALICE).outcome == "applied"
    deliver_registry(desk, registry)
    assert shares(desk) == {"control": Decimal(1), "candidate_v3": Decimal(0)}
    assert tags(client) == {"1": "archived", "2": "production", "3": "archived", "4": None}
    assert alias(client) == "2"
    with db.transaction(desk) as session:
        lines = cards.history(session, EXPERIMENT)
        card = cards.request_card(session, number)
    assert [kind for kind, _, _ in steps.events(desk)] == ["model_promoted", "model_rollback"]
    assert [line.action for line in lines][:2] == ["approve", "request"]
    assert card.state == "applied"
    assert all(p.is_done for p in card.progress)


def test_an_undisturbed_rollout_needs_no_override(desk: Engine) -> None:
    """Enough plans and days at every step: the rule says increase, and all ten rows pass at the end."""
    with db.transaction(desk) as session:
        steps.qualified(session, 3)
    steps.change(desk, "start")
    for action, days, too_early in (
        ("increase", 3, "wait"),
        ("increase", 5, "wait"),
        ("promote", 14, "Minimum duration"),
    ):
        steps.serve_all(desk, 12_000)
        with pytest.raises(Refused, match=too_early):
            ask(desk, action)
        steps.days_pass(desk, days)
        number = steps.change(desk, action)
    with db.transaction(desk) as session:
        card = cards.request_card(session, number)
    assert card.override is None
    assert [row.passed for row in card.checklist] == [True] * 10
    assert shares(desk)["candidate_v3"] == 1
