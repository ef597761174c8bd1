"""The stop switch, as people see it."""

from __future__ import annotations

from tests.bot.acts import answer, approve, ask, redrawn, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, text_of, waits_until


def test_freeze_and_unfreeze(bot: Bot, alice: Person, bob: Person) -> None:
    card = ask(alice)
    assert "Say why" in answer(alice, f"freeze {EXPERIMENT}")
    assert "frozen until somebody types" in answer(alice, "freeze all because the fair")
    line = f":snowflake: Frozen: all experiments, by <@{alice.id}> until somebody unfreezes: the fair"
    alice.waits_for(f"<@{alice.id}> froze `all experiments`", ROLLOUTS)
    card = redrawn(bob, card, line)
    assert line in reply(bob, lambda: bob.clicks(card, "Approve"))
    assert line in answer(alice, f"start {EXPERIMENT} planner_policy 3 0.05")
    assert line in answer(alice, f"status {EXPERIMENT}")
    assert line in text_of(bob.home(text="Start candidate_v3"))
    assert f"<@{alice.id}> froze `all experiments`\n" in answer(alice, f"history {EXPERIMENT}")
    assert "not frozen by that any more" in answer(bob, "unfreeze all")
    bob.waits_for(f"<@{bob.id}> unfroze `all experiments`", ROLLOUTS)
    thawed = waits_until(lambda: [m for m in bob.sees(APPROVALS) if line not in text_of(m)], 15, "a card without frost")
    approve(bob, thawed[0])
