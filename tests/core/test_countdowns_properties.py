"""No order of events makes anything act by itself that nobody signed, or that nobody could see and stop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import alert_cards, alerts, countdowns, db, freezes, requests, signatures
from core.errors import Refused
from core.plans import Ask
from core.rules.approval import Actor, Roles
from core.rules.decision import Terms
from core.tables import Alert, AllocationStep, Experiment, Message, Policy
from core.variants import find_experiment, variants
from tests.core.conftest import add_variant
from tests.core.test_approvals_properties import add_stage

OWNER, OTHER = Actor("UOWNER"), Actor("UOTHER")
ROLES = Roles(approvers=frozenset({OTHER.id}), owners=frozenset({OWNER.id}))
LOOKS_LAST = timedelta(minutes=12)
LENGTH = timedelta(minutes=15)
USUAL = ("the_card_is_delivered", "a_look_shows_harm", "time_passes", "the_job_runs")
SELDOM = (
    "the_owner_signs",
    "somebody_else_signs",
    "it_is_withdrawn",
    "somebody_snoozes",
    "somebody_stops_it",
    "somebody_asks_for_a_rollback",
    "a_look_is_quiet",
    "hours_pass",
    "shares_change_by_hand",
    "it_freezes",
)
BRINK = (
    "the_owner_signs",
    "a_look_shows_harm",
    "the_card_is_delivered",
    "the_job_runs",
    "the_card_is_delivered",
    "time_passes",
    "time_passes",
    "time_passes",
    "a_look_shows_harm",
)
_numbers = itertools.count(1)


class Countdowns(RuleBasedStateMachine):
    """An alert about a candidate at 25 %, an owner, and a job that would return it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    @initialize(is_signed=st.booleans())
    def there_is_an_alert(self, is_signed: bool) -> None:
        self.is_signed, self.is_answered, self.holds, self.is_by_hand = False, False, True, False
        self.card: alert_cards.CountdownLine | None = None
        self.shown_since: dict[datetime, datetime] = {}
        name = f"counted{next(_numbers)}"
        with self.transaction() as session:
            policy = Policy(name=name)
            session.add(policy)
            session.flush()
            versions = [add_stage(session, policy, n, s) for n, s in enumerate(("production", "experiment"), 1)]
            place = Experiment(name=name, status="active")
            session.add(place)
            session.flush()
            control = add_variant(session, place, "control", "0.75", versions[0])
            candidate = add_variant(session, place, "candidate", "0.25", versions[1])
            for share in ("0.1", "0.25"):
                there = {str(control.id): str(1 - Decimal(share)), str(candidate.id): share}
                session.add(AllocationStep(experiment_id=place.id, shares=there))
                session.flush()
            alert = Alert(
                experiment_id=place.id,
                variant_id=candidate.id,
                variant="candidate",
                channel="ml-rollouts",
                cause="regression",
                whose="candidate",
                is_critical=True,
                why="worse",
                numbers=[],
                proposals={},
                step_id=1,
                began_at=clock.now(self.engine),
            )
            session.add(alert)
            session.flush()
            self.place, self.alert = place.id, alert.id
        self._a_look_shows_harm()
        if is_signed:
            self._the_owner_signs()
            self._the_card_is_delivered()
            self._the_job_runs()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with db.transaction(self.engine, patience_ms=30_000) as session:
            yield session

    def shares(self) -> dict[str, Decimal]:
        query = text("SELECT name, allocation FROM exp.variants WHERE experiment_id = :place")
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query, {"place": self.place})}

    @rule(
        first=st.lists(st.sampled_from((*USUAL, *SELDOM)), max_size=2),
        last=st.sampled_from(("time_passes", *SELDOM)),
        leaves_out=st.sampled_from(("",) * 4 + tuple(dict.fromkeys(BRINK))),
    )
    def something_happens_just_before_the_end(self, first: list[str], last: str, leaves_out: str) -> None:
        """Anything, then everything that a return takes but one thing at the most, then something else and the job."""
        kept = [act for n, act in enumerate(BRINK) if act != leaves_out or act in BRINK[n + 1 :]]
        for act in (*first, *kept, last, "the_job_runs", "the_card_is_delivered"):
            before = self.shares()
            getattr(self, f"_{act}")()
            assert self.shares() == before or act in ("the_job_runs", "shares_change_by_hand")

    # --- What happens -----------------------------------------------------------------------------------------------

    def _the_job_runs(self) -> None:
        before, now = self.shares(), clock.now(self.engine)
        with self.transaction() as session:
            countdowns.tend(session, self.alert, terms=Terms(), looks_last=LOOKS_LAST)
        after = self.shares()
        if after == before:
            return
        assert self.is_signed, "nothing acts by itself without a signature"
        assert not self.is_answered, "somebody had answered"
        assert self.holds, "the trouble was over"
        assert now - self.seen_at < LOOKS_LAST + timedelta(minutes=1), "a look of long ago"
        assert self.card is not None, "people saw no countdown"
        assert self.card.state == "running"
        assert self.card.returns_at <= clock.now(self.engine), "before its end"
        assert now - self.shown_since[self.card.returns_at] > timedelta(minutes=9), "nobody had a chance to stop it"
        assert after == {"control": before["control"] + before["candidate"] - self.card.share_after} | {
            "candidate": self.card.share_after
        }, "other shares than people saw"
        assert not self.is_by_hand

    def _the_card_is_delivered(self) -> None:
        with self.transaction() as session:
            if session.get(Message, alerts.message_key(self.alert)) is None:
                session.add(Message(key=alerts.message_key(self.alert), channel="C1", ts="1.0"))
            self.card = alert_cards.alert_card(session, self.alert).countdown
            done = "UPDATE promotion.effects SET done_at = now() WHERE kind = 'alert' AND done_at IS NULL"
            session.execute(text(done))
        if self.card is not None:
            self.shown_since.setdefault(self.card.returns_at, clock.now(self.engine))

    def _a_look_shows_harm(self) -> None:
        self._looks("seen_at = now()")
        self.holds, self.seen_at = True, clock.now(self.engine)

    def _a_look_is_quiet(self) -> None:
        self._looks("quiet_at = now()")
        self.holds = False

    def _looks(self, what: str) -> None:
        with self.transaction() as session:
            session.execute(text(f"UPDATE promotion.alerts SET {what} WHERE id = :id"), {"id": self.alert})

    def _time_passes(self) -> None:
        clock.advance(self.engine, minutes=6)

    def _hours_pass(self) -> None:
        clock.advance(self.engine, hours=5)

    def _signs(self, actor: Actor) -> bool:
        try:
            with self.transaction() as session:
                signatures.sign(
                    session, str(self.name()), None, length=LENGTH, reason="asleep", actor=actor, roles=ROLES
                )
        except Refused:
            return False
        return True

    def name(self) -> str:
        with self.transaction() as session:
            return find_experiment(session, self.place, lock=False).name

    def _the_owner_signs(self) -> None:
        self.is_signed = self._signs(OWNER) or self.is_signed

    def _somebody_else_signs(self) -> None:
        assert not self._signs(OTHER)

    def _it_is_withdrawn(self) -> None:
        try:
            with self.transaction() as session:
                signatures.withdraw(session, self.name(), None, reason=None, actor=OWNER, roles=ROLES)
            self.is_signed = False
        except Refused:
            assert not self.is_signed or self.shares()["candidate"] == 0

    def _answers(self, how: str) -> None:
        try:
            with self.transaction() as session:
                if how == "stop":
                    countdowns.stop(session, self.alert, actor=OTHER, roles=ROLES)
                elif how == "snooze":
                    alerts.snooze(session, self.alert, by=OTHER.id, until=clock.now(self.engine))
                else:
                    wish = Ask("rollback", self.place, reason="slow", variant="candidate")
                    requests.ask(session, wish, requester=OTHER.id, terms=Terms())
            self.is_answered = True
        except Refused:
            pass

    def _somebody_stops_it(self) -> None:
        self._answers("stop")

    def _somebody_snoozes(self) -> None:
        self._answers("snooze")

    def _somebody_asks_for_a_rollback(self) -> None:
        self._answers("ask")

    def _it_freezes(self) -> None:
        try:
            with self.transaction() as session:
                freezes.freeze(session, experiment=self.name(), reason="fair", actor=OTHER, roles=ROLES)
        except Refused:
            pass

    def _shares_change_by_hand(self) -> None:
        with self.transaction() as session:
            there = sorted(variants(session, find_experiment(session, self.place)), key=lambda v: v.allocation)
            there[-1].allocation -= Decimal("0.01")
            there[0].allocation += Decimal("0.01")
        self.is_by_hand = True


def test_nothing_acts_by_itself_but_as_signed_and_seen(engine: Engine) -> None:
    run_state_machine_as_test(
        lambda: Countdowns(engine),
        settings=settings(
            max_examples=80,
            stateful_step_count=2,  # setting up is one of them
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
