"""An experiment with steps, days and approvals of its own, as people see it; and one that is named and not there."""

from __future__ import annotations

from typing import Any

import pytest

from core.settings import SlackSection
from tests.bot.acts import answer, ask, redrawn, reply
from tests.bot.conftest import Bot
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, text_of


@pytest.fixture
def wishes() -> dict[str, Any]:
    own = {
        "steps": [0.05, 0.3, 1],
        "minimum_days": [1, 2],
        "minimum_samples": 400,
        "approvals": {"step": 2},
    }
    return {
        "slack": SlackSection(approvers=("@bob", "@carol")),
        "experiments": {EXPERIMENT: own, "planer_policy_exp": {"rule": "document"}},
    }


def test_what_people_see_is_the_experiments_own(
    bot: Bot, alice: Person, bob: Person, carol: Person, caplog: pytest.LogCaptureFixture
) -> None:
    warned = [record.getMessage() for record in caplog.get_records("setup") if record.levelname == "WARNING"]
    assert any("not there: planer_policy_exp; the nearest is planner_policy_exp" in said for said in warned)
    card = ask(alice)
    assert "`candidate_v3` *0 % → 5 %*" in text_of(card)
    assert "1 more needed" in reply(bob, lambda: bob.clicks(card, "Approve"))
    card = redrawn(carol, card, f"<@{bob.id}>")
    assert "done" in reply(carol, lambda: carol.clicks(card, "Approve"))
    assert "Day 0.0 of 1 at 5 %" in answer(alice, f"status {EXPERIMENT}").replace("\u00a0", " ")
    assert "0 of the 400 plans needed" in answer(alice, f"why {EXPERIMENT}")
