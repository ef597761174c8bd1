"""Stories told to a bot that is killed at one passage and started again: what stands at the end is to be the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from bot.__main__ import main
from bot.demo import clock, mlflow_page
from bot.sandbox import Sandbox
from core import db
from tests.bot.acts import aloud
from tests.bot.conftest import APPROVALS, ROLLOUTS, hurry, make_sandbox, waiting
from tests.conftest import fresh_database
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, set_up_desk
from tests.crash import gates
from tests.crash.gates import TICK, Gates, Passage, Side
from tests.workspace import Person, Refusal, Workspace, text_of, waits_until

LONG_S = 60
"""For what takes a few seconds on a machine that has nothing else to do."""
AGAIN_S = 4.0
"""How long somebody waits before doing it again."""
EARLY = datetime(2045, 11, 20, 5, tzinfo=UTC)
CONFIGURATION = """
[slack]
approvers = ["@bob"]
[approvals]
production = 1
against = 0
[alerts]
on_call = ["@carol"]
[recommendations]
at = "08:00"
"""
_STARTS = multiprocessing.get_context("forkserver")
_STARTS.set_forkserver_preload(["bot.__main__", "bot.running", "mlflow"])


# --- One bot, and all it stands between -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """What goes on while the bot is dead: the database, the registry, the workspace and its people."""

    engine: Engine
    url: str
    registry: str
    sandbox: Sandbox
    workspace: Workspace
    folder: Path

    @property
    def client(self) -> MlflowClient:
        """The registry itself."""
        return MlflowClient(tracking_uri=self.registry, registry_uri=self.registry)

    def person(self, handle: str) -> Person:
        """Somebody of the workspace."""
        return self.workspace.person(handle)


def _bot(environment: Mapping[str, str], folder: Path) -> None:
    """`promotion-bot run`, in a process that has its libraries loaded already."""
    os.environ.update(environment)
    os.chdir(folder)
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(["run"]))


def started(scene: Scene, folder: Path, **elsewhere: str) -> multiprocessing.process.BaseProcess:
    """A bot in a process of its own, which logs into this folder; `elsewhere` is what it reaches another way."""
    environment = {
        "SLACK_BOT_TOKEN": scene.sandbox.bot_token,
        "SLACK_APP_TOKEN": scene.sandbox.app_token,
        "SLACK_API_URL": scene.sandbox.api_url,
        "DATABASE_URL": scene.url,
        "MLFLOW_TRACKING_URI": scene.registry,
        "PROMOTION_BOT_DATA": str(scene.folder),
    } | elsewhere
    (folder / "promotion-bot.toml").write_text(CONFIGURATION)
    process = _STARTS.Process(target=_bot, args=(environment, folder))
    process.start()
    return process


@contextmanager
def running(scene: Scene, at: Gates) -> Iterator[multiprocessing.process.BaseProcess]:
    """A bot behind gates; at the end of the block it is killed if it still lives."""
    with (
        gates.database(at, scene.url) as url,
        gates.http(at, "slack", scene.sandbox.url) as slack,
        gates.http(at, "mlflow", scene.registry) as registry,
    ):
        elsewhere = {"DATABASE_URL": url, "SLACK_API_URL": f"{slack}/api/", "MLFLOW_TRACKING_URI": registry}
        process = started(scene, scene.folder, **elsewhere)
        try:
            with at.watching(process.pid or 0):
                yield process
        finally:
            process.kill()
            process.join()
            process.close()


@contextmanager
def registry_server(folder: Path, store: str) -> Iterator[str]:
    """MLflow's own server on a store; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", str(mlflow_page.__file__), store, folder.as_uri(), str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health", trust_env=False).status_code == 200
        return False

    try:
        waits_until(answers, 120, "MLflow's server")
        yield url
    finally:
        server.kill()
        server.wait()
        if server.stdin:
            server.stdin.close()


def tags_as_at_first(client: MlflowClient) -> None:
    """Tags and alias as the template has them."""
    for number, tag in (("1", "archived"), ("2", "production"), ("3", "candidate"), ("4", None)):
        if tag:
            client.set_model_version_tag(MODEL, number, "stage", tag)
        else:
            client.delete_model_version_tag(MODEL, number, "stage")
    client.set_registered_model_alias(MODEL, "production", "2")


# --- Stories --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What was there, what people do (as often as it takes), and when there is nothing left to do."""

    prepare: Callable[[Engine], None]
    act: Callable[[Scene], object]
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


def press(scene: Scene, who: str, channel: str, button: str) -> None:
    """Presses a button wherever the newest card has it."""
    person = scene.person(who)
    for message in reversed(aloud(person, channel)):
        with contextlib.suppress(AssertionError):  # the card has no such button, or not any more
            person.clicks(message, button, confirm=True)
            return


def _approve(scene: Scene) -> None:
    press(scene, "bob", APPROVALS, "Approve")


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
                story.act(scene)
            acted = time.monotonic()
        if time.monotonic() > end:
            log = (scene.folder / "log").read_text()
            raise AssertionError(f"after {LONG_S} s {waiting(scene.engine)} effects wait; over: {is_over}\n{log}")
        if waiting(scene.engine):
            hurry(scene.engine)
        time.sleep(0.1)


@contextmanager
def scene_of(server: str, registry: str, folder: Path) -> Iterator[Scene]:
    """An experiment in a database of its own, tags and alias as at first, and a workspace."""
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(server))
        engine = db.connect(url)
        stack.callback(engine.dispose)
        set_up_desk(engine)
        sandbox = make_sandbox()
        sandbox.start()
        stack.callback(sandbox.stop)
        workspace = stack.enter_context(Workspace(sandbox))
        made = Scene(engine, url, registry, sandbox, workspace, folder)
        tags_as_at_first(made.client)
        clock.set_to(engine, EARLY)
        yield made


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
