"""One function per button; its value is one id. Who may, and what state it is in, is read again at the click."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot import blocks, screens
from bot.blocks import Answer
from bot.desk import Desk
from core import cards, requests
from core.errors import Refused
from core.rules.approval import Actor


def _number(value: str) -> int:
    if not value.isdecimal() or len(value) > 9:
        raise Refused("This button is not one of mine any more. Ask for the change anew.")
    return int(value)


def approve(desk: Desk, value: str, actor: Actor) -> Answer:
    """Approve a request, or confirm a rollback."""
    with desk.transaction() as session:
        decided = requests.approve(
            session, _number(value), actor=actor, approvers=desk.people.approvers, terms=desk.settings.terms
        )
        if decided.outcome == "applied":
            return screens.applied(cards.request_card(session, _number(value)))
    return blocks.literal(decided.sentence)


def reject(desk: Desk, value: str, actor: Actor, reason: str) -> Answer:
    """Reject a request, or take one's own back."""
    with desk.transaction() as session:
        decided = requests.reject(session, _number(value), actor=actor, approvers=desk.people.approvers, reason=reason)
    return blocks.literal(decided.sentence)


def may_reject(desk: Desk, value: str, actor: Actor) -> Answer:
    """Nothing to say where this person may reject this request; refused otherwise."""
    with desk.transaction() as session:
        requests.check_may_reject(session, _number(value), actor=actor, approvers=desk.people.approvers)
    return Answer("")


BUTTONS: Mapping[str, Callable[[Desk, str, Actor], Answer]] = {"approve": approve}
