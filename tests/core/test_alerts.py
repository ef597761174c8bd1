"""Alerts: what is told apart, one open alert a cause, and the ways in which one ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, select, text

from bot import history_screens
from bot.demo import clock
from core import alert_cards, alerts, approvals, cards, db, explanations, rollout_cards
from core.approvals import Decided
from core.cards import Answered
from core.errors import Refused
from core.promotions import Scope
from core.steps import notice
from core.tables import Alert, Effect, Request, Rollout
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, CAROL, ROLES, TALK, TERMS, goes_wrong, watch

ESCALATES = tuple(timedelta(minutes=minutes) for minutes in (10, 20, 40))


def found(engine: Engine) -> list[Alert]:
    with db.transaction(engine) as session:
        return list(session.scalars(select(Alert).order_by(Alert.id)))


def effects(engine: Engine, kind: str) -> list[str]:
    with db.transaction(engine) as session:
        return list(session.scalars(select(Effect.key).where(Effect.kind == kind).order_by(Effect.id)))


def shown(engine: Engine, number: int = 1, scope: Scope = "all") -> str:
    """What the button on the card brings back of the shares it shows."""
    with db.transaction(engine) as session:
        return alert_cards.alert_card(session, number).marks[scope]


def confirm(engine: Engine, number: int = 1, scope: Scope = "all", mark: str | None = None) -> Decided:
    mark = mark or shown(engine, number, scope)
    with db.transaction(engine) as session:
        return approvals.confirm(session, number, scope=scope, shown=mark, actor=CAROL, roles=ROLES, terms=TERMS)


def dismiss(engine: Engine, number: int = 1) -> None:
    with db.transaction(engine) as session:
        alerts.dismiss(session, number, by=CAROL.id, reason="a known release")


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 10 % that did well for an hour."""
    steps.change(desk, "start")
    steps.serve_all(desk, 4000)
    assert watch(desk) == []
    clock.advance(desk, hours=1)
    return desk


def test_harm_by_the_candidate_alone_proposes_the_rollback(running: Engine) -> None:
    goes_wrong(running)
    (alert,) = watch(running)
    assert (alert.cause, alert.whose, alert.is_critical) == ("regression", "candidate", True)
    assert alert.why.startswith("Acceptance is worse, beyond chance and beyond tolerance: ")
    assert alert.numbers[0][:2] == ["worse", "Acceptance"]
    assert alert.proposals["all"] == {"control": ["0.9000", "1"], "candidate_v3": ["0.1000", "0"]}
    assert steps.shares(running) == steps.shares_of(control="0.9", candidate_v3="0.1"), "nothing rolls back by itself"


def test_one_open_alert_a_cause_goes_on(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    goes_wrong(running)
    steps.at_once(lambda: watch(running), lambda: watch(running))
    (alert,) = found(running)
    assert alert.looks == 3
    assert effects(running, "alert")[0] == "alert:1:opened"
    assert len(effects(running, "alert")) >= 2, "it is edited as the evidence grows"


def test_confirmed_by_one_click(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    assert confirm(running).outcome == "applied"
    (alert,) = found(running)
    assert (alert.state, alert.ended_by, alert.request_id) == ("confirmed", CAROL.id, 2)
    assert steps.shares(running) == steps.shares_of(control="1", candidate_v3="0")
    with pytest.raises(Refused, match=r"has ended already \(confirmed\)"):
        confirm(running, mark="x")
    assert [entry.action for entry in steps.ledger(running)][-4:] == [
        "request",
        "approve",
        "rollback",
        "alert confirmed",
    ]


def test_it_is_explained_from_its_numbers_to_its_answer(running: Engine) -> None:
    goes_wrong(running)
    (alert,) = watch(running)
    confirm(running)
    with db.transaction(running) as session:
        tree = explanations.alert(session, 1)
    assert tree.what == f"alert 1, regression, about candidate_v3 in {EXPERIMENT}: confirmed"
    seen, *deeds = tree.below
    assert (tree.by, seen.what, seen.why) == (CAROL.id, "seen in 1 look", alert.why)
    assert seen.below[0].what.startswith("worse: Acceptance, ")
    assert [one.what for one in deeds[:3]] == ["alert", "alert confirmed", "answered by request #2"]


def test_what_one_click_did_is_one_line_of_the_history(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    confirm(running)
    with db.transaction(running) as session:
        lines = cards.history(session, EXPERIMENT)
        decided = cards.decisions(session, limit=1)
    assert [line.action for line in lines][:2] == ["approve", "alert"]
    assert [(line.action, line.answered) for line in decided] == [("approve", Answered("candidate_v3", (1,)))]
    told = history_screens.deed(lines[0])
    assert told.startswith(f"`candidate_v3` in `{EXPERIMENT}` rolled back by ")
    assert "(alert 1): " in told
    assert "`candidate_v3` 10 % → 0 %" in told


def test_two_people_confirm_at_the_same_moment(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    outcomes = steps.at_once(lambda: confirm(running), lambda: confirm(running))
    assert sorted(type(each).__name__ for each in outcomes) == ["Decided", "Refused"]
    with db.transaction(running) as session:
        assert session.scalars(select(Request.action).where(Request.action == "rollback")).all() == ["rollback"]


def test_not_on_other_shares_than_the_card_shows(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    before = shown(running)
    with running.begin() as connection:  # somebody edits the shares by hand
        connection.execute(text("UPDATE exp.variants SET allocation = CASE name WHEN 'control' THEN 0.8 ELSE 0.2 END"))
    assert confirm(running, mark=before).outcome == "redrawn"
    assert steps.shares(running) == steps.shares_of(control="0.8", candidate_v3="0.2")
    assert found(running)[0].state == "open"
    assert confirm(running).outcome == "applied"


def test_only_this_share(running: Engine) -> None:
    with running.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO exp.variants (experiment_id, name, allocation, config)
                SELECT experiment_id, 'other', 0.3, '{}' FROM exp.variants WHERE name = 'control'"""),
        )
        connection.execute(text("UPDATE exp.variants SET allocation = 0.6 WHERE name = 'control'"))
    goes_wrong(running)
    watch(running)
    alert = next(alert for alert in found(running) if alert.cause == "regression")
    assert alert.proposals["share"] != alert.proposals["all"]
    assert confirm(running, alert.id, "share").outcome == "applied"
    assert steps.shares(running) == steps.shares_of(control="0.7", candidate_v3="0", other="0.3")


def test_a_rollback_asked_for_otherwise_confirms_too(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    steps.change(running, "rollback", reason="I saw it myself", actor=ALICE)
    (alert,) = found(running)
    assert (alert.state, alert.ended_by) == ("confirmed", ALICE.id)


def test_other_shares_supersede(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    steps.change(running, "increase", override="we want to know")
    assert [(alert.state, alert.end_reason) for alert in found(running)] == [("superseded", "The shares were changed.")]


def test_dismissed_is_quiet_for_a_day(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    with pytest.raises(Refused, match="Say why"), db.transaction(running) as session:
        alerts.dismiss(session, 1, by=CAROL.id, reason=" ")
    dismiss(running)
    goes_wrong(running)
    assert watch(running) == []
    clock.advance(running, hours=24)
    goes_wrong(running)
    assert [alert.id for alert in watch(running)] == [2]


def test_silence_is_about_the_data_and_recovers(running: Engine) -> None:
    clock.advance(running, minutes=30)
    steps.roll_up(running)
    (alert,) = watch(running)
    assert (alert.cause, alert.whose, alert.is_critical) == ("silence", "data", True)
    assert alert.why.startswith("No events for an hour.")
    assert alert.proposals == {}
    with pytest.raises(Refused, match="not about one candidate alone"):
        confirm(running, mark="x")
    steps.serve_all(running, 1000)
    watch(running)
    assert found(running)[0].state == "open", "one quiet look is not enough"
    clock.advance(running, minutes=31)
    steps.serve_all(running, 1000)
    watch(running)
    assert found(running)[0].state == "recovered"


def test_an_hourly_look_that_is_quiet_is_not_enough_either(running: Engine) -> None:
    hourly = replace(TALK, looked_at_every=timedelta(hours=1))
    clock.advance(running, minutes=30)
    steps.roll_up(running)
    assert watch(running, hourly)
    states = []
    for _ in range(2):
        clock.advance(running, hours=1)
        steps.serve_all(running, 1000)
        watch(running, hourly)
        states.append(found(running)[0].state)
    assert states == ["open", "recovered"]


def test_without_a_baseline_nothing_recovers(running: Engine) -> None:
    """What nobody can look at is not over."""
    goes_wrong(running)
    watch(running)
    with running.begin() as connection:
        connection.execute(text("UPDATE exp.variants SET name = 'nobody', config = '{}' WHERE name = 'control'"))
    clock.advance(running, minutes=45)
    steps.serve(running, "candidate_v3", 100)
    watch(running)
    (alert,) = found(running)
    assert (alert.state, alert.end_reason) == ("open", None)


def test_a_deleted_experiment_leaves_nothing_open(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    with running.begin() as connection:
        for table in ("events", "assignments", "variants"):
            connection.execute(text(f"DELETE FROM exp.{table}"))
        connection.execute(text("DELETE FROM exp.experiments"))
    with db.transaction(running) as session:
        alerts.end_deleted(session)
    (alert,) = found(running)
    assert (alert.state, alert.end_reason) == ("superseded", "The experiment was deleted.")
    with db.transaction(running) as session:
        assert alert_cards.alert_card(session, alert.id).experiment == "a deleted experiment"
        card = rollout_cards.rollout_card(session, session.scalars(select(Rollout.id)).one(), terms=TERMS)
    assert (card.experiment, card.candidate, card.ended_at is None) == ("a deleted experiment", None, False)


def test_a_paused_experiment_is_silent_by_right(running: Engine) -> None:
    clock.advance(running, hours=2)
    steps.roll_up(running)
    with running.begin() as connection:
        connection.execute(text("UPDATE exp.experiments SET status = 'paused'"))
    assert watch(running) == []


def test_both_arms_bad_is_not_the_candidate(running: Engine) -> None:
    clock.advance(running, days=1)
    for arm, plans in (("control", 3600), ("candidate_v3", 400)):
        steps.serve(running, arm, plans, accepted=0.3)
    (alert,) = watch(running)
    assert (alert.cause, alert.whose, alert.proposals) == ("both arms", "both", {})


def test_served_at_zero_for_more_than_a_day(running: Engine) -> None:
    steps.change(running, "rollback", reason="bugs")
    steps.serve(running, "control", 1000)
    steps.serve(running, "candidate_v3", 20)
    assert watch(running) == [], "units keep what they were assigned for a while"
    clock.advance(running, days=2)
    steps.serve(running, "control", 1000)
    steps.serve(running, "candidate_v3", 20)
    (alert,) = watch(running)
    assert (alert.cause, alert.whose, alert.is_critical) == ("lingering", "assignment", False)
    assert "candidate_v3" in alert.why


def test_what_others_get_meanwhile_is_no_excuse_for_lingering(running: Engine) -> None:
    steps.change(running, "rollback", reason="bugs")
    clock.advance(running, days=2)
    steps.serve(running, "control", 1000)
    with running.begin() as connection:
        connection.execute(text("UPDATE exp.variants SET allocation = 0.9 WHERE name = 'control'"))
        connection.execute(
            text(
                "INSERT INTO exp.variants (id, experiment_id, name, allocation, config) "
                "SELECT gen_random_uuid(), experiment_id, 'newer', 0.1, config FROM exp.variants WHERE name = 'control'"
            )
        )
    with db.transaction(running) as session:
        notice(session)
    steps.serve(running, "candidate_v3", 20)
    steps.serve_all(running, 1000)
    assert "lingering" in {alert.cause for alert in watch(running)}


# --- Nobody answers -------------------------------------------------------------------------------------------------


def escalate(engine: Engine) -> list[str]:
    before = len(effects(engine, "escalation"))
    with db.transaction(engine) as session:
        alerts.escalate(session, ESCALATES)
    return [key.rsplit(":", 1)[1] for key in effects(engine, "escalation")[before:]]


def test_unanswered_it_escalates_step_by_step_once_each(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    told = []
    for _ in range(12):
        told.append(escalate(running))
        clock.advance(running, minutes=5)
    assert told == [[], [], ["0"], [], ["1"], [], [], [], ["2"], [], [], []]


def test_after_downtime_all_steps_that_are_due_are_taken_at_once(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    clock.advance(running, hours=3)
    assert escalate(running) == ["0", "1", "2"]
    assert escalate(running) == []


def test_snoozed_it_rests_and_then_begins_anew(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    clock.advance(running, minutes=11)
    assert escalate(running) == ["0"]
    with db.transaction(running) as session:
        alerts.snooze(session, 1, by=CAROL.id, until=db.now_of(session) + timedelta(hours=1))
        assert alert_cards.alert_card(session, 1).snoozed_by == CAROL.id
    clock.advance(running, minutes=69)
    assert escalate(running) == []
    clock.advance(running, minutes=2)
    assert escalate(running) == ["0"]


def test_what_has_ended_or_is_not_critical_does_not(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    dismiss(running)
    clock.advance(running, hours=1)
    assert escalate(running) == []
    steps.change(running, "rollback", reason="bugs")
    clock.advance(running, days=2)
    steps.serve(running, "control", 1000)
    steps.serve(running, "candidate_v3", 20)
    assert [alert.is_critical for alert in watch(running)] == [False]
    clock.advance(running, hours=1)
    assert escalate(running) == []


# --- Scorecard ------------------------------------------------------------------------------------------------------


def test_the_scorecard_counts_what_people_judged(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    clock.advance(running, minutes=12)
    dismiss(running)
    clock.advance(running, days=1)
    goes_wrong(running)
    watch(running)
    clock.advance(running, minutes=4)
    assert confirm(running, 2).outcome == "applied"
    with db.transaction(running) as session:
        total, regression = alert_cards.scorecard(session, EXPERIMENT)
    assert (total.cause, regression.cause) == ("all", "regression")
    assert (total.raised, total.precision, total.by_state) == (2, 0.5, {"confirmed": 1, "dismissed": 1})
    assert total.minutes_to_decide == pytest.approx(8, abs=0.5)
    assert regression.minutes_to_detect is not None
    assert regression.minutes_to_detect >= 60


def test_who_acted_lately_is_known(running: Engine) -> None:
    with db.transaction(running) as session:
        place = steps.place(session).id
        assert alert_cards.acted_lately(session, place) == frozenset()
    clock.advance(running, hours=1)
    goes_wrong(running)
    watch(running)
    dismiss(running)
    with db.transaction(running) as session:
        assert CAROL.id in alert_cards.acted_lately(session, place)


def test_shares_of_a_proposal_are_numbers(running: Engine) -> None:
    goes_wrong(running)
    watch(running)
    with db.transaction(running) as session:
        card = alert_cards.alert_card(session, 1)
    assert card.proposals["all"]["candidate_v3"] == (Decimal("0.1"), Decimal(0))
