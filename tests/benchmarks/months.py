"""How many messages a month of rollouts brings to a channel.

    python -m tests.benchmarks.months [--days 30] [--plans-a-day 2000]

Four rollouts live side by side in the local workspace with the whole bot: one is asked for and approved until it is in
production, one has too little traffic and waits, one goes bad on day 12 and is rolled back with one click the day
after, and one has its recommended step asked for by nobody. Printed for each: how many messages stand in the channel
itself, the most on one day, and what stands in threads. At most one a day beside alerts is promised.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from slack_sdk import WebClient
from sqlalchemy import Engine, select, text

from bot import running, schedule, verbs, words
from bot.channels import Channels
from bot.demo import clock, models, planner, simulate
from bot.demo.planner import Behaviour
from bot.demo.traffic import Traffic
from bot.desk import Desk
from bot.people import People
from bot.verbs import Verbs
from core import db, registry
from core.rules.approval import Actor
from core.settings import AlertsSection
from core.tables import AllocationStep, Experiment, Message, Policy, PolicyStage, PolicyVersion, Qualification, Rollout
from tests.benchmarks.minutes import database
from tests.bot.acts import aloud, answer, approve, reply
from tests.bot.conftest import APPROVALS, ROLLOUTS, configure, make_sandbox, waiting
from tests.core.conftest import add_variant
from tests.workspace import Person, Workspace, text_of, waits_until

MORNING = datetime(2045, 11, 20, 3, 30, tzinfo=UTC)
"""Simulated days are looked at every six hours: from here on also half an hour after the recommendation is due."""
BAD_DAY = 12
PRODUCTION = next(version.behaviour for version in models.VERSIONS if version.stage == "production")
BETTER = replace(PRODUCTION, acceptance=0.74, edits=1.12, intervention=0.038)


@dataclass
class Story:
    """One rollout: how its candidate behaves, what part of the traffic it has, and what becomes of it."""

    name: str
    candidate: Behaviour
    part: float = 1.0
    is_asked: bool = True
    goes_bad: bool = False
    posted: list[tuple[int, str]] = field(default_factory=list)
    """Messages in the channel itself without alerts: on which day, and the first word."""
    found: Counter[str] = field(default_factory=Counter)

    @property
    def place(self) -> str:
        """The name of its experiment."""
        return f"{self.name}_exp"


STORIES = (
    Story("fine", BETTER),
    Story("scarce", PRODUCTION, part=0.1),
    Story("spoiled", PRODUCTION, part=0.5, goes_bad=True),
    Story("ignored", BETTER, part=0.5, is_asked=False),
)


class Planner:
    """The planner's own code with a story's behaviour, as a loaded model."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    def predict(self, requests: list[dict[str, Any]]) -> list[planner.Plan]:
        """A plan for each request."""
        return [planner.plan(self._behaviour, planner.Request(**request)) for request in requests]


def _loaded(uri: str) -> Planner:
    name, number = uri.removeprefix("models:/").split("/")
    story = next(story for story in STORIES if name == f"{story.name}_model")
    return Planner(PRODUCTION if number == "1" else story.candidate)


def _registered(uri: str, folder: Path) -> None:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    for story in STORIES:
        model = f"{story.name}_model"
        client.create_registered_model(model)
        for stage in ("production", "candidate"):
            version = client.create_model_version(model, source=str(folder)).version
            client.set_model_version_tag(model, version, "stage", stage)
        client.set_registered_model_alias(model, "production", "1")


def _placed(engine: Engine, story: Story) -> uuid.UUID:
    """An experiment with version 1 at 100 %, and version 2 that has passed its offline evaluation."""
    model = f"{story.name}_model"
    with db.transaction(engine) as session:
        policy = Policy(name=f"{story.name}_policy")
        place = Experiment(name=story.place, status="active")
        versions = [
            PolicyVersion(
                policy=policy, version=n, mlflow_model_name=model, mlflow_model_version=str(n), status="active"
            )
            for n in (1, 2)
        ]
        session.add_all([policy, place, *versions])
        session.flush()
        for version, stage in zip(versions, ("production", "candidate"), strict=True):
            number = version.mlflow_model_version
            session.add(
                PolicyStage(
                    policy_version_id=version.id, mlflow_model_name=model, mlflow_model_version=number, stage=stage
                )
            )
        evidence = {"dataset_version": "d1"}
        session.add(
            Qualification(
                mlflow_model_name=model, mlflow_model_version="2", source="replay", evidence=evidence, actor="pipeline"
            )
        )
        control = add_variant(session, place, "control", "1", versions[0])
        session.add(AllocationStep(experiment_id=place.id, shares={str(control.id): "1"}))
        return place.id


@dataclass
class Month:
    """The parts that a month is lived with."""

    engine: Engine
    desk: Desk
    verbs: Verbs
    alice: Person
    bob: Person
    carol: Person
    known: set[str] = field(default_factory=set)
    digests: Counter[int] = field(default_factory=Counter)

    def told(self) -> None:
        """Everything that was to be told has been."""
        waits_until(lambda: not waiting(self.engine), 120, "everything to be told")


@contextmanager
def _lived(plans_a_day: int) -> Iterator[Month]:
    with database() as engine, tempfile.TemporaryDirectory(prefix="promotion-bot-") as made:
        folder = Path(made)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        _registered(uri, folder)
        clock.set_to(engine, MORNING)
        parts = {_placed(engine, story): story.part for story in STORIES}
        simulation = simulate.Simulation(
            Traffic(engine, _loaded, seed=3, parts=parts), seed=3, plans_a_day=plans_a_day, parts=parts
        )
        sandbox = make_sandbox()
        sandbox.start()
        try:
            on_call = AlertsSection(on_call=("@carol",))
            found = configure(sandbox, mlflow_tracking_uri=uri, promotion_bot_data=folder, alerts=on_call)
            client = WebClient(token=sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])
            people = People(client, found.slack.approvers, found.alerts.on_call)
            desk = Desk(engine, registry.at(uri), people, Channels(client), found)
            with (
                running.running(engine, found) as bot,
                running.listening(bot, sandbox.app_token),
                Workspace(sandbox) as workspace,
            ):
                yield Month(engine, desk, simulate.verbs(simulation), *map(workspace.person, ("alice", "bob", "carol")))
        finally:
            sandbox.stop()


# --- What people do -------------------------------------------------------------------------------------------------


def _approved(month: Month, said: str) -> None:
    """Bob approves the request that an answer names."""
    number = re.search(r"#(\d+)", said)
    assert number is not None, said
    approve(month.bob, month.bob.waits_for(f"#{number[1]} ·", APPROVALS))
    month.told()


def _simulate(month: Month, what: str) -> None:
    verb, rest = words.parse(f"simulate {what}")
    verbs.run(verb, month.desk, rest, Actor(month.alice.id), month.verbs)


def _has_button(message: Mapping[str, Any], label: str) -> bool:
    rows = (block["elements"] for block in message["blocks"] if block["type"] == "actions")
    return any(label in str(element.get("text")) for row in rows for element in row)


def _ask(month: Month, story: Story) -> None:
    """Whoever sees a card that can be asked for its next step does so, and it is approved."""
    for card in aloud(month.alice, ROLLOUTS):
        if story.place in text_of(card) and _has_button(card, "Ask for") and not card.get("thread_ts"):
            _approved(month, reply(month.alice, lambda card=card: month.alice.clicks(card, "Ask for"), ROLLOUTS))


def _roll_back(month: Month, story: Story) -> None:
    """One click on the alert."""
    for card in aloud(month.carol, ROLLOUTS):
        if story.place in text_of(card) and _has_button(card, "Confirm rollback"):
            reply(month.carol, lambda card=card: month.carol.clicks(card, "Confirm rollback", confirm=True), ROLLOUTS)
            month.told()


def live(month: Month, days: int) -> None:
    """The month, day by day."""
    for story in STORIES:
        _approved(month, answer(month.alice, f"start {story.place} {story.name}_policy 2 because it may be better"))
    count(month, 0)
    for day in range(1, days + 1):
        _simulate(month, "days 1")
        schedule.run_now(month.desk, "escalate")
        month.told()
        for story in STORIES:
            if story.goes_bad and day == BAD_DAY + 1:
                _roll_back(month, story)
            elif story.is_asked and not (story.goes_bad and day >= BAD_DAY):
                _ask(month, story)
            if story.goes_bad and day == BAD_DAY:
                _simulate(month, f"regression {story.place}")
                month.told()
        count(month, day)


# --- What it brought ------------------------------------------------------------------------------------------------


def _owners(month: Month) -> dict[str, tuple[str, str]]:
    """Of each message whose place is remembered, by ts: its kind, and the experiment it is about or the channel."""
    names = "SELECT 'alert:' || a.id, e.name FROM promotion.alerts a JOIN exp.experiments e ON e.id = a.experiment_id"
    with db.transaction(month.engine) as session:
        alerts = {row[0]: row[1] for row in session.execute(text(names))}
        query = select(Rollout.id, Experiment.name).join(Experiment, Experiment.id == Rollout.experiment_id)
        rollouts = {str(number): name for number, name in session.execute(query)}
        there = session.execute(select(Message.ts, Message.key)).all()
    kinds: Mapping[str, Callable[[str], str]] = {
        "alert": lambda key: alerts[key],
        "rollout": lambda key: rollouts[key.split(":")[1]],
        "digest": lambda key: key,
        "request": lambda key: key,
    }
    return {ts: (kind := key.partition(":")[0], kinds[kind](key)) for ts, key in there}


def count(month: Month, day: int) -> None:
    """Notes what was posted since the last time."""
    owners = _owners(month)
    for message in aloud(month.bob, ROLLOUTS):
        if message["ts"] in month.known:
            continue
        month.known.add(message["ts"])
        thread = message.get("thread_ts")
        kind, about = owners.get(thread or message["ts"], ("other", text_of(message)))
        for story in STORIES:
            if kind == "digest" or story.place not in about:
                continue
            what = "replies" if thread else kind
            story.found[what] += 1
            story.found["shown in the channel too"] += message.get("subtype") == "thread_broadcast"
            if what in ("rollout", "other"):
                story.posted.append((day, message["text"].partition(" ")[0].lower()))
        month.digests[day] += kind == "digest" and not thread


LASTED = """
SELECT e.name, extract(epoch FROM coalesce(max(r.ended_at), now()) - min(s.started_at)) / 86400 AS days
  FROM promotion.rollouts r JOIN promotion.allocation_steps s ON s.id = r.first_step_id
  JOIN exp.experiments e ON e.id = r.experiment_id GROUP BY 1
"""
ALERTS = """
SELECT a.id, e.name, a.cause, a.state, a.why, extract(epoch FROM a.opened_at - :first) / 86400 AS day
  FROM promotion.alerts a JOIN exp.experiments e ON e.id = a.experiment_id ORDER BY a.id
"""
ROW = "{:10}{:>6}{:>7}{:>7}{:>7}{:>8}{:>9}{:>17}"
HEAD = ("rollout", "days", "cards", "other", "a day", "alerts", "replies", "also in channel")


def tell(month: Month, days: int) -> None:
    """Prints the table, on which days the cards came, and every alert."""
    with db.transaction(month.engine) as session:
        lasted = {row.name: row.days for row in session.execute(text(LASTED))}
        alerts = session.execute(text(ALERTS), {"first": MORNING}).all()
    print(ROW.format(*HEAD))
    for story in STORIES:
        found, most = story.found, max(Counter(day for day, _ in story.posted).values(), default=0)
        numbers = (found["rollout"], found["other"], most, found["alert"], found["replies"])
        print(ROW.format(story.name, round(lasted[story.place]), *numbers, found["shown in the channel too"]))
        print(f"{'':10}  on day {', '.join(f'{day} {word}' for day, word in story.posted)}")
    for alert in alerts:
        print(f"alert {alert.id}, {alert.name}, {alert.cause}, day {alert.day:.1f}, {alert.state}: {alert.why}")
    print(f"digests: {month.digests.total()} in {days} days, at most {max(month.digests.values(), default=0)} a day")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--plans-a-day", type=int, default=2000)
    chosen = parser.parse_args()
    began = time.perf_counter()
    with _lived(chosen.plans_a_day) as month:
        live(month, chosen.days)
        tell(month, chosen.days)
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
