"""Alerts in the workspace: their card, its buttons, the reminders, and the Home tab."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from bot.demo import clock
from core import alerts, db
from core.settings import AlertsSection, Settings
from tests.bot.acts import aloud, answer, reply, told
from tests.bot.conftest import ROLLOUTS, Bot, effects, hurry, waiting
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, Workspace, text_of, waits_until

Json = dict[str, Any]


@pytest.fixture
def wishes() -> dict[str, Any]:
    """Bob and carol are on call."""
    return {"alerts": AlertsSection(on_call=("@bob", "@carol"))}


@pytest.fixture
def running(bot: Bot, desk: Engine) -> None:
    """A candidate at 10 % with some traffic."""
    steps.change(desk, "start")
    steps.serve_all(desk, 4000)


@pytest.fixture
def alarmed(running: None, desk: Engine, carol: Person) -> Json:
    """The card of an alert: the candidate does great harm."""
    clock.advance(desk, hours=1)
    steps.goes_wrong(desk)
    steps.watch(desk)
    return carol.waits_for("Roll back `candidate_v3`?", ROLLOUTS)


def later(person: Person, card: Json, text: str) -> Json:
    """The same card once this text stands in it."""

    def look() -> Json | None:
        there = next(message for message in person.sees(ROLLOUTS) if message["ts"] == card["ts"])
        return there if text in text_of(there) else None

    return waits_until(look, 30, f"{text!r} on the card")


def in_thread(person: Person, card: Json, text: str) -> Json:
    """What is answered in the thread of a card."""
    found = person.waits_for(text, ROLLOUTS)
    assert found["thread_ts"] == card["ts"]
    return found


def test_a_guest_quietens_no_alert(alarmed: Json, alice: Person, carol: Person, workspace: Workspace) -> None:
    workspace.admin("guest", user="alice")
    for click in (
        lambda: alice.clicks(alarmed, "Dismiss…"),
        lambda: alice.chooses(alarmed, "alert_snooze", "For 4 hours"),
    ):
        assert "You are a guest in this workspace" in reply(alice, click, ROLLOUTS)
    assert "Snoozed" not in text_of(carol.waits_for("Roll back `candidate_v3`?", ROLLOUTS))


def test_the_card_says_whose_trouble_it_is_and_what_a_click_would_do(alarmed: Json) -> None:
    said = text_of(alarmed)
    assert "Only the candidate: the baseline is as it was" in said
    assert "*Confirm rollback* gives: control 90 % → 100 %, candidate_v3 10 % → 0 %" in said
    assert "Nothing rolls back without a click." in said
    buttons = next(block for block in alarmed["blocks"] if block["type"] == "actions")["elements"]
    assert [button["action_id"] for button in buttons] == ["alert_rollback", "alert_dismiss", "alert_snooze"]
    assert buttons[0]["confirm"]["text"]["text"] == (
        f"candidate_v3 in {EXPERIMENT}: control 90 % → 100 %, candidate_v3 10 % → 0 %. MLflow follows."
    )
    assert alarmed["text"].startswith(f"Alert 1 about candidate_v3 in {EXPERIMENT}: Acceptance is worse")


def test_one_confirmed_click_rolls_back(alarmed: Json, carol: Person, desk: Engine) -> None:
    said = reply(carol, lambda: carol.clicks(alarmed, "Confirm rollback", confirm=True), ROLLOUTS)
    assert "candidate_v3 is rolled back" in said
    assert steps.shares(desk) == steps.shares_of(control="1", candidate_v3="0")
    card = later(carol, alarmed, f"*Rolled back* by <@{carol.id}>")
    assert all(block["type"] != "actions" for block in card["blocks"])
    assert "No alert is open." in answer(carol, "alerts")
    assert "precision 100 % of 1 judged" in answer(carol, "scorecard")


def test_a_card_that_was_posted_without_the_bot_knowing_ends_with_its_alert(
    alarmed: Json, carol: Person, desk: Engine
) -> None:
    waits_until(lambda: not waiting(desk), 30, "what was put until now")
    with desk.begin() as connection:  # as if it had been killed before it knew, and came to it again after the click
        connection.execute(text("DELETE FROM promotion.messages WHERE key LIKE 'alert:%'"))
        connection.execute(
            text("UPDATE promotion.effects SET done_at = NULL, due_at = now() + interval '1 hour' WHERE kind = 'alert'")
        )
    reply(carol, lambda: carol.clicks(alarmed, "Confirm rollback", confirm=True), ROLLOUTS)
    hurry(desk)
    later(carol, alarmed, f"*Rolled back* by <@{carol.id}>")
    assert len([one for one in aloud(carol, ROLLOUTS) if one["text"].startswith("Alert 1 ")]) == 1


def test_dismissing_needs_a_reason_and_is_done_once(alarmed: Json, bob: Person, carol: Person) -> None:
    forms = {}
    for person in (bob, carol):
        person.clicks(alarmed, "Dismiss…")
        forms[person] = person.modal(text="Why it is no reason to act")
    assert "This is needed" in str(carol.submits(forms[carol], {"reason": " "}).errors)
    carol.submits(forms[carol], {"reason": "a replay of old traffic"})
    late = bob.submits(forms[bob], {"reason": "a replay"})
    assert "This alert has ended already (dismissed)" in str(late.errors)
    card = later(carol, alarmed, f"*Dismissed* by <@{carol.id}>")
    assert "a replay of old traffic" in text_of(card)


@pytest.mark.parametrize("choice", ["For 1 hour", "For 4 hours", "Until tomorrow 9:00"])
def test_snoozing(choice: str, alarmed: Json, carol: Person) -> None:
    assert " rests until" in reply(carol, lambda: carol.chooses(alarmed, "alert_snooze", choice), ROLLOUTS)
    card = later(carol, alarmed, "Snoozed until")
    assert f"by <@{carol.id}>" in text_of(card)
    assert "Confirm rollback" in str(card), "whoever wants to act still can"


@pytest.mark.parametrize(("lacks", "times"), [("nothing", 1), ("im:history", 2)])
def test_unanswered_it_goes_to_the_thread_the_group_and_in_person_but_not_to_who_just_acted(
    alarmed: Json,
    carol: Person,
    bob: Person,
    workspace: Workspace,
    desk: Engine,
    configured: Settings,
    lacks: str,
    times: int,
) -> None:
    after = configured.alerts.escalates_after
    with db.transaction(desk) as session:
        alerts.snooze(session, 1, by=bob.id, until=clock.now(desk))
    for minutes, said in ((11, "Nobody has answered this for 10 minutes."), (10, "Still unanswered after 20 minutes.")):
        clock.advance(desk, minutes=minutes)
        with db.transaction(desk) as session:
            alerts.escalate(session, after)
        card = in_thread(carol, alarmed, said)
    assert f"<@{carol.id}>" in text_of(card)
    assert f"<@{bob.id}>" not in text_of(card), "bob has just acted"
    clock.advance(desk, minutes=20)
    workspace.fails("chat.postMessage", "drop_after")  # it is posted, and nobody knows
    if lacks == "im:history":
        workspace.fails("conversations.history", "error", error="missing_scope")
    with db.transaction(desk) as session:
        alerts.escalate(session, after)
    assert "unanswered for 40 minutes" in text_of(carol.waits_for("A critical alert", "app"))
    waits_until(lambda: effects(desk, "direct")[0].last_error, 30, "the first try's failure")
    hurry(desk)
    waits_until(lambda: effects(desk, "direct")[0].done_at, 30, "the second try")
    told_in_person = [
        sum("A critical alert" in text_of(message) for message in one.sees("app")) for one in (carol, bob)
    ]
    assert told_in_person == [times, 0]


def test_it_recovers_in_sight(running: None, carol: Person, desk: Engine) -> None:
    clock.advance(desk, minutes=90)
    steps.roll_up(desk)
    steps.watch(desk)
    card = carol.waits_for("The data cannot be trusted", ROLLOUTS)
    assert "No events for an hour." in text_of(card)
    assert "Confirm rollback" not in str(card["blocks"])
    clock.advance(desk, minutes=31)
    steps.serve_all(desk, 4000)
    steps.watch(desk)
    later(carol, card, "*Recovered*")


def test_the_home_tab_shows_it_and_its_buttons_work_there(alarmed: Json, carol: Person, desk: Engine) -> None:
    home = carol.home(text="Roll back `candidate_v3`?")
    assert text_of(home).count("Acceptance is worse") == 1, "its rollout has a short mark only"
    assert "1 open alert" in text_of(home)
    carol.clicks(home, "Dismiss…")
    carol.submits(carol.modal(text="Why it is no reason"), {"reason": "seen before"})
    home = carol.at_home(text="Alert 1 is dismissed.")
    assert "No alert is open." in text_of(home)
    assert f"<@{carol.id}> dismissed `alert 1 regression`" in text_of(home)


def test_a_rollback_from_the_home_tab(alarmed: Json, carol: Person, desk: Engine) -> None:
    carol.clicks(carol.home(text="Roll back `candidate_v3`?"), "Confirm rollback", confirm=True)
    assert "is rolled back" in text_of(carol.at_home(text="is rolled back"))
    assert steps.shares(desk) == steps.shares_of(control="1", candidate_v3="0")


def test_all_of_it_is_one_message_besides_the_card_of_the_rollout(alarmed: Json, carol: Person, desk: Engine) -> None:
    for _ in range(3):
        steps.goes_wrong(desk)
        steps.watch(desk)
    waits_until(lambda: all(e.done_at for kind in ("alert", "rollout") for e in effects(desk, kind)), 30, "the cards")
    top = [message for message in aloud(carol, ROLLOUTS) if not message.get("thread_ts")]
    assert len(top) == 2, [text_of(message)[:80] for message in top]
    assert not told(carol)
