"""Nothing acts by itself, but for what an owner has signed: at the end of a countdown that everybody sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from bot.demo import clock
from core import alert_cards, alerts, approvals, cards, countdowns, db, explanations, freezes, signatures
from core.errors import Refused
from core.rules.approval import Actor, Roles
from core.rules.returns import Step
from core.tables import Message
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, BECAUSE, BOB, CAROL, DAN, TERMS, approve, ask, change, shares, shares_of

HALF_AN_HOUR = timedelta(minutes=30)
WHY = "nobody is awake on Sundays"
ROLES = Roles(frozenset({BOB.id, CAROL.id}), on_call=frozenset({CAROL.id}), owners_of={EXPERIMENT: frozenset({DAN.id})})


def sign(engine: Engine, actor: Actor = DAN, *, length: timedelta = HALF_AN_HOUR, why: str = WHY) -> None:
    with db.transaction(engine) as session:
        signatures.sign(session, EXPERIMENT, None, length=length, reason=why, actor=actor, roles=ROLES)


def withdraw(engine: Engine, actor: Actor = DAN) -> None:
    with db.transaction(engine) as session:
        signatures.withdraw(session, EXPERIMENT, None, reason=None, actor=actor, roles=ROLES)


def deliver(engine: Engine) -> None:
    """The card of the alert stands in the channel as the alert is."""
    with db.transaction(engine) as session:
        if session.get(Message, "alert:1") is None:
            session.add(Message(key="alert:1", channel="C1", ts="1.0"))
        session.execute(text("UPDATE promotion.effects SET done_at = now() WHERE kind = 'alert' AND done_at IS NULL"))


def tend(engine: Engine, number: int = 1) -> Step:
    with db.transaction(engine, patience_ms=30_000) as session:
        return countdowns.tend(session, number, terms=TERMS, looks_last=HALF_AN_HOUR)


def minutes_pass(engine: Engine, minutes: float) -> None:
    """A look at the end still shows the harm."""
    clock.advance(engine, minutes=minutes)
    steps.serve_all(engine, 100, accepted=0.3)
    steps.watch(engine)
    deliver(engine)


def stop(engine: Engine, actor: Actor = CAROL) -> str:
    with db.transaction(engine) as session:
        return countdowns.stop(session, 1, actor=actor, roles=ROLES)


def line(engine: Engine) -> alert_cards.CountdownLine:
    with db.transaction(engine) as session:
        found = alert_cards.alert_card(session, 1).countdown
    assert found is not None
    return found


def deeds(engine: Engine) -> list[str]:
    """What happened since the alert, without looks and what is told by the bot in other ways."""
    done = steps.deeds(engine)
    return done[done.index("alert") + 1 :]


@pytest.fixture
def at_a_quarter(desk: Engine) -> Engine:
    """A candidate at 25 %, where it had 10 %."""
    change(desk, "start")
    change(desk, "increase", override=BECAUSE)
    steps.serve_all(desk, 1000)
    clock.advance(desk, hours=1)
    return desk


def harm(engine: Engine) -> None:
    """A critical alert about the candidate stands in its channel."""
    steps.serve_all(engine, 2000, accepted=0.3)
    steps.watch(engine)
    deliver(engine)


@pytest.fixture
def counting(at_a_quarter: Engine) -> Engine:
    """What dan signed has begun to count."""
    sign(at_a_quarter)
    harm(at_a_quarter)
    assert tend(at_a_quarter) == "begin"
    deliver(at_a_quarter)
    return at_a_quarter


def test_without_a_signature_nothing_ever_acts(at_a_quarter: Engine) -> None:
    harm(at_a_quarter)
    for _ in range(4):
        assert tend(at_a_quarter) == "rest"
        minutes_pass(at_a_quarter, 29)
    assert shares(at_a_quarter) == shares_of(control="0.75", candidate_v3="0.25")


def test_unanswered_it_returns_to_the_share_before_and_no_further(counting: Engine) -> None:
    assert (line(counting).state, str(line(counting).share_after), line(counting).signed_by) == (
        "running",
        "0.1000",
        DAN.id,
    )
    minutes_pass(counting, 29)
    assert tend(counting) == "wait"
    minutes_pass(counting, 2)
    assert tend(counting) == "act"
    assert shares(counting) == shares_of(control="0.9", candidate_v3="0.1")
    assert tend(counting) == "rest"
    assert deeds(counting) == ["countdown", "request", "return as signed", "rollback", "alert returned"]
    with db.transaction(counting) as session:
        alert, card = alert_cards.alert_card(session, 1), cards.request_card(session, 3)
        branches = explanations.request(session, 3).below
    assert (alert.state, alert.request_id, card.state, card.is_as_signed) == ("returned", 3, "applied", True)
    assert card.requester == DAN.id
    assert [(b.what, b.by, b.why) for b in branches if "nobody clicked" in b.what] == [
        ("nobody clicked: signed for alerts unanswered for 30 minutes", DAN.id, WHY)
    ]
    assert [str(s) for s in steps.stages_of(counting, 3)] == ["experiment"], "nothing is archived"


ANSWERS: dict[str, Callable[[Engine], object]] = {
    "stopped": stop,
    "stopped by its owner": lambda engine: stop(engine, DAN),
}


@pytest.mark.parametrize("how", ANSWERS)
def test_stopped_it_waits_for_a_click(how: str, counting: Engine) -> None:
    ANSWERS[how](counting)
    assert line(counting).state == "stopped"
    minutes_pass(counting, 31)
    assert tend(counting) == "rest"
    assert shares(counting) == shares_of(control="0.75", candidate_v3="0.25")
    with pytest.raises(Refused, match="No countdown runs"):
        stop(counting)


def snooze(engine: Engine) -> None:
    with db.transaction(engine) as session:
        alerts.snooze(session, 1, by=CAROL.id, until=clock.now(engine))


def dismiss(engine: Engine) -> None:
    with db.transaction(engine) as session:
        alerts.dismiss(session, 1, by=CAROL.id, reason="a test of the load")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (snooze, "stopped"),
        (dismiss, None),
        (lambda engine: ask(engine, "rollback", variant="candidate_v3", reason="slow"), "stopped"),
        (withdraw, None),
        (lambda engine: engine.connect().close(), "done"),
    ],
    ids=["snoozed", "dismissed", "somebody asked for a rollback", "withdrawn", "nobody"],
)
def test_any_answer_ends_it(answer: Callable[[Engine], object], state: str | None, counting: Engine) -> None:
    answer(counting)
    minutes_pass(counting, 31)
    tend(counting)
    with db.transaction(counting) as session:
        found = alert_cards.alert_card(session, 1).countdown
    assert (found and found.state) == state
    if found is not None and state == "stopped":
        assert found.ended_by in (CAROL.id, ALICE.id), "whoever answered, and not the bot"
    assert (shares(counting) == shares_of(control="0.9", candidate_v3="0.1")) == (state == "done")


def test_a_freeze_does_not_hold_it(counting: Engine) -> None:
    with db.transaction(counting) as session:
        freezes.freeze(session, experiment="all", reason="the fair", actor=BOB, roles=ROLES)
    minutes_pass(counting, 31)
    assert tend(counting) == "act"


def test_a_deadline_that_passed_while_the_bot_was_away_begins_anew(counting: Engine) -> None:
    before = line(counting).returns_at
    minutes_pass(counting, 300)
    assert tend(counting) == "begin"
    left = line(counting).returns_at - clock.now(counting)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    assert line(counting).returns_at > before
    deliver(counting)
    minutes_pass(counting, 16)
    assert tend(counting) == "act"


def test_what_nobody_can_see_does_not_happen(counting: Engine) -> None:
    minutes_pass(counting, 31)
    with db.transaction(counting) as session:
        session.execute(text("UPDATE promotion.effects SET done_at = NULL, attempts = 9 WHERE kind = 'alert'"))
    assert tend(counting) == "wait", "Slack did not take the card"


def test_a_look_of_yesterday_says_nothing_of_now(counting: Engine) -> None:
    clock.advance(counting, minutes=31)
    assert tend(counting) == "wait"


def test_other_shares_than_were_counted_down_are_shown_first(counting: Engine) -> None:
    with db.transaction(counting) as session:
        session.execute(text("UPDATE promotion.countdowns SET mark = 'other', share_after = 0"))
    minutes_pass(counting, 31)
    assert tend(counting) == "begin"
    assert shares(counting) == shares_of(control="0.75", candidate_v3="0.25")
    assert str(line(counting).share_after) == "0.1000"


def test_signed_anew_it_counts_anew(counting: Engine) -> None:
    withdraw(counting)
    sign(counting, length=timedelta(minutes=60))
    minutes_pass(counting, 31)
    assert tend(counting) == "begin"
    deliver(counting)
    minutes_pass(counting, 20)
    assert tend(counting) == "wait"
    minutes_pass(counting, 11)
    assert tend(counting) == "act"


def test_shares_changed_by_hand_are_nobodys_previous_ones(counting: Engine) -> None:
    with db.transaction(counting) as session:
        session.execute(text("UPDATE exp.variants SET allocation = 0.5"))
    minutes_pass(counting, 31)
    tend(counting)
    assert shares(counting) == shares_of(control="0.5", candidate_v3="0.5")


def test_a_click_and_the_end_of_a_countdown_have_one_outcome(counting: Engine) -> None:
    minutes_pass(counting, 31)
    results = steps.at_once(lambda: tend(counting), lambda: stop(counting), lambda: tend(counting))
    done = [entry for entry in deeds(counting) if entry in ("return as signed", "stop countdown")]
    assert len(done) == 1, results


def test_the_database_refuses_any_other_change_by_signature(counting: Engine) -> None:
    number = ask(counting, "rollback", variant="candidate_v3", reason="slow")  # all traffic, and too early
    query = "UPDATE promotion.requests SET signature_id = 1, requester = :dan, state = 'applied' WHERE id = :id"
    with db.transaction(counting) as session, pytest.raises(DBAPIError, match="without the signature it names"):
        session.execute(text(query), {"dan": DAN.id, "id": number})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"actor": BOB}, "Only an owner"),
        ({"length": timedelta(minutes=5)}, "Between 15 and 240 minutes"),
        ({"why": " "}, "Say why"),
        ({"actor": Actor(DAN.id, barred="Guests cannot.")}, "Guests cannot"),
    ],
)
def test_who_may_sign_and_for_what(wrong: dict[str, object], match: str, at_a_quarter: Engine) -> None:
    with pytest.raises(Refused, match=match):
        sign(at_a_quarter, **wrong)  # type: ignore[arg-type]


def test_signed_once_and_only_for_this_run(at_a_quarter: Engine) -> None:
    sign(at_a_quarter)
    with pytest.raises(Refused, match="signed already, for 30 minutes"):
        sign(at_a_quarter)
    change(at_a_quarter, "rollback", variant="candidate_v3", reason="slow")
    with pytest.raises(Refused, match="nothing to sign for"):
        withdraw(at_a_quarter)
    with db.transaction(at_a_quarter) as session:
        steps.qualified(session, 3)
        steps.stages.move(session, steps.version(session, 3), steps.Stage.CANDIDATE)
    change(at_a_quarter, "start")
    with db.transaction(at_a_quarter) as session:
        assert signatures.of_experiment(session, EXPERIMENT)[1] == [("candidate_v3", None)]


def test_signed_at_the_start_it_holds_for_what_starts(desk: Engine) -> None:
    number = ask(desk, "start")
    with db.transaction(desk) as session:
        signatures.sign_request(session, number, length=HALF_AN_HOUR, reason=WHY, actor=DAN, roles=ROLES)
    assert approve(desk, number).outcome == "applied"
    with db.transaction(desk) as session:
        ((variant, signed),) = signatures.of_experiment(session, EXPERIMENT)[1]
        assert cards.request_card(session, number).signature == signed
    assert (variant, signed and signed.signed_by) == ("candidate_v3", DAN.id)
    steps.serve_all(desk, 4000)
    clock.advance(desk, hours=1)
    harm(desk)
    assert tend(desk) == "begin"
    deliver(desk)
    minutes_pass(desk, 31)
    assert tend(desk) == "act"
    assert shares(desk) == shares_of(control="1", candidate_v3="0")


def test_nobody_stops_it_who_may_not(counting: Engine) -> None:
    narrow = Roles(frozenset({BOB.id}), operators=frozenset())
    with pytest.raises(Refused, match="may stop this"), db.transaction(counting) as session:
        countdowns.stop(session, 1, actor=ALICE, roles=narrow)


def test_where_it_cannot_be_done_people_are_told(counting: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise Refused("The baseline is gone.")

    monkeypatch.setattr(approvals, "return_as_signed", refuses)
    minutes_pass(counting, 31)
    tend(counting)
    assert (line(counting).state, line(counting).why) == (
        "failed",
        "The return was signed, but it cannot be carried out: The baseline is gone. Nothing was changed.",
    )
    assert shares(counting) == shares_of(control="0.75", candidate_v3="0.25")
    assert tend(counting) == "rest"
