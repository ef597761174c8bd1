"""`promotion-bot demo`: everything a newcomer needs on one machine, started together and stopped together."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import fasteners

from bot import running
from bot.demo import breakfast, clock, history, models, simulate, world
from bot.demo.stage import MlflowPage
from bot.demo.traffic import Traffic
from bot.manifest import manifest
from bot.sandbox import Channel, Person, Sandbox
from core import db, settings
from core.errors import Refused
from core.sections import AlertsSection, SlackSection

MARKER = "this-folder-is-a-promotion-bot-demo"
COMPLETE = "complete"
LOCK = "lock"
PEOPLE = (
    Person(handle="alice", name="Alice Moreau", title="ML engineer"),
    Person(handle="bob", name="Bob Tanaka", title="Approver"),
    Person(handle="carol", name="Carol Okafor", title="Approver, on call"),
    Person(handle="dan", name="Dan Weber", title="Approver, owner"),
)
EVERYBODY = tuple(person.handle for person in PEOPLE)
CHANNELS = (
    Channel(name="ml-rollouts", topic="Rollouts of models: ask here, read the news here", members=EVERYBODY),
    Channel(name="ml-approvals", topic="Requests that wait for a decision", members=EVERYBODY),
)
APPROVERS = ("bob", "carol", "dan")
SLACK = SlackSection(approvers=("@ml-approvers",), owners=("@dan",))
ALERTS = AlertsSection(on_call=("@carol",))
FIRST = (
    f"status {world.EXPERIMENT}",
    f"qualify {models.MODEL} 3",
    f"start {world.EXPERIMENT} {world.POLICY} 3",
)
"""The first three things to try, which the page offers as well."""
IN_PROGRESS = f"recommend {breakfast.EXPERIMENT}"
HINT = " · ".join((*FIRST, IN_PROGRESS))
QUIETER = {breakfast.EXPERIMENT_ID: 0.1}
"""The part of the usual live traffic that an experiment gets."""


def _check_free(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError) as error:
        raise Refused(
            f"Port {port} cannot be had ({error}). Is a demo running already? Otherwise choose another --port; "
            "the workspace takes it and MLflow the next one."
        ) from None


def _taken(data_dir: Path, stack: ExitStack) -> Path:
    """The folder of the demo, held by this process alone; never one that holds something else."""
    try:
        if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / MARKER).exists():
            raise Refused(f"{data_dir} holds something else. Give an empty or new folder to --data-dir.")
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / MARKER).touch()
    except OSError as error:
        raise Refused(f"{data_dir} cannot be used as --data-dir: {error.strerror}.") from None
    lock = fasteners.InterProcessLock(data_dir / LOCK)
    if not lock.acquire(blocking=False):
        raise Refused(f"A demo is running on {data_dir}. Stop it first, or give another --data-dir.")
    stack.callback(lock.release)
    return data_dir


def _empty(folder: Path) -> None:
    if (folder / "postgres" / "postmaster.pid").exists():  # left running by a demo that was killed
        with db.embedded(folder):
            pass
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name not in (LOCK, MARKER):
            child.unlink()
    (folder / MARKER).write_text("")


def _filled(engine: db.Engine, folder: Path, stack: ExitStack, seed: int) -> None:
    """Fills database and registry side by side, in two processes, since both take seconds."""
    registry = subprocess.Popen(
        [sys.executable, "-m", "bot.demo.models", str(folder)], stdout=subprocess.PIPE, start_new_session=True
    )
    stack.callback(registry.kill)
    with registry:
        world.seed(engine, seed=seed, now=datetime.now(UTC))
        runs, _ = registry.communicate()
    if registry.returncode != 0:
        raise Refused(f"The MLflow registry in {folder} cannot be set up; the reason stands above.")
    world.link_runs(engine, json.loads(runs))
    (folder / MARKER).write_text(COMPLETE)


def _prepared(folder: Path, stack: ExitStack, seed: int) -> db.Engine:
    """The database, migrated and filled."""
    engine = db.connect(stack.enter_context(db.embedded(folder)))
    stack.callback(engine.dispose)
    clock.install(engine)
    db.migrate(engine)
    if (folder / MARKER).read_text() != COMPLETE:
        _filled(engine, folder, stack, seed)
    return engine


def _invitation(sandbox: Sandbox, page: MlflowPage, folder: Path, command: str) -> Sequence[str]:
    return (
        "",
        f"  Workspace   {sandbox.url}/?as=alice&channel=ml-rollouts",
        f"  MLflow      {page.url}#/models/{models.MODEL}  (up in some seconds)",
        f"  Data        {folder}",
        "",
        "  Try, as alice in #ml-rollouts:",
        *(f"    {number}.  {command} {words}" for number, words in enumerate(FIRST, 1)),
        "        then switch to bob, open #ml-approvals and press Approve",
        f"    {len(FIRST) + 1}.  {command} {IN_PROGRESS}  (a rollout in progress)",
        f"    {len(FIRST) + 2}.  {command} simulate regression {breakfast.EXPERIMENT}  (the bot notices)",
        f"        {command} simulate days 3  lets time pass",
        "",
        "  Ctrl-C stops everything. The data stays for the next time; --reset forgets it.",
        "",
    )


def run(data_dir: Path, *, port: int, opens_browser: bool, is_reset: bool, seed: int, told: threading.Event) -> None:
    """Runs the demo until `told` is set.

    Raises:
        Refused: where the folder belongs to something else, or a port is taken.
    """
    began = time.monotonic()
    for each in (port, port + 1):
        _check_free(each)
    with ExitStack() as stack:
        folder = _taken(data_dir, stack)
        if is_reset:
            _empty(folder)
        page = MlflowPage(folder, port + 1)
        sandbox = Sandbox(
            manifest(SLACK.command, hint=HINT),
            PEOPLE,
            CHANNELS,
            groups={"ml-approvers": APPROVERS},
            store=folder / "workspace.db",
            port=port,
            team_name="Demo workspace",
            links=(("MLflow", f"{page.url}#/models/{models.MODEL}"),),
        )
        stack.callback(sandbox.stop)
        sandbox.start()
        print("Starting PostgreSQL, MLflow and the workspace …", flush=True)
        engine = _prepared(folder, stack, seed)
        found = settings.load(
            slack_bot_token=sandbox.bot_token,
            slack_app_token=sandbox.app_token,
            slack_signing_secret=sandbox.signing_secret,
            slack_api_url=sandbox.api_url,
            mlflow_tracking_uri=models.tracking_uri(folder),
            promotion_bot_data=folder,
            slack=SLACK,
            alerts=ALERTS,
        )
        traffic = Traffic(engine, models.loader(folder), seed=seed, parts=QUIETER)
        parts = {breakfast.EXPERIMENT_ID: breakfast.PART_OF_PLANS}
        simulation = simulate.Simulation(traffic, seed=seed, plans_a_day=history.PLANS_A_DAY, parts=parts)
        made = stack.enter_context(running.running(engine, found, verbs=simulate.verbs(simulation)))
        stack.enter_context(running.listening(made, sandbox.app_token))
        page.start()
        stack.callback(page.stop)
        traffic.start()
        stack.callback(traffic.stop)
        print("\n".join(_invitation(sandbox, page, folder, SLACK.command)))
        print(f"  Started in {time.monotonic() - began:.1f} s.\n\nready", flush=True)
        if opens_browser:
            webbrowser.open(f"{sandbox.url}/?as=alice&channel=ml-rollouts")
        told.wait()
        print("Stopping …", flush=True)
