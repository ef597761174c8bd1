"""One experiment on terms of its own: steps, days, plans, limits and approvals; and what was judged stays as it was."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from core import approvals, db, plans, recommendations, redrawing, replays, requests, rollout_cards
from core.errors import Refused
from core.rules.decision import AllTerms
from core.settings import Settings
from core.tables import LedgerEntry, Request
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, BOB, CAROL, ROLES, days_pass, serve_all, shares, shares_of

OWN = {
    "steps": [Decimal("0.05"), Decimal("0.30"), Decimal(1)],
    "minimum_samples": 400,
    "minimum_days": [1, 2],
    "metrics": {"p50_latency": {"tolerance": 0.03}, "cost_per_plan": {"guardrail": False}},
    "approvals": {"step": 2, "production": 3},
}
TERMS = Settings.model_validate({"experiments": {EXPERIMENT: OWN}}).terms
OF_ANOTHER = Settings.model_validate({"experiments": {"another_exp": OWN}}).terms


def ask(engine: Engine, action: str, terms: AllTerms = TERMS, **wish: Any) -> Request:
    with db.transaction(engine, patience_ms=30_000) as session:
        if action == "start":
            wish["policy_version_id"] = steps.version(session, 3).id
        found = requests.ask(session, plans.Ask(action, EXPERIMENT, **wish), requester=ALICE.id, terms=terms)
        session.flush()
        session.refresh(found)
        session.expunge(found)
        return found


def approved(engine: Engine, number: int) -> list[str]:
    """What the clicks of two approvers come to."""
    found = []
    for actor in (BOB, CAROL):
        mark = steps.shown(engine, number)
        with db.transaction(engine) as session:
            done = approvals.approve(session, number, shown=mark, actor=actor, roles=ROLES, terms=TERMS)
            found.append(done.outcome)
    return found


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 5 % for a day, with enough plans."""
    approved(desk, ask(desk, "start").id)
    serve_all(desk, 12_000)
    days_pass(desk, 1.1)
    return desk


def test_it_joins_at_its_first_step_with_as_many_approvals_as_it_takes_there(desk: Engine) -> None:
    usual = ask(desk, "start", OF_ANOTHER)
    assert (usual.params["share"], usual.needed) == ("0.10", 1)
    own = ask(desk, "start")
    assert (own.params["share"], own.needed) == ("0.05", 2)
    assert approved(desk, own.id) == ["counted", "applied"]
    assert shares(desk) == shares_of(control="0.95", candidate_v3="0.05")


def test_a_card_is_drawn_anew_for_as_many_approvals_as_it_takes_there_by_now(desk: Engine) -> None:
    number = ask(desk, "start", OF_ANOTHER).id
    with db.transaction(desk) as session:
        redrawing.redraw(session, number, terms=OF_ANOTHER)
        assert session.get_one(Request, number).needed == 1
        redrawing.redraw(session, number, terms=TERMS)
        assert session.get_one(Request, number).needed == 2


def test_its_cards_and_steps_are_its_own(running: Engine) -> None:
    with db.transaction(running, patience_ms=30_000) as session:
        own, usual = (rollout_cards.recommended(session, EXPERIMENT, terms=terms)[0] for terms in (TERMS, OF_ANOTHER))
        _, rows = rollout_cards.checklist_card(session, EXPERIMENT, None, terms=TERMS)
    assert (own.minimum_days, own.next_step, own.decision.action) == (1, Decimal("0.30"), "increase")
    assert (usual.minimum_days, usual.next_step, usual.decision.action) == (3, Decimal("0.10"), "wait")
    states = {finding.metric.name: finding.metric.tolerance for finding in own.decision.findings}
    assert states["p50_latency"] == 0.03
    details = {row.title: row.detail for row in rows}
    assert details["Minimum duration"] == "5 %: 1.1 d, 1 needed, 30 %: 0.0 of 2 d"
    assert details["Sample size"].endswith("400 needed")
    assert "(shown only)" in details["Cost per plan"]
    with pytest.raises(Refused, match=r"605 of the 1,000 plans|of the 3 days"):
        ask(running, "increase", OF_ANOTHER)
    assert approved(running, ask(running, "increase").id) == ["counted", "applied"]
    assert shares(running) == shares_of(control="0.7", candidate_v3="0.3")


def test_a_verdict_comes_out_the_same_whatever_is_configured_later(running: Engine) -> None:
    """The terms are kept beside the look; before days could be chosen, a row did not have them."""
    with db.transaction(running, patience_ms=30_000) as session:
        recommendations.recommend(session, [steps.place(session).id], TERMS)
    number = ask(running, "increase").id
    with db.transaction(running) as session:
        entry = session.query(LedgerEntry).filter_by(request_id=number).one()
        kept = entry.evidence["verdict"]["terms"] if entry.evidence else {}
        found = [replays.of_look(session, 1), replays.of_request(session, number)]
    assert all(one.is_identical and one.is_whole for one in found)
    assert found[0].said.startswith("increase: ")
    assert kept["minimum_days"] == {"0.05": 1, "0.30": 2}
    with running.begin() as connection:
        connection.execute(text("UPDATE promotion.recommendations SET terms = terms - 'minimum_days'"))
    with db.transaction(running) as session:
        older = replays.of_look(session, 1)
    assert older.found.startswith("wait: 1.1 of the 3 days needed")


def test_the_usual_terms_are_not_touched() -> None:
    usual = TERMS.of("another_exp")
    assert usual == TERMS.usual == Settings().terms.usual
    assert usual.steps != TERMS.of(EXPERIMENT).steps
