"""What others changed, as people see and settle it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from bot import schedule
from bot.channels import Channels
from bot.desk import Desk
from bot.people import People
from core.registry import Registry
from core.settings import Settings
from tests.bot.acts import approve, ask, redrawn, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, waiting
from tests.core import steps
from tests.core.conftest import MODEL
from tests.workspace import Person, text_of, waits_until


@pytest.fixture
def reconciles(bot: Bot, desk: Engine, registry: Registry, configured: Settings, web: Any) -> Callable[[], None]:
    """The job, as if its time had come."""
    table = Desk(desk, registry, People(web, configured), Channels(web), configured)
    return lambda: schedule.run_now(table, "reconcile")


def test_the_card_of_a_deleted_experiment_takes_no_clicks(
    reconciles: Callable[[], None], desk: Engine, alice: Person, bob: Person
) -> None:
    card = ask(alice)
    with desk.begin() as connection:
        connection.execute(text("DELETE FROM exp.variants"))
        connection.execute(text("DELETE FROM exp.experiments"))
    reconciles()
    there = redrawn(bob, card, "#1 was closed: its experiment was deleted")
    assert [block["type"] for block in there["blocks"]] == ["section"]
    reconciles()
    waits_until(lambda: not waiting(desk), 15, "nothing to be left to do")


def test_shares_edited_in_sql_are_put_back(
    reconciles: Callable[[], None], desk: Engine, alice: Person, bob: Person
) -> None:
    approve(bob, ask(alice))
    waits_until(lambda: waiting(desk) == 0, 20, "the effects of the start")
    with desk.begin() as connection:
        connection.execute(text("UPDATE exp.variants SET allocation = CASE name WHEN 'control' THEN 0.6 ELSE 0.4 END"))
    reconciles()
    card = bob.waits_for("The shares of planner_policy_exp are other than decided", APPROVALS)
    said = text_of(card)
    assert "Decided: `control` 90 %, `candidate_v3` 10 % (request #1)" in said
    assert "There now: `control` 60 %, `candidate_v3` 40 %" in said
    assert "*Revert*: the decided shares are written back; control 60 % → 90 %, candidate_v3 40 % → 10 %." in said
    assert "so an approver has to do it" in reply(alice, lambda: alice.clicks(card, "Adopt", confirm=True))
    assert "Reverted" in reply(bob, lambda: bob.clicks(card, "Revert", confirm=True))
    card = redrawn(bob, card, f"*Reverted* by <@{bob.id}>")
    assert all(block["type"] != "actions" for block in card["blocks"])
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
    alice.waits_for("put back as it was decided:", ROLLOUTS)


def test_a_tag_set_by_hand(
    reconciles: Callable[[], None], desk: Engine, client: MlflowClient, alice: Person, bob: Person
) -> None:
    client.set_model_version_tag(MODEL, "2", "stage", "archived")
    reconciles()
    card = alice.waits_for(f"Tags of {MODEL} were set by hand", APPROVALS)
    assert "cannot be adopted: only candidate and archived can" in text_of(card)
    assert "*Revert*: the tags are written as they were decided; version 2 archived → production." in text_of(card)
    assert f"Tags of {MODEL} were set by hand: revert?" in text_of(card)
    assert "MLflow follows" in reply(alice, lambda: alice.clicks(card, "Revert", confirm=True))
    waits_until(lambda: steps.tags(client)["2"] == "production", 20, "the tag as it was decided")
    alice.waits_for("`tags of planner_model`: `2` `archived` → `production`", ROLLOUTS)
    client.set_model_version_tag(MODEL, "1", "stage", "candidate")
    reconciles()
    card = alice.waits_for("There now: version `1` `candidate`", APPROVALS)
    assert "Adopted" in reply(alice, lambda: alice.clicks(card, "Adopt", confirm=True))
    redrawn(alice, card, f"*Adopted* by <@{alice.id}>")
    waits_until(lambda: waiting(desk) == 0, 20, "the mirror")
    assert steps.tags(client)["1"] == "candidate"
