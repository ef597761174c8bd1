"""An owner carries a request out without its approvals: who may, on what, and what stays of it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from bot.demo import clock
from core import approvals, cards, db, explanations, freezes
from core.approvals import Decided
from core.errors import Refused
from core.rules.approval import Actor, Roles
from core.tables import Effect
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, BECAUSE, BOB, CAROL, DAN, TERMS, approve, ask, change, shares, shares_of

WHY = "production is down and nobody answers"
ROLES = Roles(frozenset({BOB.id, CAROL.id}), owners_of={EXPERIMENT: frozenset({ALICE.id, DAN.id})})


def breaks(
    engine: Engine, number: int, actor: Actor = DAN, *, why: str = WHY, mark: str | None = None, roles: Roles = ROLES
) -> Decided:
    seen = steps.shown(engine, number) if mark is None else mark
    with db.transaction(engine) as session:
        return approvals.break_glass(session, number, shown=seen, reason=why, actor=actor, roles=roles, terms=TERMS)


@pytest.fixture
def trial(desk: Engine) -> Engine:
    """v3 runs at 10 % beside `control`; alice asks for production against the rule, which takes three."""
    change(desk, "start")
    ask(desk, "promote", override=BECAUSE)
    return desk


def test_an_owner_promotes_alone(trial: Engine) -> None:
    approve(trial, 2, BOB, roles=ROLES)
    assert breaks(trial, 2).outcome == "applied"
    assert max(shares(trial).values()) == 1
    (entry,) = steps.ledger(trial, "break glass")
    assert (entry.actor, entry.request_id, entry.reason) == (DAN.id, 2, WHY)
    assert entry.before == {"shares": {"control": "0.9000", "candidate_v3": "0.1000"}}
    assert entry.evidence is not None
    assert (entry.evidence["approvals"], entry.evidence["needed"]) == ([BOB.id], 3)
    with db.transaction(trial) as session:
        card = cards.request_card(session, 2)
        branches = explanations.request(session, 2).below
        told = session.scalars(select(Effect.key).where(Effect.kind == "glass").order_by(Effect.id)).all()
        lines = cards.history(session, EXPERIMENT)
    assert (card.state, card.is_glass_broken, card.decided_by, card.decision_reason) == ("applied", True, DAN.id, WHY)
    assert [(b.what, b.by, b.why) for b in branches if "pushed through" in b.what] == [
        ("pushed through with 1 of 3 approvals", DAN.id, WHY)
    ]
    assert told == ["glass:2:approvals", "glass:2:rollouts"]
    assert (lines[1].action, lines[1].reason) == ("break glass", WHY)  # below what was retired by it


def test_an_owner_may_for_their_own_request(trial: Engine) -> None:
    assert breaks(trial, 2, ALICE).outcome == "applied"


@pytest.mark.parametrize(
    ("actor", "why", "roles", "says"),
    [
        (BOB, WHY, ROLES, "Only the owners"),
        (DAN, WHY, Roles(frozenset({DAN.id})), "has no owners"),
        (Actor(DAN.id, barred="Guests do not."), WHY, ROLES, "Guests do not"),
        (DAN, " now \n", ROLES, "Say why in a few words"),
    ],
)
def test_who_may_not_and_a_reason_that_is_none(trial: Engine, actor: Actor, why: str, roles: Roles, says: str) -> None:
    with pytest.raises(Refused, match=says):
        breaks(trial, 2, actor, why=why, roles=roles)
    assert shares(trial) == shares_of(control="0.9", candidate_v3="0.1")


def test_a_freeze_holds(trial: Engine) -> None:
    with db.transaction(trial) as session:
        freezes.freeze(session, experiment="all", reason="the fair", actor=BOB, roles=ROLES)
    with pytest.raises(Refused, match=r"the fair Breaking the glass does not end a freeze\. Unfreeze it first"):
        breaks(trial, 2)
    with db.transaction(trial) as session:
        freezes.unfreeze(session, experiment="all", reason=None, actor=BOB, roles=ROLES)
    assert breaks(trial, 2).outcome == "applied"


def test_it_is_for_what_was_shown_and_until_it_expires(trial: Engine) -> None:
    old = steps.shown(trial, 2)
    with db.transaction(trial) as session:
        steps.variant(session, "control").allocation = 0.95  # type: ignore[assignment]
        steps.variant(session, "candidate_v3").allocation = 0.05  # type: ignore[assignment]
    assert breaks(trial, 2).outcome == "redrawn"
    steps.redraw(trial, 2)
    assert breaks(trial, 2, mark=old).outcome == "redrawn"
    assert shares(trial) == shares_of(control="0.95", candidate_v3="0.05")
    clock.advance(trial, hours=25)
    assert breaks(trial, 2).outcome == "expired"
    assert steps.ledger(trial, "break glass") == []


def test_the_database_wants_to_know_who_broke_the_glass_and_why(trial: Engine) -> None:
    applied = "UPDATE promotion.requests SET state = 'applied', decided_at = now()"
    for facts, says in (
        ("", "has not the approvals it takes"),
        (", is_glass_broken = true, decided_by = 'U4', decision_reason = 'down'", "is not on record"),
    ):
        with pytest.raises(DBAPIError, match=says), trial.begin() as connection:
            connection.execute(text(f"{applied}{facts} WHERE id = 2"))
    record = (
        "INSERT INTO promotion.ledger (actor, action, subject, request_id, reason)"
        " VALUES ('U4', 'break glass', '', 2, ' ');"
    )
    broken = f"{record} {applied}, is_glass_broken = true, decided_by = 'U4', decision_reason = ' ' WHERE id = 2"
    with pytest.raises(DBAPIError, match="broken_glass_says_who_and_why"), trial.begin() as connection:
        connection.execute(text(broken))
