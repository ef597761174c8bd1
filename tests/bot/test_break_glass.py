"""An owner breaks the glass, as people see it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from core.settings import ApprovalsSection, SlackSection
from tests.bot.acts import aloud, answer, ask, redrawn, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, text_of

WHY = "production is down and nobody answers"


@pytest.fixture
def wishes() -> dict[str, Any]:
    """carol owns every experiment; bob alone approves, where two are asked for."""
    slack = SlackSection(approvers=("@bob",), owners=("@carol",))
    return {"slack": slack, "approvals": ApprovalsSection(step=2)}


def test_an_owner_pushes_a_request_through(bot: Bot, alice: Person, bob: Person, carol: Person, desk: Engine) -> None:
    card = ask(alice)
    refused = reply(bob, lambda: bob.clicks(card, "Break glass…", confirm=True))
    assert f"Only the owners of {EXPERIMENT} may break the glass" in refused
    assert carol.clicks(card, "Break glass…", confirm=True).acked
    form = carol.modal(text="Sending this carries out #1")
    said = text_of(form["blocks"])
    assert "*at once, with 0 of 2 approvals*" in said
    assert "`control` *100 % → 90 %*\n`candidate_v3` *0 % → 10 %*" in said
    assert carol.submits(form, {"Why": "now"}).response == "errors"
    answer(bob, "freeze all because of the fair")
    assert "Breaking the glass does not end a freeze" in str(carol.submits(form, {"Why": WHY}).errors)
    answer(bob, "unfreeze all")
    assert carol.submits(form, {"Why": WHY}).response == "closed"
    drawn = text_of(redrawn(bob, card, f":rotating_light: Pushed through without approval* by <@{carol.id}>"))
    assert f"> {WHY}" in drawn
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
    for channel in (APPROVALS, ROLLOUTS):
        told = text_of(bob.waits_for(f":rotating_light: *Glass broken* by <@{carol.id}>", channel))
        assert f"(`{EXPERIMENT}`) is carried out with 0 of 2 approvals, asked for by <@{alice.id}>." in told
        assert f"> {WHY}" in told
        assert f"<@{bob.id}> – you were not asked." in told
        assert sum("Glass broken" in text_of(message) for message in aloud(bob, channel)) == 1
    scored = answer(alice, f"scorecard {EXPERIMENT}")
    assert "1 of 1 change (rollbacks aside) carried out without approvals, 1 of these within 30 days" in scored
    assert f"30 days: <@{carol.id}> 1" in scored
    assert f"<@{carol.id}> broke the glass" in answer(alice, f"history {EXPERIMENT}")
    assert "pushed through with 0 of 2 approvals" in answer(alice, "explain 1")


def test_the_command_opens_the_form_with_the_reason(bot: Bot, bob: Person, carol: Person, desk: Engine) -> None:
    ask(carol)
    assert "There is no request #7" in answer(carol, f"break-glass 7 because {WHY}")
    assert "Only the owners" in answer(bob, f"break-glass 1 because {WHY}")
    assert carol.types(f"/rollout break-glass 1 because {WHY}", channel=ROLLOUTS).acked
    form = carol.modal(text="Sending this carries out #1")
    assert form["blocks"][-1]["element"]["initial_value"] == WHY
    assert carol.submits(form, {"Why": WHY}).response == "closed"
    told = text_of(bob.waits_for("*Glass broken*", APPROVALS))
    assert "their own request" in told
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
