"""What an owner has signed, as people see it: on the card, in the alert, and at the end of a countdown."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from bot import schedule
from bot.channels import Channels
from bot.demo import clock
from bot.desk import Desk
from bot.people import People
from core import countdowns, registry
from core.settings import AlertsSection, Settings, SlackSection
from tests.bot.acts import answer, approve, ask, redrawn, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, waiting
from tests.bot.test_alerts import in_thread, later
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, text_of, waits_until

Json = dict[str, Any]


@pytest.fixture
def wishes() -> dict[str, Any]:
    """carol owns every experiment and is on call."""
    return {
        "slack": SlackSection(approvers=("@bob",), owners=("@carol",)),
        "alerts": AlertsSection(on_call=("@carol",)),
    }


@pytest.fixture
def table(desk: Engine, configured: Settings, web: Any) -> Desk:
    """The desk that jobs work at."""
    people = People(web, configured)
    return Desk(desk, registry.at(configured.tracking_uri), people, Channels(web), configured)


@pytest.fixture
def counting(bot: Bot, table: Desk, alice: Person, bob: Person, carol: Person) -> Json:
    """The card of an alert about a candidate for which carol signed when it started."""
    card = ask(alice)
    assert "Only an owner of" in reply(bob, lambda: bob.clicks(card, "Sign the return…"))
    carol.clicks(card, "Sign the return…")
    form = carol.modal(text="If a *critical alert* about `candidate_v3` is unanswered")
    values = {"Unanswered for": "15 minutes", "Why": "nobody is awake"}
    assert carol.submits(form, values).response == "closed"
    signed = redrawn(bob, card, f"unanswered for 15 minutes: signed by <@{carol.id}>, “nobody is awake”")
    assert "Sign the return" not in str(signed)
    approve(bob, signed)
    steps.serve_all(table.engine, 2000)
    clock.advance(table.engine, hours=1)
    steps.serve_all(table.engine, 2000, accepted=0.3)
    steps.watch(table.engine)
    alert = carol.waits_for("Roll back `candidate_v3`?", ROLLOUTS)
    schedule.returns(table)
    later(carol, alert, "*Returns to 0 % by itself")
    waits_until(lambda: not waiting(table.engine), 30, "what draws it to be on record")
    return later(carol, alert, "*Returns to 0 % by itself")


def test_nobody_answers_and_it_returns(counting: Json, table: Desk, alice: Person, bob: Person, carol: Person) -> None:
    said = text_of(counting)
    assert f"<@{carol.id}> signed this for alerts that nobody answers for 15 minutes:\n> nobody is awake" in said
    assert "Nothing rolls back without a click" not in said
    assert ":stopwatch: returns by itself" in answer(alice, "alerts")
    clock.advance(table.engine, minutes=11)
    schedule.escalate(table)
    assert "It returns to 0 % by itself" in text_of(in_thread(carol, counting, "Nobody has answered this"))
    clock.advance(table.engine, minutes=6)
    steps.serve_all(table.engine, 100, accepted=0.3)
    steps.watch(table.engine)
    schedule.returns(table)
    ended = later(carol, counting, ":shield: *Returned to its previous share*, as signed")
    assert all(block["type"] != "actions" for block in ended["blocks"])
    assert steps.shares(table.engine) == steps.shares_of(control="1", candidate_v3="0")
    card = text_of(bob.waits_for("#2 ·", APPROVALS))
    assert f":shield: Carried out by itself, as <@{carol.id}> had signed" in card
    told = text_of(alice.waits_for("returned, as signed,", ROLLOUTS))
    assert "#2 *Roll back candidate_v3" in told
    assert "nobody clicked: signed for alerts unanswered for 15 minutes" in answer(alice, "explain 2")
    assert "signed the return, without a click, of `candidate_v3`" in answer(alice, f"history {EXPERIMENT}")


def test_one_click_stops_it(counting: Json, table: Desk, carol: Person) -> None:
    said = reply(carol, lambda: carol.clicks(counting, "Stop the countdown"), ROLLOUTS)
    assert ":raised_hand: The countdown is stopped: `candidate_v3` stays at its share until somebody clicks." in said
    card = later(carol, counting, f"was stopped by <@{carol.id}>. It waits for a click.")
    assert "Stop the countdown" not in str(card["blocks"])
    clock.advance(table.engine, minutes=17)
    steps.watch(table.engine)
    schedule.returns(table)
    assert steps.shares(table.engine) == steps.shares_of(control="0.9", candidate_v3="0.1")


def test_an_alert_that_cannot_be_tended_does_not_keep_another_from_its_return(
    table: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended: list[int] = []

    def tend(_: Any, alert_id: int, **kwargs: Any) -> None:
        tended.append(alert_id)
        if alert_id == 1:
            raise RuntimeError("a disk is full")

    monkeypatch.setattr(countdowns, "to_tend", lambda session: [1, 2])
    monkeypatch.setattr(countdowns, "tend", tend)
    schedule.returns(table)
    assert tended == [1, 2]


def test_it_is_signed_and_withdrawn_by_typing(bot: Bot, alice: Person, carol: Person, desk: Engine) -> None:
    assert "No candidate has traffic" in answer(carol, f"safety {EXPERIMENT}")
    steps.change(desk, "start")
    assert "`candidate_v3`: nothing is signed, so nothing acts by itself." in answer(alice, f"safety {EXPERIMENT}")
    assert "Only an owner" in answer(alice, f"safety {EXPERIMENT} sign 30 because of the night")
    assert "Say why" in answer(carol, f"safety {EXPERIMENT} sign 30")
    assert "“soon” is no number of minutes" in answer(carol, f"safety {EXPERIMENT} sign soon because of the night")
    assert "Between 15 and 240 minutes" in answer(carol, f"safety {EXPERIMENT} sign 5 because of the night")
    said = answer(carol, f"safety {EXPERIMENT} candidate_v3 sign 45 because of the night")
    assert "unanswered for 45 minutes" in said
    assert f"signed by <@{carol.id}>, “of the night”" in answer(alice, f"safety {EXPERIMENT}")
    assert "signed already, for 45 minutes" in answer(carol, f"safety {EXPERIMENT} sign 30 because of the night")
    assert "Nothing acts by itself for `candidate_v3` any more." in answer(carol, f"safety {EXPERIMENT} withdraw")
    assert "Nothing is signed" in answer(carol, f"safety {EXPERIMENT} withdraw")
    told = text_of(alice.waits_for("withdrew what was signed for", ROLLOUTS))
    assert f"<@{carol.id}>" in told
