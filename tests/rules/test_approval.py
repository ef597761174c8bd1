"""Who may decide which request."""

from __future__ import annotations

import pytest

from core.plans import ACTIONS
from core.rules.approval import QUORUM, Actor, is_approver, objection, rejection_objection

ALICE, BOB, CAROL = Actor("U1"), Actor("U2"), Actor("U3", frozenset({"S1"}))
APPROVERS = {"U1", "U2", "S1"}
GUARDED = [action for action in QUORUM if action != "rollback"]


def asked_by_alice(action: str, actor: Actor, approvers: set[str] = APPROVERS) -> str | None:
    return objection(action, requester="U1", actor=actor, approvers=approvers)


def test_every_action_has_its_quorum() -> None:
    assert set(QUORUM) == set(ACTIONS)


@pytest.mark.parametrize("action", GUARDED)
def test_everything_but_a_rollback_needs_somebody_else_from_the_approvers(action: str) -> None:
    assert "asked for this yourself" in str(asked_by_alice(action, ALICE))
    assert asked_by_alice(action, BOB) is None
    assert asked_by_alice(action, CAROL) is None, "a member of a group that approves"
    assert "Only the configured approvers" in str(asked_by_alice(action, Actor("U9")))
    assert "Only the configured approvers" in str(asked_by_alice(action, BOB, set())), "nobody is not everybody"


@pytest.mark.parametrize("actor", [ALICE, BOB, CAROL, Actor("U9")])
def test_a_rollback_needs_one_confirmation_by_anyone(actor: Actor) -> None:
    assert asked_by_alice("rollback", actor, set()) is None
    assert QUORUM["rollback"].approvals == 1


@pytest.mark.parametrize("action", GUARDED)
def test_the_requester_may_always_take_it_back(action: str) -> None:
    def says(actor: Actor) -> str | None:
        return rejection_objection(action, requester="U9", actor=actor, approvers=APPROVERS)

    assert says(Actor("U9")) is None
    assert says(BOB) is None
    assert "Only the configured approvers" in str(says(Actor("U8")))


@pytest.mark.parametrize(
    ("actor", "approvers", "may"),
    [
        (BOB, {"U2"}, True),
        (BOB, {"bob"}, False),
        (CAROL, {"S1"}, True),
        (CAROL, {"S2"}, False),
        (BOB, set(), False),
    ],
)
def test_approvers_are_ids_or_groups(actor: Actor, approvers: set[str], may: bool) -> None:
    assert is_approver(actor, approvers) is may
