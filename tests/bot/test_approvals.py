"""Who decides what, and what the card shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from slack_sdk import WebClient
from sqlalchemy import Engine

from bot import schedule
from bot.channels import Channels
from bot.demo import clock
from bot.desk import Desk
from bot.people import People as Roster
from bot.sandbox import Sandbox
from core import db, registry
from core.settings import ApprovalsSection, Settings, SlackSection
from tests.bot.acts import aloud, answer, approve, ask, redrawn, reply, told
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, configure
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, add_variant
from tests.workspace import Person, Refusal, Workspace, text_of


def test_the_card_says_who_asks_what_changes_and_why(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice, f"start {EXPERIMENT} planner_policy 3 because it plans better")
    said = text_of(card["blocks"])
    assert said.startswith(f"Start candidate_v3 in {EXPERIMENT}\n")
    assert f"`{EXPERIMENT}` · #1 · asked by <@{alice.id}> · <!date^" in said
    assert "`control` *100 % → 90 %*\n`candidate_v3` *0 % → 10 %*" in said
    assert "*Why*\n> it plans better" in said
    assert "approvers other than the requester" in said
    assert card["text"] == f"#1 Start candidate_v3 in {EXPERIMENT}: waits for a decision"
    assert f"*0 of 1 approvals*. 1 more needed, from approvers other than the requester: <@{bob.id}>." in said
    mark = steps.shown(desk, 1)
    assert [b["value"] for b in card["blocks"][-2]["elements"]] == [f"1:{mark}", "1", "1"]

    drawn = approve(bob, card)
    assert f"*:white_check_mark: Approved* by <@{bob.id}> · <!date^" in text_of(drawn)
    assert not [block for block in drawn["blocks"] if block["type"] == "actions"]
    redrawn(bob, card, ":white_check_mark: MLflow tags and alias")
    assert len(aloud(bob, APPROVALS)) == 1
    notice = bob.waits_for(f"<@{bob.id}> approved #1 *Start candidate_v3", ROLLOUTS)
    assert f"`/rollout status {EXPERIMENT}`" in text_of(notice)
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")


def test_who_may_not_approve_is_told_why_in_private(bot: Bot, alice: Person, carol: Person, desk: Engine) -> None:
    card = ask(alice)
    assert "You asked for this yourself" in reply(alice, lambda: alice.clicks(card, "Approve"))
    assert "Only the configured approvers" in reply(carol, lambda: carol.clicks(card, "Approve"))
    assert "Only the configured approvers" in reply(carol, lambda: carol.clicks(card, "Reject"))
    assert (alice.modals(), carol.modals()) == ([], [])
    assert len(aloud(alice, APPROVALS)) == 1
    assert steps.shares(desk) == steps.shares_of(control="1")


def test_an_approver_does_not_approve_what_they_asked_for(bot: Bot, bob: Person) -> None:
    card = ask(bob)
    assert "You asked for this yourself" in reply(bob, lambda: bob.clicks(card, "Approve"))


def test_rejecting_takes_a_reason(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice)
    assert bob.clicks(card, "Reject").acked
    form = bob.modal(text="The person who asked will read it.")
    assert form["title"]["text"] == "Reject #1"
    assert bob.submits(form, {"Why": "   "}).response == "errors"
    assert bob.submits(form, {"Why": "Friday\n<!channel> *no*"}).response == "closed"
    drawn = redrawn(alice, card, f"*:x: Rejected* by <@{bob.id}>")
    assert "> Friday\n> &lt;!channel&gt; *no*" in text_of(drawn)
    bob.waits_for("Request #1 is rejected. Nothing was changed.", APPROVALS)
    bob.waits_for(f"<@{bob.id}> rejected #1", ROLLOUTS)
    assert steps.shares(desk) == steps.shares_of(control="1")


def test_only_the_requester_withdraws(bot: Bot, alice: Person, bob: Person) -> None:
    card = ask(alice)
    assert "Only whoever asked for this takes it back" in reply(bob, lambda: bob.clicks(card, "Withdraw"))


@pytest.mark.parametrize("button", ["Withdraw", "Reject"])
def test_the_requester_takes_it_back(bot: Bot, alice: Person, button: str) -> None:
    card = ask(alice)
    alice.clicks(card, button)
    alice.submits(alice.modal(text="Why"), {"Why": "Changed my mind"})
    redrawn(alice, card, "Withdrawn")
    assert "Start candidate_v3" in answer(alice, f"start {EXPERIMENT} 3")


def test_a_second_click_says_that_it_is_decided(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice)
    steps.at_once(*[lambda: bob.clicks(card, "Approve")] * 3)
    for expected in (
        f"candidate_v3 in {EXPERIMENT}*: done.",
        "Request #1 is closed already (applied). The card shows by whom.",
    ):
        bob.waits_for(expected, APPROVALS)
    assert len(told(bob, APPROVALS)) == 3
    assert steps.deeds(desk) == ["request", "approve", "start"]


def test_a_form_sent_after_the_decision_says_so(bot: Bot, alice: Person, bob: Person) -> None:
    card = ask(alice)
    alice.clicks(card, "Reject")
    form = alice.modal(text="Why")
    approve(bob, card)
    sent = alice.submits(form, {"Why": "too late"})
    assert sent.errors == {"reason": "Request #1 is closed already (applied). The card shows by whom."}


def test_two_decide_at_once(bot: Bot, alice: Person, bob: Person, carol: Person, desk: Engine) -> None:
    approve(bob, ask(alice))
    card = ask(alice, f"rollback {EXPERIMENT} because it hurts", 2)
    clicks = [lambda p=p: p.clicks(card, "Confirm rollback", confirm=True) for p in (alice, bob, carol)]
    assert all(found.acked for found in steps.at_once(*clicks))  # type: ignore[union-attr]
    redrawn(bob, card, "Confirmed")
    assert all(told(person, APPROVALS) for person in (alice, bob, carol))
    assert len(steps.ledger(desk, "rollback")) == 1
    assert steps.shares(desk) == steps.shares_of(control="1", candidate_v3="0")


def test_a_rollback_needs_one_confirmation_which_may_be_ones_own(
    bot: Bot, alice: Person, bob: Person, desk: Engine
) -> None:
    approve(bob, ask(alice))
    said = answer(alice, f"rollback {EXPERIMENT} because p99 doubled")
    assert "Nothing rolls back until confirmed." in said
    private = told(alice)[-1]
    with pytest.raises(Refusal, match="not_confirmed"):
        alice.clicks(private, "Confirm rollback")
    assert alice.clicks(private, "Confirm rollback", confirm=True).acked
    settled = alice.waits_for(f"*Roll back candidate_v3 in {EXPERIMENT}*: done.", ROLLOUTS)
    assert told(alice)[-1]["ts"] == settled["ts"] == private["ts"]  # its button is gone, so it is not pressed twice
    assert "> p99 doubled" in text_of(alice.waits_for(f"Confirmed* by <@{alice.id}>", APPROVALS))
    assert steps.shares(desk) == steps.shares_of(control="1", candidate_v3="0")


def test_an_old_card_works_after_a_restart(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice)
    bot.stop()
    assert not bob.clicks(card, "Approve").acked
    bot.start()
    approve(bob, card)
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")


def test_shares_changed_by_hand_redraw_the_card(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice)
    with db.transaction(desk) as session:
        place = steps.place(session)
        steps.variant(session, "control").allocation = Decimal("0.6")
        add_variant(session, place, "by_hand", "0.4")
    assert "The card is redrawn; look again" in reply(bob, lambda: bob.clicks(card, "Approve"))
    drawn = redrawn(bob, card, "`by_hand` *40 % → 36 %*")
    assert "`control` *60 % → 54 %*" in text_of(drawn)
    approve(bob, drawn)
    assert steps.shares(desk) == steps.shares_of(control="0.54", by_hand="0.36", candidate_v3="0.1")


def test_a_request_that_is_not_possible_any_more_is_closed(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    card = ask(alice)
    with db.transaction(desk) as session:
        steps.variant(session, "control").allocation = Decimal("0.9")
        add_variant(session, steps.place(session), "candidate_v3", "0.1")
    assert "So the request is closed" in reply(bob, lambda: bob.clicks(card, "Approve"))
    redrawn(bob, card, ":no_entry_sign: Closed")


@pytest.mark.parametrize(
    ("action_id", "value"), [("vanished", "1"), ("approve", "one"), ("approve", "9" * 9), ("approve", "9" * 10)]
)
def test_an_unknown_button_is_answered(
    bot: Bot, alice: Person, web: WebClient, workspace: Workspace, action_id: str, value: str
) -> None:
    press = {"type": "button", "text": {"type": "plain_text", "text": "Press"}, "action_id": action_id, "value": value}
    channel = workspace.channel(APPROVALS)["id"]
    web.chat_postMessage(channel=channel, text="old", blocks=[{"type": "actions", "elements": [press]}])
    old = alice.waits_for("Press", APPROVALS)
    expected = "There is no request" if len(value) == 9 else "This button is not one of mine any more."
    assert expected in reply(alice, lambda: alice.clicks(old, "Press"))


def test_what_slack_delivers_twice_happens_once(
    bot: Bot, alice: Person, bob: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.socket("duplicate_next")
    card = ask(alice)
    workspace.socket("duplicate_next")
    bob.clicks(card, "Approve")
    redrawn(bob, card, "Approved")
    assert steps.deeds(desk) == ["request", "approve", "start"]
    assert len(aloud(bob, APPROVALS)) == 1


def test_a_guest_does_not_approve(bot: Bot, alice: Person, bob: Person, workspace: Workspace) -> None:
    card = ask(alice)
    workspace.admin("guest", user="bob")
    assert "You are a guest in this workspace" in reply(bob, lambda: bob.clicks(card, "Approve"))


def test_a_guest_changes_nothing_without_an_approval_either(
    bot: Bot, alice: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.admin("guest", user="alice")
    for typed in (
        f"pause {EXPERIMENT}",
        f"hold {EXPERIMENT} 2d because no",
        f"qualify {MODEL} 4",
        f"policy planner_policy {MODEL} 4 because I say so",
    ):
        assert "You are a guest in this workspace" in answer(alice, typed), typed
    assert steps.deeds(desk) == []


@pytest.fixture
def strict(desk: Engine, sandbox: Sandbox, mlflow_uri: str, tmp_path: Path) -> Iterator[Bot]:
    """A bot that asks for two approvals against the rule; bob and carol approve."""
    slack = SlackSection(approvers=("@bob", "@carol"))
    options = {"mlflow_tracking_uri": mlflow_uri, "promotion_bot_data": tmp_path}
    made = Bot(desk, configure(sandbox, slack=slack, approvals=ApprovalsSection(), **options))
    try:
        yield made.start()
    finally:
        made.stop()


def test_two_people_approve_what_goes_against_the_rule(
    strict: Bot, alice: Person, bob: Person, carol: Person, desk: Engine
) -> None:
    steps.change(desk, "start")
    card = ask(alice, f"increase {EXPERIMENT} because the fair begins on Monday", 2)
    assert "*0 of 2 approvals*. 2 more needed" in text_of(card)
    assert "1 more needed." in reply(bob, lambda: bob.clicks(card, "Approve"))
    drawn = redrawn(bob, card, f"*1 of 2 approvals*: <@{bob.id}>. 1 more needed")
    assert f"other than the requester: <@{carol.id}>" in text_of(drawn)
    assert "You have decided on this already" in reply(bob, lambda: bob.clicks(drawn, "Approve"))
    drawn = approve(carol, drawn)
    assert f"Approved* by <@{bob.id}>, <@{carol.id}>" in text_of(drawn)


def test_an_outdated_card_is_measured_anew(
    strict: Bot, alice: Person, bob: Person, carol: Person, desk: Engine
) -> None:
    steps.change(desk, "start")
    card = ask(alice, f"increase {EXPERIMENT} because the fair begins on Monday", 2)
    reply(bob, lambda: bob.clicks(card, "Approve"))
    card = redrawn(bob, card, "*1 of 2 approvals*")
    with db.transaction(desk) as session:
        steps.variant(session, "control").allocation = Decimal("0.95")
        steps.variant(session, "candidate_v3").allocation = Decimal("0.05")
    assert "went from 10 % to 5 %" in reply(carol, lambda: carol.clicks(card, "Approve"))
    drawn = redrawn(bob, card, "`candidate_v3` *5 % → 10 %*")
    assert "*0 of 2 approvals*" in text_of(drawn)


def test_before_it_expires_the_thread_of_the_card_says_so_once(
    bot: Bot, alice: Person, desk: Engine, configured: Settings, web: WebClient
) -> None:
    card = ask(alice)
    beside = Desk(desk, registry.at(configured.tracking_uri), Roster(web, configured), Channels(web), configured)
    clock.advance(desk, hours=23)
    for _ in range(2):
        schedule.expire(beside)
    said = alice.waits_for(f"#1, asked by <@{alice.id}>, expires", APPROVALS)
    assert said["thread_ts"] == card["ts"]
    clock.advance(desk, hours=2)
    schedule.expire(beside)
    redrawn(alice, card, ":hourglass: Expired")
    assert len(aloud(alice, APPROVALS)) == 2
