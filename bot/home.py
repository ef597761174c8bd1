"""App Home: what waits for a person, their rollouts, open alerts, what was decided lately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot import alert_screens, blocks, history_screens, request_screens, rollout_screens, screens
from bot.blocks import Answer, Block
from bot.desk import Desk
from core import alert_cards, cards, digests
from core.alert_cards import AlertCard
from core.cards import HistoryLine, RequestCard
from core.digests import DigestLine
from core.freezes import Frozen
from core.rules import approval
from core.rules.approval import Actor

HOME_BLOCKS = 100
MOST = 8
"""Of each kind; a tab that is scrolled through is not read."""


def view(desk: Desk, actor: Actor, said: Answer | None = None) -> Block:
    """The Home tab of a person as it is now; `said` is what came of their last click."""
    with desk.reading() as session:
        waiting = [
            (card, cards.request_frozen(session, card.id, terms=desk.settings.terms))
            for card in cards.open_requests(session)
        ]
        raised = alert_cards.open_alerts(session)
        running = digests.running(session)
        asked = cards.asked_by(session, actor.id)
        decided = cards.decisions(session, limit=MOST)
    mine = [line for line in running if line.experiment in asked]
    others = [line for line in running if line.experiment not in asked]
    body = [
        *([*said.blocks, screens.DIVIDER] if said else []),
        *_part("Waiting for you", _waiting(desk, actor, waiting), "Nothing waits for you at the moment."),
        *_part("Open alerts", _alerts(raised), "No alert is open."),
        *_part("Your rollouts", _rollouts(mine), "You have asked for none of those that run now."),
        *_part("Other rollouts", _rollouts(others), "No other rollout is running."),
        *_part("Decided lately", _decisions(decided), "Nothing was decided yet."),
        blocks.context(f"`{desk.command} list` shows every experiment, `{desk.command} help` everything else."),
    ]
    return {"type": "home", "blocks": body[:HOME_BLOCKS]}


def _part(title: str, found: Iterable[Block], otherwise: str) -> list[Block]:
    shown = list(found)
    return [blocks.header(title), *(shown or [blocks.context(otherwise)])]


def _waiting(desk: Desk, actor: Actor, found: Sequence[tuple[RequestCard, Frozen | None]]) -> list[Block]:
    """The requests that this person may decide, with the buttons; the others only named."""
    can: list[tuple[RequestCard, Frozen | None]] = []
    cannot: list[RequestCard] = []
    for card, frozen in found:
        approvers = desk.people.roles.approvers_of(card.experiment)
        against = approval.objection(card.action, requester=card.requester, actor=actor, approvers=approvers)
        if against or actor.id in card.approvals:
            cannot.append(card)
        else:
            can.append((card, frozen))
    names = ", ".join(f"#{card.id}" for card in cannot)
    rest = [blocks.context(f"Waiting for others: {names}, in {desk.approvals}.")] if cannot else []
    return [*(block for one in can[:MOST] for block in request_screens.request_short(*one)), *rest]


def _alerts(found: Sequence[AlertCard]) -> list[Block]:
    return [block for one in found[:MOST] for block in alert_screens.short(one)]


def _rollouts(found: Sequence[DigestLine]) -> list[Block]:
    """Why a rollout stands as it does is said by its open alert above, where it has one."""
    return [
        blocks.section(
            rollout_screens.line(one, with_why=not one.open_alerts), accessory=rollout_screens.why_button(one)
        )
        for one in found[:MOST]
    ]


def _decisions(found: Sequence[HistoryLine]) -> list[Block]:
    lines = (f"{blocks.moment(line.at)}  {history_screens.deed(line, with_changes=False)}" for line in found)
    return blocks.listing(lines)
