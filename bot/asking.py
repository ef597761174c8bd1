"""Asking for a change, from wherever it is asked: a verb, a form, a button."""

from __future__ import annotations

from bot import request_screens
from bot.blocks import Answer
from bot.desk import Desk
from core import cards, requests
from core.plans import Ask
from core.rules.approval import Actor


def ask(desk: Desk, wish: Ask, actor: Actor, *, is_slow: bool) -> Answer:
    """Opens a request and says where it is decided; the look it rests on counts also where it is then refused.

    What `is_slow` follows the acknowledgement, so it may take its time.
    """
    if requests.is_measured(wish):
        with desk.reading() as session:
            requests.check_may_ask(session, wish, actor=actor, roles=desk.people.roles)
            requests.measure(session, wish, terms=desk.settings.terms)
    with desk.reading() if is_slow else desk.transaction() as session:
        requests.check_may_ask(session, wish, actor=actor, roles=desk.people.roles)
        request = requests.ask(session, wish, requester=actor.id, terms=desk.settings.terms)
        closed = requests.closed_for(session, request.id)
        return request_screens.asked(cards.request_card(session, request.id), desk.approvals, closed)
