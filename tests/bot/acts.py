"""What the tests of the bot do again and again in the workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bot.conftest import APPROVALS, ROLLOUTS
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, Reply, text_of, waits_until

Json = dict[str, Any]


def told(person: Person, channel: str = ROLLOUTS) -> list[Json]:
    """What only this person was told in a channel, oldest first."""
    return [message for message in person.sees(channel) if message.get("ephemeral")]


def aloud(person: Person, channel: str) -> list[Json]:
    """What everybody in a channel sees, oldest first."""
    return [message for message in person.sees(channel) if not message.get("ephemeral")]


def notices(person: Person) -> list[Json]:
    """What followers of rollouts were told of the record, in threads or not; cards have buttons and are left out."""
    said = aloud(person, ROLLOUTS)
    return [message for message in said if all(block["type"] != "actions" for block in message["blocks"])]


def answer(person: Person, typed: str) -> str:
    """What only this person is told after typing a command."""
    before = len(told(person))
    assert person.types(f"/rollout {typed}", channel=ROLLOUTS).acked, typed
    return text_of(waits_until(lambda: told(person)[before:], 15, f"an answer to {typed!r}")[0]["blocks"])


def reply(person: Person, click: Callable[[], Reply], channel: str = APPROVALS) -> str:
    """What only this person is told after a click."""
    before = len(told(person, channel))
    assert click().acked
    return text_of(waits_until(lambda: told(person, channel)[before:], 15, "an answer to a click")[0]["blocks"])


def ask(person: Person, typed: str = f"start {EXPERIMENT} planner_policy 3", number: int = 1) -> Json:
    """Asks for a change; the card of the request."""
    answer(person, typed)
    return person.waits_for(f"#{number} ·", APPROVALS)


def approve(person: Person, card: Json) -> Json:
    """Approves a request; its card once that is drawn."""
    assert ": done." in reply(person, lambda: person.clicks(card, "Approve"))
    return redrawn(person, card, "Approved")


def redrawn(person: Person, card: Json, text: str) -> Json:
    """The same message once this text stands in it."""

    def look() -> Json | None:
        there = next(message for message in person.sees(APPROVALS) if message["ts"] == card["ts"])
        return there if text in text_of(there) else None

    return waits_until(look, 30, f"{text!r} on the card: {text_of(card)}")
