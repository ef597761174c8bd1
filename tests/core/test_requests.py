"""Asking and deciding: who may, when, on what, and what happens when two do it at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from bot.demo import clock
from core import approvals, cards, db, plans, requests
from core.cards import RequestCard
from core.errors import Refused
from core.rules.approval import Actor, Quorums, Roles
from core.rules.decision import CheckRow
from core.rules.lifecycle import Stage
from core.tables import Effect, Request
from tests.core import steps
from tests.core.conftest import EXPERIMENT, add_variant, set_stage
from tests.core.steps import (
    ALICE,
    BECAUSE,
    BOB,
    CAROL,
    DAN,
    ROLES,
    TERMS,
    approve,
    ask,
    at_once,
    change,
    shares,
    shares_of,
    variant,
)

MALLORY = Actor("U9")


def reject(engine: Engine, number: int, actor: Actor = BOB, reason: str = "not now") -> approvals.Decided:
    with db.transaction(engine) as session:
        return approvals.reject(session, number, actor=actor, roles=ROLES, reason=reason)


def card(engine: Engine, number: int) -> RequestCard:
    with db.transaction(engine) as session:
        return cards.request_card(session, number)


def effects(engine: Engine) -> list[str]:
    with db.transaction(engine) as session:
        return list(session.scalars(select(Effect.key).order_by(Effect.id)))


def by_hand(engine: Engine, **wanted: str) -> None:
    """Somebody of the experiments team changes shares with SQL of their own."""
    with db.transaction(engine) as session:
        for name, share in wanted.items():
            variant(session, name).allocation = Decimal(share)


# --- Asking ---------------------------------------------------------------------------------------------------------


def test_asking_changes_nothing_and_says_everything(desk: Engine) -> None:
    number = ask(desk, "start", share=Decimal("0.05"), reason="new features")
    assert shares(desk) == shares_of(control="1")
    found = card(desk, number)
    assert (found.state, found.action, found.requester, found.reason) == ("open", "start", ALICE.id, "new features")
    assert (found.subject, found.experiment, found.decided_by) == ("candidate_v3", EXPERIMENT, None)
    assert [(c.variant, c.before, c.after) for c in found.changes] == [
        ("control", Decimal(1), Decimal("0.95")),
        ("candidate_v3", Decimal(0), Decimal("0.05")),
    ]
    (entry,) = steps.ledger(desk)
    assert (entry.actor, entry.action, entry.request_id) == (ALICE.id, "request", number)
    assert effects(desk) == [f"card:{number}:opened"]


def test_a_checklist_stored_without_what_waits_is_still_read(desk: Engine) -> None:
    number = ask(desk, "start")
    kept = [{"title": "Sample size", "passed": False, "detail": "7 of 1,000 plans"}]
    with db.transaction(desk) as session:
        session.get_one(Request, number).checklist = kept
    assert card(desk, number).checklist == (CheckRow("Sample size", False, "7 of 1,000 plans", waits=False),)


@pytest.mark.parametrize(
    ("action", "wish", "says"),
    [
        ("start", {"policy_version_id": None}, "Say which policy version to start"),
        ("start", {"share": Decimal("0.2")}, "at most 10 %"),
        ("increase", {}, "No candidate is running"),
        ("promote", {}, "No candidate is running"),
        ("rollback", {}, "Say why"),
        ("rollback", {"reason": " \n "}, "Say why"),
        ("rollback", {"reason": "slow"}, "control is in production, and no version before it"),
        ("rollback", {"reason": "slow", "variant": "control"}, "no version before it that did not fail is on record"),
        ("retire", {}, "has no variant at 0 % that could be retired"),
    ],
)
def test_what_cannot_be_asked_for(desk: Engine, action: str, wish: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        ask(desk, action, **wish)
    assert steps.ledger(desk) == []
    assert effects(desk) == []


def test_an_objection_takes_a_reason_that_is_one(desk: Engine) -> None:
    change(desk, "start")
    steps.roll_up(desk)
    with pytest.raises(Refused, match="wait"):
        ask(desk, "increase")
    with pytest.raises(Refused, match="wait"):
        ask(desk, "increase", override="   ")
    found = card(desk, ask(desk, "increase", override=BECAUSE))
    assert found.override == BECAUSE
    assert len(found.checklist) == 10


def test_an_override_that_was_not_needed_is_not_kept(desk: Engine) -> None:
    assert card(desk, ask(desk, "start", override=BECAUSE)).override is None


def asks(engine: Engine, actor: Actor, action: str = "start", **wish: Any) -> int:
    """Somebody else asks for the same, or for something else."""
    with db.transaction(engine) as session:
        given = {"policy_version_id": steps.version(session, 3).id} | wish
        return requests.ask(session, plans.Ask(action, EXPERIMENT, **given), requester=actor.id, terms=TERMS).id


def test_one_at_a_time(desk: Engine) -> None:
    number = ask(desk, "start")
    with pytest.raises(Refused, match=f"asked for just this already: request #{number} is still open"):
        ask(desk, "start")
    with pytest.raises(Refused, match=f"Request #{number} .start. of {EXPERIMENT} is still open.*add `instead`"):
        asks(desk, BOB)
    reject(desk, number)
    assert ask(desk, "start") > number


def test_a_newer_request_takes_the_place_of_ones_own_or_of_one_that_is_named(desk: Engine) -> None:
    number = ask(desk, "start")
    newer = ask(desk, "start", share=Decimal("0.05"))
    found = card(desk, number)
    assert (found.state, found.decided_by) == ("superseded", ALICE.id)
    assert "newer request took its place" in str(found.decision_reason)
    newest = asks(desk, BOB, replaces=True)
    assert [card(desk, each).state for each in (newer, newest)] == ["superseded", "open"]
    assert [entry.actor for entry in steps.ledger(desk, "supersede")] == [ALICE.id, BOB.id]
    with db.transaction(desk) as session:
        assert [requests.closed_for(session, each) for each in (number, newer, newest)] == [None, number, newer]


def test_ones_own_rollback_is_not_replaced_unsaid(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "rollback", reason="slow")
    with pytest.raises(Refused, match=f"Request #{number} .rollback.*add `instead`"):
        ask(desk, "increase", override=BECAUSE)
    newer = ask(desk, "rollback", reason="slow and wrong")
    assert ask(desk, "increase", override=BECAUSE, replaces=True) > newer


def test_who_may_ask(desk: Engine) -> None:
    def check(action: str, **roles: Any) -> None:
        with db.transaction(desk) as session:
            requests.check_may_ask(session, plans.Ask(action, EXPERIMENT), actor=ALICE, roles=Roles(**roles))

    check("start")
    with pytest.raises(Refused, match="Only operators, approvers and the owners of planner_policy_exp may ask"):
        check("start", operators=frozenset())
    check("start", operators=frozenset({ALICE.id}))
    check("start", operators=frozenset(), owners_of={EXPERIMENT: frozenset({ALICE.id})})


def test_two_people_asking_at_once_make_one_request(desk: Engine) -> None:
    found = at_once(*[lambda: ask(desk, "start")] * 3)
    assert sum(isinstance(one, int) for one in found) == 1
    assert sum(isinstance(one, Refused) for one in found) == 2
    with db.transaction(desk) as session:
        assert len(cards.open_requests(session)) == 1


# --- Approving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "says"), [(ALICE, "You asked for this yourself"), (MALLORY, "Only the configured approvers")]
)
def test_who_may_not_is_told_why(desk: Engine, actor: Actor, says: str) -> None:
    number = ask(desk, "start")
    with pytest.raises(Refused, match=says):
        approve(desk, number, actor)
    assert card(desk, number).state == "open"
    assert shares(desk) == shares_of(control="1")


def test_an_approver_who_asked_needs_another(desk: Engine) -> None:
    with db.transaction(desk) as session:
        wish = plans.Ask("start", EXPERIMENT, policy_version_id=steps.version(session, 3).id)
        number = requests.ask(session, wish, requester=BOB.id, terms=TERMS).id
    with pytest.raises(Refused, match="You asked for this yourself"):
        approve(desk, number, BOB)
    assert approve(desk, number, CAROL).outcome == "applied"


def test_a_rollback_may_be_confirmed_by_its_requester_or_anybody(desk: Engine) -> None:
    for actor in (ALICE, MALLORY):
        with db.transaction(desk) as session:
            set_stage(session, steps.version(session, 3), Stage.CANDIDATE)
        change(desk, "start")
        change(desk, "rollback", actor, reason="slow")
        assert shares(desk) == shares_of(control="1", candidate_v3="0")


def test_what_was_decided_is_on_record(desk: Engine) -> None:
    number = change(desk, "start", reason="new features")
    found = card(desk, number)
    assert (found.state, found.decided_by) == ("applied", BOB.id)
    assert found.decided_at is not None
    assert [p.is_done for p in found.progress] == [True, False]
    record = [(e.actor, e.action, e.request_id) for e in steps.ledger(desk)]
    assert record == [(ALICE.id, "request", number), (BOB.id, "approve", number), (BOB.id, "start", number)]
    assert {f"card:{number}:opened", f"card:{number}:applied"} < set(effects(desk))
    assert any(key.startswith("notice:") for key in effects(desk))
    assert any(key.startswith("registry:planner_model:") for key in effects(desk))


def test_a_double_click_and_a_click_on_an_old_card(desk: Engine) -> None:
    number = change(desk, "start")
    for click in (approve, reject):
        for actor in (BOB, CAROL):
            with pytest.raises(Refused, match=rf"Request #{number} is closed already \(applied\)"):
                click(desk, number, actor)
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")


@pytest.mark.parametrize("click", [approve, reject])
def test_a_request_that_does_not_exist(desk: Engine, click: Any) -> None:
    with pytest.raises(Refused, match="There is no request #4711"):
        click(desk, 4711)


def test_two_approvers_at_the_same_moment(desk: Engine) -> None:
    number = ask(desk, "start")
    found = at_once(lambda: approve(desk, number, BOB), lambda: approve(desk, number, CAROL))
    assert sorted(type(one).__name__ for one in found) == ["Decided", "Refused"]
    assert "closed already" in str(next(one for one in found if isinstance(one, Refused)))
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")
    assert len(steps.ledger(desk, "start")) == 1


def test_approve_and_reject_at_the_same_moment(desk: Engine) -> None:
    number = ask(desk, "start")
    found = at_once(lambda: approve(desk, number, BOB), lambda: reject(desk, number, CAROL))
    assert sorted(type(one).__name__ for one in found) == ["Decided", "Refused"]
    applied = card(desk, number).state == "applied"
    assert shares(desk) == (shares_of(control="0.9", candidate_v3="0.1") if applied else shares_of(control="1"))


def test_a_change_that_is_refused_leaves_the_request_open(desk: Engine) -> None:
    number = ask(desk, "start")
    with db.transaction(desk) as session:
        steps.place(session).status = "paused"
    with pytest.raises(Refused, match="is paused"):
        approve(desk, number)
    assert card(desk, number).state == "open"
    assert steps.ledger(desk, "approve") == []


# --- How many -------------------------------------------------------------------------------------------------------


def test_going_against_the_rule_takes_one_more(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    decided = approve(desk, number, BOB)
    assert (decided.outcome, decided.sentence) == ("counted", "Your approval counts. 1 more needed.")
    found = card(desk, number)
    assert (found.state, found.needed, found.approvals) == ("open", 2, (BOB.id,))
    with pytest.raises(Refused, match="You have decided on this already"):
        approve(desk, number, BOB)
    assert approve(desk, number, CAROL).outcome == "applied"
    assert [entry.actor for entry in steps.ledger(desk, "approve")] == [BOB.id, BOB.id, CAROL.id]


def test_a_promotion_takes_two_and_one_more_against_the_rule(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "promote", override=BECAUSE)
    outcomes = [approve(desk, number, each).outcome for each in (BOB, CAROL, DAN)]
    assert outcomes == ["counted", "counted", "applied"]


def test_a_rejection_closes_it_however_many_have_approved(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "promote", override=BECAUSE)
    approve(desk, number, BOB)
    approve(desk, number, CAROL)
    assert reject(desk, number, BOB).outcome == "rejected"  # who approved may think better of it
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")


def test_an_approval_lapses_with_the_role(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    approve(desk, number, BOB)
    without_bob = Roles(approvers=frozenset({CAROL.id, DAN.id}))
    assert approve(desk, number, CAROL, roles=without_bob).outcome == "counted"
    assert card(desk, number).approvals == (CAROL.id,)
    assert approve(desk, number, BOB).outcome == "applied", "an approver again"


def test_another_quorum_redraws_the_card(desk: Engine) -> None:
    number = ask(desk, "start")
    more = replace(TERMS, quorums=Quorums(step=2))
    with db.transaction(desk) as session:
        mark = cards.request_card(session, number).mark
        decided = approvals.approve(session, number, shown=mark, actor=BOB, roles=ROLES, terms=more)
    assert "it takes 2 approvals now, not 1" in decided.sentence
    assert card(desk, number).needed == 2


def test_the_database_refuses_a_change_without_approvals(desk: Engine) -> None:
    number = ask(desk, "start")
    with (
        pytest.raises(DBAPIError, match="has not the approvals it takes"),
        db.transaction(desk) as session,
    ):
        session.execute(text("UPDATE promotion.requests SET state = 'applied', decided_at = now()"))
    assert card(desk, number).state == "open"


# --- Until when -----------------------------------------------------------------------------------------------------


def expire(engine: Engine) -> list[str]:
    """What the job does; the states of all requests then."""
    with db.transaction(engine) as session:
        approvals.remind(session, timedelta(hours=2))
        for number in approvals.overdue(session):
            approvals.expire(session, number)
        return list(session.scalars(select(Request.state).order_by(Request.id)))


def test_a_request_expires_after_one_reminder(desk: Engine) -> None:
    number = ask(desk, "start")
    assert expire(desk) == ["open"]
    clock.advance(desk, hours=22.5)
    assert expire(desk) == expire(desk) == ["open"]
    assert [key for key in effects(desk) if key.startswith("reminder")] == [f"reminder:{number}"]
    clock.advance(desk, hours=2)
    assert expire(desk) == expire(desk) == ["expired"]
    found = card(desk, number)
    assert (found.decided_by, found.decision_reason) == ("promotion-bot", "It was not decided within 24 hours.")
    assert steps.ledger(desk)[-1].action == "expire"
    assert f"card:{number}:expired" in effects(desk)
    with pytest.raises(Refused, match=r"closed already .expired."):
        approve(desk, number)


def test_a_click_after_its_time_changes_nothing_though_the_job_has_not_run(desk: Engine) -> None:
    number = ask(desk, "start")
    clock.advance(desk, hours=25)
    assert approve(desk, number).outcome == "expired"
    assert card(desk, number).state == "expired"
    assert shares(desk) == shares_of(control="1")


# --- Cards that are out of date -------------------------------------------------------------------------------------


def redrawn(engine: Engine, number: int) -> list[tuple[str, Decimal, Decimal]]:
    """One approval on a stale card changes nothing but the card; the next one counts."""
    before = shares(engine)
    assert approve(engine, number).outcome == "redrawn"
    assert shares(engine) == before
    steps.redraw(engine, number)
    found = card(engine, number)
    assert found.state == "open"
    assert any(key.startswith(f"card:{number}:ledger-") for key in effects(engine))
    assert approve(engine, number).outcome == "applied"
    return [(c.variant, c.before, c.after) for c in found.changes]


def test_stale_shares_are_redrawn_before_anything_is_decided(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, steps.place(session), "b", "0")
    number = ask(desk, "start")
    by_hand(desk, control="0.5", b="0.5")
    changes = redrawn(desk, number)
    assert changes[0][1:] == (Decimal("0.5"), Decimal("0.45"))
    assert shares(desk) == shares_of(control="0.45", b="0.45", candidate_v3="0.1")


def test_numbers_measured_under_other_shares_are_measured_anew(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    assert approve(desk, number, CAROL).outcome == "counted"
    by_hand(desk, control="0.95", candidate_v3="0.05")
    said = approve(desk, number).sentence
    assert "Since this card was drawn: the share of candidate_v3 went from 10 % to 5 %;" in said
    assert "It is measured anew" in said
    assert approve(desk, number).sentence == said, "a click on the old card still counts for nothing"
    steps.redraw(desk, number)
    found = card(desk, number)
    assert (found.state, found.approvals) == ("open", ())
    assert [(c.variant, c.before, c.after) for c in found.changes][1] == (
        "candidate_v3",
        Decimal("0.05"),
        Decimal("0.1"),
    )
    assert [approve(desk, number, each).outcome for each in (BOB, CAROL)] == ["counted", "applied"]
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")


def test_numbers_of_yesterday_are_measured_anew(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    with db.transaction(desk) as session:
        session.execute(
            text("UPDATE promotion.requests SET drawn_at = now() - interval '25 hours' WHERE state = 'open'")
        )
    assert "its numbers are older than 24 hours" in approve(desk, number).sentence
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")
    steps.redraw(desk, number)
    assert [approve(desk, number, each).outcome for each in (BOB, CAROL)] == ["counted", "applied"]


@pytest.mark.parametrize("named", [None, "control"])
def test_a_stale_rollback_is_redrawn(desk: Engine, named: str | None) -> None:
    change(desk, "start")
    number = ask(desk, "rollback", reason="slow", variant="candidate_v3", baseline=named)
    by_hand(desk, control="0.5", candidate_v3="0.5")
    changes = redrawn(desk, number)
    assert changes == [("control", Decimal("0.5"), Decimal(1)), ("candidate_v3", Decimal("0.5"), Decimal(0))]
    assert shares(desk) == shares_of(control="1", candidate_v3="0")


def test_a_verdict_that_turned_is_told_and_takes_a_fresh_decision(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    approve(desk, number, CAROL)
    steps.goes_wrong(desk)
    steps.watch(desk)
    said = approve(desk, number).sentence
    assert "Since this card was drawn: the verdict turned from hold to rollback; " in said
    assert "alert 1 was raised" in said
    steps.redraw(desk, number)
    found = card(desk, number)
    assert (found.state, found.approvals, found.needed) == ("open", (), 2)
    assert found.params["verdict"] == "rollback"
    assert [approve(desk, number, each).outcome for each in (BOB, CAROL)] == ["counted", "applied"]


def test_a_click_on_an_older_drawing_counts_for_nothing(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, steps.place(session), "b", "0")
    number = ask(desk, "start")
    old = steps.shown(desk, number)
    by_hand(desk, control="0.5", b="0.5")
    assert approve(desk, number, BOB).outcome == "redrawn"
    late = approve(desk, number, CAROL, mark=old)
    assert late.outcome == "redrawn"
    assert "Since this card was drawn: the share of b went from 0 % to 50 %" in late.sentence
    assert approve(desk, number, CAROL).outcome == "applied"


def test_what_returns_to_what_it_was_is_a_new_drawing_all_the_same(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, steps.place(session), "b", "0")
    number = ask(desk, "start")
    marks = [steps.shown(desk, number)]
    for control, b in (("0.5", "0.5"), ("1", "0")):
        by_hand(desk, control=control, b=b)
        approve(desk, number)
        marks.append(steps.shown(desk, number))
    assert len(set(marks)) == 3


def test_another_policy_version_under_the_same_name_is_noticed(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "rollback", reason="slow")
    with db.transaction(desk) as session:
        found = variant(session, "candidate_v3")
        found.config = {"policy_version_id": str(steps.version(session, 1).id)}
    assert "candidate_v3 serves another policy version" in approve(desk, number).sentence


def test_a_rollback_is_not_held_up_by_worse_numbers(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "rollback", reason="slow")
    steps.goes_wrong(desk)
    steps.watch(desk)
    assert approve(desk, number, ALICE).outcome == "applied"


def test_a_stale_retirement_names_what_would_go_now(desk: Engine) -> None:
    with db.transaction(desk) as session:
        add_variant(session, steps.place(session), "a", "0")
    number = ask(desk, "retire", mode="delete")
    with db.transaction(desk) as session:
        add_variant(session, steps.place(session), "b", "0")
    assert approve(desk, number).outcome == "redrawn"
    steps.redraw(desk, number)
    found = card(desk, number)
    assert found.subject == "a, b"
    assert set(found.params["lost"]) == {"a", "b"}
    assert approve(desk, number).outcome == "applied"
    assert shares(desk) == shares_of(control="1")


def test_a_variant_that_is_gone_closes_the_request(desk: Engine) -> None:
    change(desk, "start")
    number = ask(desk, "increase", override=BECAUSE)
    with db.transaction(desk) as session:
        session.delete(variant(session, "candidate_v3"))
        variant(session, "control").allocation = Decimal(1)
    assert approve(desk, number).outcome == "redrawn"
    steps.redraw(desk, number)
    found = card(desk, number)
    assert (found.state, found.decided_by) == ("superseded", "promotion-bot")
    assert "candidate_v3 is gone" in str(found.decision_reason)
    assert ask(desk, "start", policy_version_id=qualified_again(desk)) > number


def qualified_again(engine: Engine) -> Any:
    with db.transaction(engine) as session:
        version = steps.version(session, 3)
        set_stage(session, version, Stage.CANDIDATE)
        return version.id


def test_the_card_of_one_that_comes_back_is_about_that_one(desk: Engine) -> None:
    change(desk, "start")
    change(desk, "rollback", reason="slow")
    number = ask(desk, "start", policy_version_id=qualified_again(desk))
    assert card(desk, number).subject == "candidate_v3"
    by_hand(desk, control="1")  # no change, so not stale
    assert approve(desk, number).outcome == "applied"


# --- Rejecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "   ", "\n"])
def test_a_rejection_needs_a_reason(desk: Engine, reason: str) -> None:
    number = ask(desk, "start")
    with pytest.raises(Refused, match="Say why you reject it"):
        reject(desk, number, reason=reason)
    assert card(desk, number).state == "open"


@pytest.mark.parametrize(("actor", "state"), [(BOB, "rejected"), (ALICE, "withdrawn")])
def test_reject_and_withdraw(desk: Engine, actor: Actor, state: str) -> None:
    number = ask(desk, "start")
    assert reject(desk, number, actor, " too risky ").outcome == state
    found = card(desk, number)
    assert (found.state, found.decided_by, found.decision_reason) == (state, actor.id, "too risky")
    assert found.progress == ()
    assert shares(desk) == shares_of(control="1")
    entry = steps.ledger(desk)[-1]
    assert (entry.action, entry.actor, entry.reason) == ("reject", actor.id, "too risky")
    assert f"card:{number}:{state}" in effects(desk)
    with pytest.raises(Refused, match=f"closed already .{state}."):
        approve(desk, number)


def test_who_may_not_reject(desk: Engine) -> None:
    number = ask(desk, "start")
    with pytest.raises(Refused, match="Only the configured approvers"):
        reject(desk, number, MALLORY)


def test_whether_one_may_reject_is_known_before_a_reason_is_asked_for(desk: Engine) -> None:
    number = ask(desk, "start")

    def check(actor: Actor) -> None:
        with db.transaction(desk) as session:
            approvals.check_may_reject(session, number, actor=actor, roles=ROLES)

    check(BOB)
    check(ALICE)
    with pytest.raises(Refused, match="Only the configured approvers"):
        check(MALLORY)
    reject(desk, number)
    with pytest.raises(Refused, match="closed already"):
        check(BOB)


# --- Somebody else is at it -----------------------------------------------------------------------------------------


def test_a_click_waits_no_longer_than_slack_does(desk: Engine) -> None:
    number = ask(desk, "start")
    with db.transaction(desk) as holder:
        steps.place(holder)
        with pytest.raises(Refused, match="Somebody else is changing this"):
            approve(desk, number)
    assert approve(desk, number).outcome == "applied"


def test_requests_are_kept(desk: Engine) -> None:
    change(desk, "start")
    with db.transaction(desk) as session:
        (found,) = session.scalars(select(Request)).all()
        assert Decimal(found.changes[0]["before"]) == 1
