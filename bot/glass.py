"""Breaking the glass: the form in which an owner carries a request out without its approvals, and what it does."""

from __future__ import annotations

from bot import blocks, modals, request_screens
from bot.blocks import Answer
from bot.desk import Desk
from core import approvals, cards
from core.rules.approval import Actor


def form(desk: Desk, number: int, actor: Actor, *, shown: str | None = None, reason: str | None = None) -> Answer:
    """The form for a request, or what comes first where its card is outdated; `shown` is the mark of the card."""
    sure, terms = desk.people.checked(actor), desk.settings.terms
    with desk.transaction() as session:
        held = approvals.check_may_break_glass(
            session, number, shown=shown, actor=sure, roles=desk.people.roles, terms=terms
        )
        if held is not None:
            return blocks.literal(held.sentence)
        card = cards.request_card(session, number)
    channels = " and ".join(desk.channels.mention(name) for name in dict.fromkeys(desk.aloud_in(card.experiment)))
    return Answer("", view=modals.break_glass(card, channels, reason))


def submit(desk: Desk, number: int, shown: str, reason: str, actor: Actor) -> Answer:
    """Carries out what the form showed."""
    sure, terms = desk.people.checked(actor), desk.settings.terms
    with desk.transaction() as session:
        decided = approvals.break_glass(
            session, number, shown=shown, reason=reason, actor=sure, roles=desk.people.roles, terms=terms
        )
        if decided.outcome == "applied":
            return request_screens.applied(cards.request_card(session, number))
    return blocks.literal(decided.sentence)
