"""The living card of a rollout and the digest in the workspace, made by the jobs as they run by the clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

import pytest
from sqlalchemy import Engine

from bot import schedule
from bot.channels import Channels
from bot.demo import clock
from bot.desk import Desk
from bot.people import People
from core import audit, db, registry
from core.settings import RecommendationsSection, Settings
from tests.bot.acts import aloud, answer, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, effects, waiting
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, text_of, waits_until

Json = dict[str, Any]
MONDAY = datetime(2045, 11, 20, 7, tzinfo=UTC)
"""An hour before the recommendation."""


@pytest.fixture
def wishes() -> dict[str, Any]:
    """The recommendation comes at eight."""
    return {"recommendations": RecommendationsSection(at=time(8))}


@pytest.fixture
def look(bot: Bot, desk: Engine, configured: Settings, web: object) -> Callable[[], None]:
    """Runs the jobs that notice what happened, as the scheduler would."""
    people, channels = People(web, configured), Channels(web)  # type: ignore[arg-type]
    table = Desk(desk, registry.at(configured.tracking_uri), people, channels, configured)
    return lambda: schedule.run_now(table, "measure", "watch", "recommend")


@pytest.fixture
def running(desk: Engine, look: Callable[[], None]) -> Callable[[float], None]:
    """A candidate at 10 %; lets days pass, each with traffic and its looks."""
    clock.set_to(desk, MONDAY)
    look()
    steps.change(desk, "start")
    waits_until(lambda: all(effect.done_at for effect in effects(desk, "follow")), 30, "the first card's row")

    def pass_(days: float) -> None:
        clock.advance(desk, days=days)
        steps.serve_all(desk, 5000)
        look()
        waits_until(lambda: not waiting(desk), 20, "everything that was to be told")

    return pass_


def cards(person: Person) -> list[Json]:
    """The messages of the channel itself, without threads."""
    return [message for message in aloud(person, ROLLOUTS) if not message.get("thread_ts")]


def digests(person: Person) -> list[Json]:
    """The digests in the channel, oldest first."""
    return [message for message in cards(person) if "Rollouts on" in text_of(message)]


def a_card(person: Person, text: str) -> Json:
    """The message that says this and has buttons."""

    def look() -> Json | None:
        there = (m for m in cards(person) if text in text_of(m) and any(b["type"] == "actions" for b in m["blocks"]))
        return next(there, None)

    return waits_until(look, 15, f"a card with {text!r}")


def test_the_card_tells_it_all_and_moves_on_when_the_verdict_does(running: Any, alice: Person, desk: Engine) -> None:
    running(1.1)
    first = a_card(alice, "*Wait*  `candidate_v3`")
    said = text_of(first)
    assert "500 of the 1,000 plans needed" in said
    assert "*Checklist before production*, " in said
    assert ":white_check_mark: *Policy version*" in said
    assert "limit\u00a0−5\u00a0% · _" in said
    assert "Waiting costs" in said
    running(1)
    running(1)
    second = a_card(alice, "*Increase to 25 %*  `candidate_v3`")
    assert second["ts"] != first["ts"]
    assert second["text"].startswith(f"Increase candidate_v3 in {EXPERIMENT}: Enough plans and days")
    waits_until(lambda: "goes on in a newer card" in str(cards(alice)), 30, "the first card's last words")
    waits_until(lambda: len(digests(alice)) == 3, 30, "a digest of each day")
    assert "1 rollout: 1 needs somebody" in digests(alice)[-1]["text"]
    told = re.search(r"Record: [0-9]+ entries, head `([0-9a-f]{16})`", text_of(digests(alice)[0]))
    assert told is not None
    with db.transaction(desk) as session:
        audit.seal(session)
        assert audit.verify(session, told=told[1]).faults == ()
    theirs = [m for m in cards(alice) if "Checklist" in text_of(m) or "goes on in a newer card" in text_of(m)]
    assert [message["ts"] for message in theirs] == [first["ts"], second["ts"]]


def test_from_the_card_to_the_approval(running: Any, alice: Person, bob: Person, desk: Engine) -> None:
    for _ in range(3):
        running(1.1)
    card = a_card(alice, "*Increase to 25 %*")
    assert "waits in" in reply(alice, lambda: alice.clicks(card, "Ask for 25 %"), ROLLOUTS)
    bob.clicks(bob.waits_for("#2 ·", APPROVALS), "Approve")
    waits_until(lambda: steps.shares(desk)["candidate_v3"] == steps.shares_of(x="0.25")["x"], 30, "the new share")
    told = alice.waits_for(f"<@{bob.id}> approved #2", ROLLOUTS)
    assert told["thread_ts"] == card["ts"], "what people decide goes to the thread"
    waits_until(lambda: "at 25 %" in text_of(a_card(alice, "*Wait*")), 30, "the card at its new share")


def test_hold_from_the_card(running: Any, alice: Person) -> None:
    for _ in range(3):
        running(1.1)
    card = a_card(alice, "*Increase to 25 %*")
    alice.clicks(card, "Hold…")
    alice.submits(alice.modal(text="stays at its share"), {"length": "For a day", "reason": "the fair"})
    alice.waits_for("is on hold until", ROLLOUTS)
    held = a_card(alice, f"by <@{alice.id}>: the fair")
    assert "Ask for 25 %" not in str(held)
    assert "It is on hold until" in answer(alice, f"increase {EXPERIMENT}")
    assert "not on hold any more" in answer(alice, f"hold {EXPERIMENT} 0")
    a_card(alice, "*Increase to 25 %*")


def test_why_chart_and_history_from_the_card(running: Any, alice: Person) -> None:
    running(1.1)
    card = a_card(alice, "*Wait*")
    assert "z: the harm as a normal deviate" in reply(alice, lambda: alice.clicks(card, "Why"), ROLLOUTS)
    assert "asked for" in reply(alice, lambda: alice.clicks(a_card(alice, "*Wait*"), "History"), ROLLOUTS)
    assert alice.clicks(a_card(alice, "*Wait*"), "Chart").acked
    waits_until(lambda: "data_visualization" in str(alice.sees(ROLLOUTS)), 15, "a chart")


@pytest.mark.parametrize("typed", ["hold", f"hold {EXPERIMENT}", f"hold {EXPERIMENT} soon because x"])
def test_a_hold_that_is_not_clear_is_explained(typed: str, bot: Bot, alice: Person) -> None:
    said = answer(alice, typed)
    assert "hold EXPERIMENT [VARIANT] LENGTH because REASON" in said or "Write it like 4h, 2d or 1w" in said
