"""`/rollout simulate`, in the demo alone: a candidate goes bad, recovers, or days pass, and everybody looks at once."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeGuard

import numpy as np
from sqlalchemy import func, select, text

from bot import blocks, commands, schedule
from bot.blocks import Answer
from bot.demo import clock, history
from bot.demo.outcomes import AssignmentRow, EventRow, write_assignments, write_events
from bot.demo.traffic import Running, Traffic, new_id
from bot.desk import Desk
from bot.verbs import Verb, Verbs
from bot.words import Missing, Words
from core import db, rollup
from core.db import Session
from core.errors import Refused
from core.rules.approval import Actor
from core.tables import AllocationStep, Experiment, Recommendation, Variant
from core.variants import candidate, find_experiment, running_of

LOOKS = ("measure", "assigned", "watch", "recommend")
"""The jobs that notice what happened, in this order."""
LONGEST_DAYS = 30
A_LOOK = timedelta(hours=6)
"""A simulated day goes by in parts, each looked at when it is over."""
BURST, SHORTEST_BURST = timedelta(minutes=45), timedelta(minutes=10)
"""Over how long a bad candidate's first plans are spread; in a step that is younger than that, as much time passes."""
FEWEST_PLANS, MOST_PLANS = 600, 3_000
"""How many plans of a candidate come in when it goes bad; as many as half of what it had in its present step."""
_SLOT = timedelta(minutes=15)
_COMPARED = 5 * _SLOT
"""How long before a look the traffic is compared with that of a week ago."""
_WEEK = timedelta(days=7)
_OUTCOMES = timedelta(seconds=20)
"""What people do with a plan takes some time."""

_SERVED = text("""
SELECT count(*) FROM exp.events
 WHERE event_type = 'plan_generated' AND timestamp >= :since AND experiments @> CAST(:arm AS jsonb)
""")
_WEEK_AGO = text("""
SELECT h.slot, h.plans FROM promotion.measure_slots h
  JOIN promotion.measure_experiments e ON e.id = h.experiment
 WHERE e.experiment_id = :id AND h.slot >= :since AND h.slot < :until
""")


class Simulation:
    """What can be made to happen to the demo's traffic."""

    def __init__(
        self, traffic: Traffic, *, seed: int, plans_a_day: int, parts: Mapping[uuid.UUID, float] | None = None
    ) -> None:
        """On a simulated day each active experiment has `plans_a_day`; those in `parts` have that part of it."""
        self._traffic = traffic
        self._rng = np.random.default_rng((seed, 2))
        self._plans_a_day = plans_a_day
        self._parts = parts or {}

    def run(self, desk: Desk, words: Words, actor: Actor) -> Answer:
        """Only in this demo: a candidate goes bad, recovers, or days pass.
        simulate regression [EXPERIMENT] | recovery [EXPERIMENT] | days N
        simulate days 3"""
        what = words.at_most(2).at(0, "of the three")
        happen = self._happenings.get(what.lower())
        if happen is None:
            raise Refused(f"I can simulate {', '.join(self._happenings)}, not `{what[:40]}`.")
        return happen(desk, words.maybe(1))

    @property
    def _happenings(self) -> Mapping[str, Callable[[Desk, str | None], Answer]]:
        return {"regression": self._regression, "recovery": self._recovery, "days": self._days}

    def _regression(self, desk: Desk, name: str | None) -> Answer:
        with self._traffic.paused():
            with desk.reading() as session:
                place, variant = _target(session, name)
                now, since = _present_step(session, place)
                served = session.execute(_SERVED, {"since": since, "arm": _arm(variant)}).scalar_one()
            here = next((one for one in self._traffic.running() if one.experiment_id == place.id), None)
            if here is None:
                raise Refused(f"{place.name} is {place.status}: nobody is served. Resume it first.")
            wanted = min(max(FEWEST_PLANS, served // 2), MOST_PLANS)
            count = min(round(wanted / float(variant.allocation)), MOST_PLANS * 4)
            until = max(now, since + SHORTEST_BURST)
            began = max(since, until - BURST)
            times = [began + part * (until - _OUTCOMES - began) for part in np.sort(self._rng.random(count)).tolist()]
            self._traffic.worse.add(variant.id)
            try:
                plans = self._burst(desk, here, times, until)
            except BaseException:
                self._traffic.worse.discard(variant.id)
                raise
        schedule.run_now(desk, *LOOKS)
        mine, minutes = plans[variant.id], round((until - began).total_seconds() / 60)
        return blocks.plain(
            f"🧪 The live traffic of {blocks.name(variant.name)} in {blocks.name(place.name)} is worse from now on: "
            "30 % fewer plans accepted, three times the validator's interventions, twice the latency. "
            f"{mine:,} such plans and {plans.total() - mine:,} of the others came in over the last {minutes} min "
            "and have been looked at.\n"
            f"The news is in {_news(desk)}; `{desk.command} recommend {place.name}` says more. It ends with "
            f"`{desk.command} rollback {place.name} because …` or `{desk.command} simulate recovery`."
        )

    def _burst(self, desk: Desk, here: Running, times: Sequence[datetime], until: datetime) -> Counter[uuid.UUID]:
        """It becomes `until`, where it is not later already, and units have asked at these times; returns each
        variant's plans."""
        assigned, events = self._traffic.asked(here, times)
        plans = _plans(here, events)
        if not plans:
            raise Refused("No model answers, so nothing was simulated; the log says why.")
        with db.transaction(desk.engine, patience_ms=db.BACKGROUND_MS) as session:
            clock.put_forward(session, max(until - db.now_of(session), timedelta()))
            write_assignments(session, assigned)
            write_events(session, (row for row in events if row.timestamp <= until))
        self._traffic.expect(row for row in events if row.timestamp > until)
        return plans

    def _recovery(self, desk: Desk, name: str | None) -> Answer:
        with desk.reading() as session:
            chosen = self._traffic.worse & ({_target(session, name)[1].id} if name else self._traffic.worse)
            if not chosen:
                raise Refused("Nothing is worse than its model says, so there is nothing to recover from.")
            names = session.scalars(select(Variant.name).where(Variant.id.in_(chosen)).order_by(Variant.name)).all()
        self._traffic.worse -= chosen
        who = ", ".join(map(blocks.name, names)) or "What was deleted meanwhile"
        return blocks.plain(f"🧪 {who}: the live traffic is again as good as the model. What came in before stays.")

    def _days(self, desk: Desk, number: str | None) -> Answer:
        if number is None:
            raise Missing("How many days?")
        if not _is_length(number):
            raise Refused(f"I can let 1 to {LONGEST_DAYS} whole days pass, not `{number[:40]}`.")
        plans: Counter[uuid.UUID] = Counter()
        with self._traffic.paused():
            began = clock.now(desk.engine)
            for part in range(int(number) * (timedelta(days=1) // A_LOOK)):
                if desk.stopping.is_set():
                    break
                plans += self._passes(desk, began + (part + 1) * A_LOOK)
                schedule.run_now(desk, *LOOKS)
        schedule.run_now(desk, "reconcile")  # whoever changes something by hand need not wait for minutes to see it
        now = clock.now(desk.engine)
        with desk.reading() as session:
            lines = _daily_looks(session, began.date())
        days = "A day has" if number == "1" else f"{int(number)} days have"
        return blocks.plain(
            f"🧪 {days} passed: in this demo it is {now:%A %-d %B %Y, %H:%M} UTC now, and {plans.total():,} plans came "
            f"in. The news is in {_news(desk)}.\n" + "\n".join(lines or ["No candidate had traffic."])
        )

    def _passes(self, desk: Desk, until: datetime) -> Counter[uuid.UUID]:
        """It becomes `until`, and what happened meanwhile has been measured by then: nobody sees a gap. Returns each
        variant's plans."""
        plans: Counter[uuid.UUID] = Counter()
        assigned: list[AssignmentRow] = []
        events = self._traffic.overdue(until)
        since = clock.now(desk.engine)
        for here in self._traffic.running():
            times = self._times(desk, here, since, until)
            joined, happening = self._traffic.asked(here, times, pause_s=history.PAUSE_S)
            plans += _plans(here, happening)
            assigned += joined
            self._traffic.expect(row for row in happening if row.timestamp > until)
            for row in happening:
                if row.timestamp <= until:
                    events += history.flawed(self._rng, row, here.experiment_id, new_id)
        with db.transaction(desk.engine, patience_ms=db.BACKGROUND_MS) as session:
            write_assignments(session, assigned)
            write_events(session, (row for row in events if row.created_at <= until))
        schedule.run_now(desk, "measure")
        with db.transaction(desk.engine, patience_ms=db.BACKGROUND_MS) as session:
            clock.put_forward(session, until - db.now_of(session))
            _measured(session, desk)
        return plans

    def _times(self, desk: Desk, here: Running, since: datetime, until: datetime) -> Iterator[datetime]:
        """When units ask, in order. Just before the end there are not far fewer than a week ago, when live traffic or
        a burst may have been much more than a simulated day has: that would look like something missing."""
        a_day = round(self._plans_a_day * self._parts.get(here.experiment_id, 1.0))
        times = history.times_of_plans(self._rng, since, until, a_day)
        with desk.reading() as session:
            found = session.execute(
                _WEEK_AGO, {"id": here.experiment_id, "since": until - _WEEK - _COMPARED, "until": until - _WEEK}
            ).all()
        for slot, plans in found:
            first = max((slot + _WEEK).timestamp(), since.timestamp())
            last = min((slot + _WEEK + _SLOT).timestamp(), until.timestamp())
            missing = plans // 2 - int(((times >= first) & (times < last)).sum())
            times = np.append(times, self._rng.uniform(first, last, max(missing, 0)))
        return (datetime.fromtimestamp(at, UTC) for at in np.sort(times).tolist())


def verbs(simulation: Simulation) -> Verbs:
    """All verbs, and the demo's own."""
    return commands.extended({"simulate": Verb(simulation.run, is_slow=True, says_first=_says_first)})


def _says_first(words: Words) -> str | None:
    number = words.maybe(1)
    if (words.maybe(0) or "").lower() != "days" or not _is_length(number):
        return None
    return "🧪 Working on it: a simulated day takes some seconds."


def _is_length(number: str | None) -> TypeGuard[str]:
    return number is not None and number.isdecimal() and 1 <= int(number) <= LONGEST_DAYS


def _target(session: Session, name: str | None) -> tuple[Experiment, Variant]:
    """The experiment and its candidate; without a name the only active one that has one."""
    if name:
        place = find_experiment(session, name, lock=False)
        return place, candidate(session, place)
    active = session.scalars(select(Experiment).where(Experiment.status == "active").order_by(Experiment.name)).all()
    found = [(place, variant) for place in active for variant in running_of(session, place)[1]]
    if not found:
        raise Refused("No candidate has traffic at the moment. Start one first.")
    if len(found) > 1:
        raise Missing(f"Which experiment? There is: {', '.join(sorted({place.name for place, _ in found}))}.")
    return found[0]


def _measured(session: Session, desk: Desk) -> None:
    """All events have been read up to now; a pass that is under way says so only of when it began."""
    for _ in range(2):
        while not rollup.advance(session, collected=desk.settings.collected).is_done:
            pass


def _present_step(session: Session, place: Experiment) -> tuple[datetime, datetime]:
    """The time, and since when the shares are what they are."""
    newest = select(func.max(AllocationStep.started_at)).where(AllocationStep.experiment_id == place.id)
    now = db.now_of(session)
    return now, session.scalar(newest) or now - BURST


def _arm(variant: Variant) -> str:
    return json.dumps([{"variant_id": str(variant.id)}])


def _plans(here: Running, events: Sequence[EventRow]) -> Counter[uuid.UUID]:
    """How many plans each variant made."""
    variant_of = {arm.where.experiments: variant_id for variant_id, arm in here.arms.items()}
    return Counter(variant_of[row.experiments] for row in events if row.event_type == "plan_generated")


def _news(desk: Desk) -> str:
    return desk.channels.mention(desk.settings.slack.rollouts_channel)


def _daily_looks(session: Session, after: date) -> list[str]:
    """What each candidate's daily looks after a day said, a line for each candidate."""
    query = (
        select(Experiment.name, Variant.name, Recommendation.day, Recommendation.action)
        .join(Variant, Variant.id == Recommendation.variant_id)
        .join(Experiment, Experiment.id == Recommendation.experiment_id)
        .where(Recommendation.is_daily, Recommendation.day > after)
        .order_by(Experiment.name, Variant.name, Recommendation.day)
    )
    found: dict[tuple[str, str], Counter[str]] = {}
    for place, variant, _, action in session.execute(query):
        found.setdefault((place, variant), Counter())[action] += 1
    return [
        f"{blocks.name(variant)} in {blocks.name(place)}: {looks.total()} daily look{'s' * (looks.total() > 1)}, "
        + ", ".join(f"{action} {count}×" for action, count in looks.items())
        for (place, variant), looks in found.items()
    ]
