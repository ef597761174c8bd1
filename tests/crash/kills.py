"""Stories told to a bot that is killed at one passage and started again: what stands at the end is to be the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from bot.demo import clock
from tests.bot.acts import aloud
from tests.bot.conftest import APPROVALS, ROLLOUTS, hurry, waiting
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.crash.gates import TICK, Gates, Passage, Side
from tests.crash.scenes import Scene, running, scene_of
from tests.workspace import Person, Refusal, text_of

LONG_S = 60
"""For what takes a few seconds on a machine that has nothing else to do."""
AGAIN_S = 4.0
"""How long somebody waits before doing it again."""


# --- Stories --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What was there, what people do (as often as it takes), and when there is nothing left to do."""

    prepare: Callable[[Engine], None]
    act: Callable[[Scene], object]
    """True where they could."""
    is_over: Callable[[Scene], bool]
    gates: Callable[..., Gates] = Gates
    """What counts as a passage, and whether the bot is told to stop on the way."""
    like: str | None = None
    """The story that it is to end like, with or without a kill; None for itself."""


def _requests(scene: Scene, state: str) -> int:
    return _count(scene.engine, f"SELECT count(*) FROM promotion.requests WHERE state = '{state}'")


def _count(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def _is_applied(scene: Scene) -> bool:
    return _requests(scene, "applied") == _count(scene.engine, "SELECT count(*) FROM promotion.requests")


def press(scene: Scene, who: str, channel: str, button: str) -> bool:
    """Presses a button wherever the newest card has it; False where none has it, or not any more."""
    person = scene.person(who)
    for message in reversed(aloud(person, channel)):
        with contextlib.suppress(AssertionError):
            person.clicks(message, button, confirm=True)
            return True
    return False


def _approve(scene: Scene) -> bool:
    return press(scene, "bob", APPROVALS, "Approve")


def served(engine: Engine) -> None:
    """Traffic as usual, with which nothing is wrong."""
    steps.serve(engine, "control", 400)  # or else an alert comes up that no events arrive


def asked(engine: Engine) -> None:
    """A candidate is to join."""
    served(engine)
    steps.ask(engine, "start")


def on_trial(engine: Engine) -> None:
    """It has joined, and nobody was told yet."""
    steps.change(engine, "start")
    steps.serve_all(engine, 4_000)


def _to_promote(engine: Engine) -> None:
    on_trial(engine)
    steps.ask(engine, "promote", override=steps.BECAUSE)


def _to_retire(engine: Engine) -> None:
    on_trial(engine)
    number = steps.ask(engine, "rollback", variant="candidate_v3", reason="slow")
    steps.approve(engine, number)
    steps.ask(engine, "retire", reason="it is over")


def harmed(engine: Engine) -> None:
    """It does harm."""
    on_trial(engine)
    clock.advance(engine, hours=1)
    steps.goes_wrong(engine)


def _days_later(engine: Engine) -> None:
    on_trial(engine)
    clock.advance(engine, days=2, hours=4)
    steps.serve_all(engine, 4_000)


def _digests(scene: Scene) -> int:
    return _count(scene.engine, "SELECT count(*) FROM promotion.messages WHERE key LIKE 'digest:%'")


START = Story(asked, _approve, _is_applied)
DAY = Story(_days_later, lambda scene: None, lambda scene: _digests(scene) == 1)
STORIES: Mapping[str, Story] = {
    "ask": Story(
        served,
        lambda scene: scene.person("alice").types(f"/rollout start {EXPERIMENT} planner_policy 3", ROLLOUTS),
        lambda scene: _requests(scene, "open") == 1,
    ),
    "start": START,
    "promote": Story(_to_promote, _approve, _is_applied),
    "rollback": Story(
        harmed,
        lambda scene: press(scene, "carol", ROLLOUTS, "Confirm rollback"),
        lambda scene: _requests(scene, "applied") == 2,
    ),
    "retire": Story(_to_retire, _approve, _is_applied),
    "day": DAY,
    "the start of the bot": replace(DAY, gates=partial(Gates, looks=True, ticks=True), like="day"),
    "a stop at a click": replace(START, gates=partial(Gates, stops_at="approvals", ticks=True), like="start"),
    "a stop amid effects": replace(START, gates=partial(Gates, stops_at="mlflow", ticks=True), like="start"),
}


# --- What is to be the same -----------------------------------------------------------------------------------------

_NUMBERS = re.compile(r"\d[\d:.,]*")
"""Times, and ids, which have gaps where a transaction did not come to its end."""
_LEDGER = """
    SELECT actor, action, subject, request_id, reason FROM promotion.ledger WHERE action <> 'mirror'"""
"""Without what the registry was found to differ in, which depends on how far it had been brought in line."""


def _said(person: Person, channel: str) -> list[str]:
    said = aloud(person, channel)
    return sorted(_NUMBERS.sub("N", text_of(one).partition("\n")[0]) for one in said)


def truth(scene: Scene) -> dict[str, Any]:
    """Everything that people rely on: the record, shares, stages, the registry, and what stands in the channels."""
    alice = scene.person("alice")
    with scene.engine.connect() as connection:
        rows = {
            "ledger": Counter(_NUMBERS.sub("N", str(tuple(row))) for row in connection.execute(text(_LEDGER))),
            "requests": connection.execute(
                text("SELECT action, state, decided_by FROM promotion.requests ORDER BY id")
            ).all(),
            "stages": connection.execute(
                text("SELECT mlflow_model_version, stage FROM promotion.stages ORDER BY 1")
            ).all(),
            "looks": connection.execute(
                text("SELECT action, count(*) FROM promotion.recommendations GROUP BY 1 ORDER BY 1")
            ).all(),
            "alerts": _count(scene.engine, "SELECT count(*) FROM promotion.alerts"),
        }
    return rows | {
        "shares": {_NUMBERS.sub("N", name): share for name, share in steps.shares(scene.engine).items()},
        "tags": steps.tags(scene.client),
        "alias": steps.alias(scene.client),
        **{channel: _said(alice, channel) for channel in (ROLLOUTS, APPROVALS)},
    }


# --- Telling --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What stood at the end, what passed on the way, and whether the bot was killed at all."""

    truth: Mapping[str, Any]
    seen: tuple[Passage, ...]
    was_killed: bool


def _goes_on(scene: Scene, story: Story, at: Gates, process: multiprocessing.process.BaseProcess) -> None:
    """People do their part until everything is done and told, or the bot is killed or has stopped as it was told to."""
    end, acted, still = time.monotonic() + LONG_S, 0.0, 0
    while not at.was_killed.is_set() and (still < 4 or at.is_stopping.is_set()):
        if not process.is_alive() and not at.was_killed.is_set():
            if at.is_stopping.is_set() and process.exitcode == 0:
                return
            raise AssertionError(f"the bot ended by itself:\n{(scene.folder / 'log').read_text()}")
        is_over = story.is_over(scene)
        still = still + 1 if is_over and not waiting(scene.engine) else 0
        if not is_over and time.monotonic() > acted + AGAIN_S and scene.workspace.state()["app"]["connected"]:
            with contextlib.suppress(Refusal):  # what was there a moment ago is not there any more
                acted = time.monotonic() if story.act(scene) else acted
        if time.monotonic() > end:
            log = (scene.folder / "log").read_text()
            raise AssertionError(f"after {LONG_S} s {waiting(scene.engine)} effects wait; over: {is_over}\n{log}")
        if waiting(scene.engine):
            hurry(scene.engine)
        time.sleep(0.1)


@dataclass(frozen=True)
class World:
    """Where stories are told: a server of databases, a registry, and a folder for what bots log."""

    server: str
    registry: str
    folder: Path
    _told: dict[str, Told] = field(default_factory=dict)

    def undisturbed(self, name: str) -> Told:
        """A story without a kill, which is told once."""
        if name not in self._told:
            self._told[name] = self.tell(name)
        return self._told[name]

    def wanted(self, name: str) -> Told:
        """What a story is to end like."""
        return self.undisturbed(STORIES[name].like or name)

    def tell(self, name: str, at: Passage | None = None, side: Side = "before") -> Told:
        """Tells a story from its beginning to its end, with the bot killed at one passage and started again."""
        story, folder = STORIES[name], self.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        with scene_of(self.server, self.registry, folder) as scene:
            story.prepare(scene.engine)
            first = story.gates(at=at, side=side)
            with running(scene, first) as process:
                _goes_on(scene, story, first, process)
            if first.was_killed.is_set() or first.is_stopping.is_set():
                second = Gates()
                with running(scene, second) as process:
                    _goes_on(scene, story, second, process)
            return Told(truth(scene), tuple(first.seen), first.was_killed.is_set())


def sides(seen: Iterable[Passage]) -> list[tuple[Passage, Side]]:
    """Every kill point of a story: before and after each passage, in the order in which they came; ticks have one."""
    both: tuple[Side, ...] = ("before", "after")
    return [(one, side) for one in dict.fromkeys(seen) for side in (both[:1] if one.what == TICK else both)]


def differences(undisturbed: Told, told: Told) -> list[str]:
    """What stands otherwise than without a kill, a line for each kind of thing."""
    return [
        f"{kind}: {told.truth[kind]!r} and not {wanted!r}"
        for kind, wanted in undisturbed.truth.items()
        if told.truth[kind] != wanted
    ]
