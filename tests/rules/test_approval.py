"""Who may decide which request."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.plans import ACTIONS
from core.rules.approval import (
    RIGHTS,
    Actor,
    Quorums,
    Roles,
    acting_objection,
    asking_objection,
    breaking_objection,
    has_turned,
    objection,
    rejection_objection,
    says_why,
)

ALICE, BOB = Actor("U1"), Actor("U2")
APPROVERS = {"U1", "U2"}
GUARDED = [action for action in RIGHTS if action != "rollback"]


def asked_by_alice(action: str, actor: Actor, approvers: set[str] = APPROVERS) -> str | None:
    return objection(action, requester="U1", actor=actor, approvers=approvers)


def test_every_action_has_its_rights() -> None:
    assert set(RIGHTS) == set(ACTIONS)


@pytest.mark.parametrize("action", GUARDED)
def test_everything_but_a_rollback_needs_somebody_else_from_the_approvers(action: str) -> None:
    assert "asked for this yourself" in str(asked_by_alice(action, ALICE))
    assert asked_by_alice(action, BOB) is None
    assert "Only the configured approvers" in str(asked_by_alice(action, Actor("U9")))
    assert "Only the configured approvers" in str(asked_by_alice(action, BOB, set())), "nobody is not everybody"


@pytest.mark.parametrize("action", GUARDED)
def test_who_is_barred_or_not_known_does_not_approve(action: str) -> None:
    assert asked_by_alice(action, Actor("U2", barred="Guests do not.")) == "Guests do not."
    assert "did not say in time" in str(asked_by_alice(action, Actor("U2", is_known=False)))


@pytest.mark.parametrize("actor", [ALICE, BOB, Actor("U9"), Actor("U8", is_known=False)])
def test_a_rollback_needs_one_confirmation_by_anyone(actor: Actor) -> None:
    assert asked_by_alice("rollback", actor, set()) is None


def test_a_rollback_is_not_confirmed_by_guests() -> None:
    assert asked_by_alice("rollback", Actor("U7", barred="Guests do not.")) == "Guests do not."


@pytest.mark.parametrize(
    ("action", "share", "is_against", "needed"),
    [
        ("start", "0.1", False, 1),
        ("start", "0.1", True, 2),
        ("increase", "0.5", False, 1),
        ("increase", "0.51", False, 2),
        ("increase", "0.25", True, 2),
        ("promote", "1", False, 2),
        ("promote", "1", True, 3),
        ("retire", "0", False, 1),
        ("rollback", "1", True, 1),
    ],
)
def test_how_many_it_takes(action: str, share: str, is_against: bool, needed: int) -> None:
    assert Quorums().needed(action, Decimal(share), is_against=is_against) == needed


def test_no_configuration_makes_a_rollback_take_more() -> None:
    assert Quorums(step=5, production=5, against=5).needed("rollback", Decimal(1), is_against=True) == 1


def test_owners_approve_their_own_experiments() -> None:
    roles = Roles(frozenset({"U1"}), owners=frozenset({"U2"}), owners_of={"a": frozenset({"U3"})})
    assert roles.approvers_of("a") == {"U1", "U2", "U3"}
    assert roles.approvers_of("b") == {"U1", "U2"}


def test_who_may_ask() -> None:
    roles = Roles(frozenset({"U1"}), frozenset({"U4"}), frozenset({"U5"}), owners_of={"a": frozenset({"U3"})})

    def may(person: str, action: str = "start", experiment: str = "a") -> bool:
        return asking_objection(action, experiment=experiment, actor=Actor(person), roles=roles) is None

    assert [may(person) for person in ("U1", "U3", "U4", "U5", "U6")] == [True, True, True, False, False]
    assert may("U5", "rollback")
    assert not may("U3", experiment="b")
    assert asking_objection("start", experiment="a", actor=BOB, roles=Roles()) is None


def test_who_may_do_what_takes_no_approval() -> None:
    people = {"owners_of": {"a": frozenset({"U3"})}, "on_call": frozenset({"U5"})}
    roles = Roles(frozenset({"U1"}), frozenset({"U4"}), **people)

    def may(person: str, experiment: str | None = "a") -> bool:
        return acting_objection(experiment, actor=Actor(person), roles=roles) is None

    assert [may(person) for person in ("U1", "U3", "U4", "U5", "U6")] == [True, True, True, True, False]
    assert not may("U3", "b")
    assert may("U3", None), "models and policies are of no experiment"
    assert not may("U6", None)
    assert acting_objection("a", actor=BOB, roles=Roles()) is None
    assert acting_objection("a", actor=Actor("U1", barred="Bots do not."), roles=Roles()) == "Bots do not."


def test_who_may_break_the_glass() -> None:
    roles = Roles(frozenset({"U1"}), owners=frozenset({"U2"}), owners_of={"a": frozenset({"U3"})})

    def against(actor: Actor, experiment: str = "a", action: str = "promote") -> str | None:
        return breaking_objection(action, experiment=experiment, actor=actor, roles=roles)

    assert [against(Actor(owner)) for owner in ("U2", "U3")] == [None, None]
    assert "Only the owners of a" in str(against(Actor("U1"))), "an approver approves"
    assert "Only the owners of b" in str(against(Actor("U3"), "b"))
    assert "takes one confirmation" in str(against(Actor("U2"), action="rollback"))
    assert against(Actor("U2", barred="Bots do not.")) == "Bots do not."
    assert "did not say in time" in str(against(Actor("U2", is_known=False)))
    nobody = breaking_objection("promote", experiment="a", actor=BOB, roles=Roles(frozenset({"U2"})))
    assert "[experiments.a]" in str(nobody)


@pytest.mark.parametrize(
    ("reason", "says"), [("all is down", False), ("x" * 9 + " ...", False), ("all is down now", True)]
)
def test_a_reason_to_break_the_glass_is_more_than_a_word(reason: str, says: bool) -> None:
    assert says_why(reason) is says


@pytest.mark.parametrize(
    ("then", "now", "turned"),
    [
        ("increase", "increase", False),
        ("increase", "promote", False),
        ("increase", "wait", True),
        ("wait", "increase", False),
        ("wait", "hold", True),
        ("hold", "wait", False),
        ("rollback", "hold", True),
        ("rollback", "wait", False),
    ],
)
def test_which_verdicts_are_worse(then: str, now: str, turned: bool) -> None:
    assert has_turned(then, now) is turned


@pytest.mark.parametrize("action", GUARDED)
def test_the_requester_may_always_take_it_back(action: str) -> None:
    def says(actor: Actor) -> str | None:
        return rejection_objection(action, requester="U9", actor=actor, approvers=APPROVERS)

    assert says(Actor("U9")) is None
    assert says(BOB) is None
    assert "Only the configured approvers" in str(says(Actor("U8")))
