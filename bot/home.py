"""App Home: what waits for you, and how the experiments stand."""

from __future__ import annotations

from bot import blocks, screens
from bot.blocks import Block
from bot.desk import Desk
from core import cards, rollout_cards

HOME_BLOCKS = 100


def view(desk: Desk) -> Block:
    """The Home tab as it is now; the same for everybody, since everybody may look."""
    with desk.transaction() as session:
        waiting = cards.open_requests(session)
        experiments = rollout_cards.experiments(session, terms=desk.settings.terms)
    body = [
        blocks.header("Waiting for a decision"),
        *(
            blocks.section(
                f"*#{card.id}* {blocks.escaped(screens.title(card))}, asked by {blocks.person(card.requester)}\n"
                + "\n".join(screens.change_line(change) for change in card.changes)
            )
            for card in waiting[:20]
        ),
        blocks.context(f"Decide in {desk.approvals}." if waiting else "Nothing waits at the moment."),
        {"type": "divider"},
        blocks.header("Experiments"),
        *screens.experiments(experiments).blocks,
        blocks.context(f"Type `{desk.command} help` in any channel."),
    ]
    return {"type": "home", "blocks": body[:HOME_BLOCKS]}
