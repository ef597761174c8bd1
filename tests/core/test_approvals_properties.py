"""No order of clicks, repeats, expiries or role changes leads to a change that was not approved.

What is right is told here anew from what people saw and clicked, without asking the code that decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import approvals, cards, db, redrawing, requests
from core.errors import Refused
from core.plans import Ask
from core.rules.approval import Actor, Quorums, Roles
from core.rules.decision import Terms
from core.tables import AllocationStep, Experiment, Policy, PolicyStage, PolicyVersion
from core.variants import find_experiment, variants
from tests.core.conftest import add_variant

PEOPLE = ("UALICE", "UBOB", "UCAROL")
OWNER = "UOWNER"
EXPIRES_HOURS = 24
ACTIONS = ("start", "start", "increase", "rollback")
MEANWHILE = (
    "role_comes_or_goes",
    "becomes_a_guest_or_a_member",
    "the_configuration_changes",
    "shares_change_by_hand",
    "time_passes",
    "a_day_passes",
    "jobs_run",
)
ACTS = (
    "asks",
    "looks",
    *["looks_and_approves"] * 4,
    *["approves_what_they_saw_last"] * 3,
    "rejects",
    "breaks_glass",
    *MEANWHILE,
)
people = st.sampled_from(PEOPLE)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Seen:
    """What somebody saw on a card: the shares before and after, and how many it takes."""

    number: int
    mark: str
    before: dict[str, Decimal]
    after: dict[str, Decimal]
    needed: int


@dataclass
class Asked:
    """A request as those who take part know it."""

    action: str
    requester: str
    hour: float
    approved: dict[str, Seen] = field(default_factory=dict)


class Approvals(RuleBasedStateMachine):
    """Three people, one experiment, and somebody who changes shares, roles and the configuration behind their backs."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.reader = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    @initialize(quorum=st.integers(1, 2))
    def there_is_an_experiment(self, quorum: int) -> None:
        self.hour, self.quorum = 0.0, quorum
        self.approvers, self.barred, self.were_others = set(PEOPLE), set[str](), set[str]()
        self.asked: dict[int, Asked] = {}
        self.seen: dict[str, Seen] = {}
        self.ended: dict[int, str] = {}
        name = f"exp{next(_numbers)}"
        with self.transaction() as session:
            policy = Policy(name=name)
            session.add(policy)
            session.flush()
            stages = ("production", "experiment", "candidate")
            versions = [add_stage(session, policy, number, stage) for number, stage in enumerate(stages, 1)]
            place = Experiment(name=name, status="active")
            session.add(place)
            session.flush()
            there = [
                add_variant(session, place, "control", "0.9", versions[0]),
                add_variant(session, place, "candidate", "0.1", versions[1]),
            ]
            session.add(AllocationStep(experiment_id=place.id, shares={str(v.id): str(v.allocation) for v in there}))
            self.place, self.version = place.id, versions[2].id

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with db.transaction(self.engine, patience_ms=30_000) as session:
            yield session

    @property
    def terms(self) -> Terms:
        return replace(Terms(), quorums=Quorums(self.quorum, self.quorum, against=0))

    @property
    def roles(self) -> Roles:
        return Roles(approvers=frozenset(self.approvers), owners=frozenset({OWNER}))

    def actor(self, person: str) -> Actor:
        return Actor(person, barred="No." if person in self.barred else None)

    def shares(self) -> dict[str, Decimal]:
        query = text("SELECT name, allocation FROM exp.variants WHERE experiment_id = :place")
        return {row[0]: row[1] for row in self.reader.execute(query, {"place": self.place})}

    def states(self) -> dict[int, str]:
        query = text("SELECT id, state FROM promotion.requests WHERE experiment_id = :place")
        return {row[0]: row[1] for row in self.reader.execute(query, {"place": self.place})}

    def teardown(self) -> None:
        self.reader.close()

    # --- What people do ---------------------------------------------------------------------------------------------

    @rule(
        acts=st.lists(st.tuples(people, st.sampled_from(ACTS)), min_size=3, max_size=6),
        action=st.sampled_from(ACTIONS),
        quiet=st.booleans(),
    )
    def one_after_the_other(self, acts: list[tuple[str, str]], action: str, quiet: bool) -> None:
        """Several things at a time, so that examples are long; `quiet` ones are only what people do."""
        if "open" not in self.states().values():
            self._asks(action, acts[0][0])
        for person, act in acts:
            if act in MEANWHILE and not quiet:
                before = self.shares()
                getattr(self, f"_{act}")(person)
                assert self.shares() == before or act == "shares_change_by_hand"
            elif act == "asks":
                self._asks(action, person)
            elif act not in MEANWHILE:
                getattr(self, f"_{act}")(person)

    @rule(
        two=st.permutations(PEOPLE),
        acts=st.lists(st.sampled_from(MEANWHILE), min_size=2, max_size=2),
        action=st.sampled_from(ACTIONS),
        click=st.sampled_from(("approves_what_they_saw_last", "breaks_glass")),
    )
    def something_happens_between_look_and_click(
        self, two: list[str], acts: list[str], action: str, click: str
    ) -> None:
        if "open" not in self.states().values():
            self._asks(action, two[2])
        for person, act in zip(two, acts, strict=False):
            self._looks(person)
            getattr(self, f"_{act}")(two[0])
            getattr(self, f"_{click}")(person)
            self._looks_and_approves(person)

    def _asks(self, action: str, person: str) -> None:
        wish = Ask(action, self.place, reason=f"{person} at {self.hour}", override="all the same", replaces=True)
        if action == "start":
            wish = replace(wish, policy_version_id=self.version)
        else:
            wish = replace(wish, variant="candidate")
        before = self.shares()
        try:
            with self.transaction() as session:
                number = requests.ask(session, wish, requester=person, terms=self.terms).id
        except Refused:
            return
        finally:
            assert self.shares() == before, "asking changes nothing"
        self.asked[number] = Asked(action, person, self.hour)

    def _looks(self, person: str) -> None:
        """At the card of the newest request; until they look again it stands there as it was."""
        if not self.asked:
            return
        with self.transaction() as session:
            card = cards.request_card(session, max(self.asked))
        before, after = ({c.variant: share(c) for c in card.changes} for share in (_before, _after))
        self.seen[person] = Seen(card.id, card.mark, before, after, card.needed)

    def _approves_what_they_saw_last(self, person: str) -> None:
        if person in self.seen:
            self._clicks(person, self.seen[person])

    def _looks_and_approves(self, person: str) -> None:
        self._looks(person)
        self._approves_what_they_saw_last(person)

    def _clicks(self, person: str, seen: Seen) -> None:
        before, was = self.shares(), self.states()[seen.number]
        try:
            with self.transaction() as session:
                outcome = approvals.approve(
                    session, seen.number, shown=seen.mark, actor=self.actor(person), roles=self.roles, terms=self.terms
                ).outcome
        except Refused:
            outcome = "refused"
        if outcome in ("counted", "applied"):
            assert was == "open", "a closed request takes no approvals"
            assert person not in self.barred
            assert person in self.approvers or self.asked[seen.number].action == "rollback"
            again = self.asked[seen.number].approved.get(person) == seen
            assert not again or person in self.were_others, "a repeated click counts once"
            self.asked[seen.number].approved[person] = seen
        if outcome == "applied":
            self._was_approved(self.asked[seen.number], seen, before)
        else:
            assert self.shares() == before, f"{outcome}, and yet the shares changed"

    def _was_approved(self, asked: Asked, seen: Seen, before: dict[str, Decimal]) -> None:
        """Enough people who may, each of whom saw just what was changed."""
        is_rollback = asked.action == "rollback"
        counting = {
            person
            for person, what in asked.approved.items()
            if {name: share for name, share in what.before.items() if share or name in before} == before
            and what.after == seen.after
            and (is_rollback or (person in self.approvers and person != asked.requester))
        }
        assert len(counting) >= (1 if is_rollback else self.quorum), (counting, asked)
        assert self.hour - asked.hour < EXPIRES_HOURS, "its time was over"
        assert self.shares() == seen.after

    def _breaks_glass(self, person: str) -> None:
        """The owner does, shown what this person saw last; the person themselves may not."""
        if person not in self.seen:
            return
        seen, before = self.seen[person], self.shares()
        for actor in (self.actor(person), Actor(OWNER)):
            try:
                with self.transaction() as session:
                    outcome = approvals.break_glass(
                        session,
                        seen.number,
                        shown=seen.mark,
                        reason="nobody answers at night",
                        actor=actor,
                        roles=self.roles,
                        terms=self.terms,
                    ).outcome
            except Refused:
                outcome = "refused"
            if outcome != "applied":
                assert self.shares() == before, f"{outcome}, and yet the shares changed"
                continue
            assert actor.id == OWNER
            assert self.asked[seen.number].action != "rollback"
            assert self.hour - self.asked[seen.number].hour < EXPIRES_HOURS, "its time was over"
            assert {name: share for name, share in seen.before.items() if share or name in before} == before
            assert self.shares() == seen.after

    def _rejects(self, person: str) -> None:
        if person not in self.seen:
            return
        number, before = self.seen[person].number, self.shares()
        try:
            with self.transaction() as session:
                decided = approvals.reject(
                    session, number, actor=self.actor(person), roles=self.roles, reason="not now"
                )
        except Refused:
            return
        is_own = person == self.asked[number].requester
        assert decided.outcome == ("withdrawn" if is_own else "rejected")
        assert is_own or self.asked[number].action == "rollback" or person in self.approvers
        assert self.shares() == before

    # --- What happens meanwhile -------------------------------------------------------------------------------------

    def _role_comes_or_goes(self, person: str) -> None:
        self.approvers ^= {person}
        self.were_others |= {person}

    def _becomes_a_guest_or_a_member(self, person: str) -> None:
        self.barred ^= {person}

    def _the_configuration_changes(self, _: str) -> None:
        self.quorum = 3 - self.quorum

    def _shares_change_by_hand(self, _: str) -> None:
        with self.transaction() as session:
            there = sorted(variants(session, find_experiment(session, self.place)), key=lambda v: v.allocation)
            there[-1].allocation -= Decimal("0.01")
            there[0].allocation += Decimal("0.01")

    def _time_passes(self, _: str, hours: int = 13) -> None:
        clock.advance(self.engine, hours=hours)
        self.hour += hours

    def _a_day_passes(self, _: str) -> None:
        self._time_passes(_, 25)

    def _jobs_run(self, _: str) -> None:
        with self.transaction() as session:
            approvals.remind(session, timedelta(hours=2))
            for number in approvals.overdue(session):
                approvals.expire(session, number)
            for number in self.states():
                redrawing.redraw(session, number, terms=self.terms)

    # --- What holds always ------------------------------------------------------------------------------------------

    @invariant()
    def what_has_ended_stays_as_it_ended_and_is_told_once(self) -> None:
        ended = {number: state for number, state in self.states().items() if state != "open"}
        assert self.ended.items() <= ended.items(), "one outcome for one request"
        self.ended = ended
        query = text("SELECT request_id, action FROM promotion.ledger WHERE experiment_id = :place")
        told = [row for row in self.reader.execute(query, {"place": self.place}) if row.action in ENDS]
        assert len(told) == len({number for number, _ in told}), "each is carried out or closed once"
        assert {number for number, _ in told} == ended.keys()


ENDS = ("start", "increase", "rollback", "reject", "supersede", "expire")


def _before(change: cards.Change) -> Decimal:
    return change.before


def _after(change: cards.Change) -> Decimal:
    return change.after


def add_stage(session: Session, policy: Policy, number: int, stage: str) -> PolicyVersion:
    model = f"model of {policy.name}"
    made = PolicyVersion(
        policy_id=policy.id, version=number, mlflow_model_name=model, mlflow_model_version=str(number), status="active"
    )
    session.add(made)
    session.flush()
    named = {"mlflow_model_name": model, "mlflow_model_version": str(number)}
    session.add(PolicyStage(policy_version_id=made.id, stage=stage, **named))
    session.flush()
    return made


def test_nothing_changes_without_approval(engine: Engine) -> None:
    run_state_machine_as_test(
        lambda: Approvals(engine),
        settings=settings(
            max_examples=20,
            stateful_step_count=5,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
