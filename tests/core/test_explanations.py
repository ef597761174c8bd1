"""A decision as a tree of reasons, and which version was in production when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from core import approvals, audit, db, explanations, ledger
from core.errors import Refused
from core.explanations import Branch
from core.registry import Registry
from tests.core import steps


def texts(branch: Branch, depth: int = 0) -> Iterator[str]:
    """The tree as indented lines."""
    yield "  " * depth + " | ".join(str(part) for part in (branch.what, branch.by, branch.why) if part)
    for one in branch.below:
        yield from texts(one, depth + 1)


def explained(engine: Engine, number: int) -> str:
    with db.transaction(engine) as session:
        return "\n".join(texts(explanations.request(session, number)))


@pytest.fixture
def trial(desk: Engine) -> Engine:
    """v3 runs at 10 % beside `control`."""
    steps.change(desk, "start", reason="better plans")
    return desk


def test_a_request_from_its_numbers_to_its_effects(trial: Engine, registry: Registry) -> None:
    steps.serve_all(trial, 2_000)
    number = steps.ask(trial, "promote", override=steps.BECAUSE)
    said = explained(trial, number)
    assert said.startswith("#2 promote in planner_policy_exp: open\n  asked for | U1\n")
    assert "    candidate_v3: 10 % → 100 %" in said
    assert f"    asked for against the rule | {steps.BECAUSE}" in said
    assert "    the rule said: wait | " in said
    assert "      fine: " in said or "      inconclusive: " in said
    assert "    the checklist: " in said
    assert "      passed: Policy version, planner_policy v3 → planner_model 3" in said
    assert "  nobody has decided" in said
    for person in (steps.BOB, steps.CAROL, steps.DAN):  # production against the rule takes three
        steps.approve(trial, number, person)
    said = explained(trial, number)
    assert all(f"  approved | {person}" in said for person in ("U2", "U3", "U4"))
    assert f"  promote: candidate_v3 | U4 | {steps.BECAUSE}" in said
    assert "  the registry has still to follow for planner_model, 0 attempts" in said
    assert "; not sealed yet" in said
    steps.deliver_registry(trial, registry)
    with db.transaction(trial) as session:
        audit.seal(session)
        head = audit.head(session)
    assert head is not None
    said = explained(trial, number)
    assert "  the registry followed for planner_model" in said
    assert f"; hash {head.hash[:16]}" in said


def test_a_rejected_request(trial: Engine) -> None:
    number = steps.ask(trial, "rollback", reason="it is slow")
    with db.transaction(trial) as session:
        approvals.reject(session, number, actor=steps.BOB, roles=steps.ROLES, reason="it is not")
    said = explained(trial, number)
    assert said.startswith(f"#{number} rollback in planner_policy_exp: rejected | U2 | it is not")
    assert "  asked for | U1 | it is slow" in said
    assert "  rejected | U2" in said


def test_what_there_is_not(desk: Engine) -> None:
    with db.transaction(desk) as session, pytest.raises(Refused, match="There is no request #7"):
        explanations.request(session, 7)
    with db.transaction(desk) as session, pytest.raises(Refused, match="There is no alert 7"):
        explanations.alert(session, 7)


def test_which_version_was_in_production_when(trial: Engine) -> None:
    def tenures() -> list[tuple[str, bool, bool]]:
        with db.transaction(trial) as session:
            found = ledger.tenures(session, steps.place(session).id)
        assert [one.since for one in found[:-1]] == [one.until for one in found[1:]]
        return [(one.version, one.since is None, one.until is None) for one in found]

    assert tenures() == []
    steps.change(trial, "promote", override=steps.BECAUSE)
    now, before = ("planner_policy v3", False, True), ("planner_policy v2", True, False)
    assert tenures() == [now, before]
    steps.change(trial, "rollback", reason="it is slow")
    assert tenures() == [("planner_policy v2", False, True), ("planner_policy v3", False, False), before]
