"""`promotion-bot demo`: everything a newcomer needs on one machine, started together and stopped together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bot import running
from bot.demo import models, world
from bot.demo.stage import MlflowPage
from bot.demo.traffic import Traffic
from bot.manifest import manifest
from bot.sandbox import Channel, Person, Sandbox
from core import db, settings
from core.errors import Refused
from core.settings import SlackSection

MARKER = "this-folder-is-a-promotion-bot-demo"
COMPLETE = "complete"
PEOPLE = (
    Person(handle="alice", name="Alice Moreau", title="ML engineer"),
    Person(handle="bob", name="Bob Tanaka", title="Approver"),
    Person(handle="carol", name="Carol Okafor", title="On call"),
)
EVERYBODY = tuple(person.handle for person in PEOPLE)
CHANNELS = (
    Channel(name="ml-rollouts", topic="Rollouts of models: ask here, read the news here", members=EVERYBODY),
    Channel(name="ml-approvals", topic="Requests that wait for a decision", members=EVERYBODY),
)
SLACK = SlackSection(approvers=("@bob",))


def _folder(data_dir: Path, *, is_reset: bool) -> Path:
    """The folder of the demo; an existing one is only emptied where a demo made it."""
    marker = data_dir / MARKER
    if data_dir.exists() and any(data_dir.iterdir()) and not marker.exists():
        raise Refused(f"{data_dir} holds something else. Give an empty or new folder to --data-dir.")
    if is_reset and data_dir.exists():
        shutil.rmtree(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return data_dir


def _opened(sandbox: Sandbox, port: int) -> Sandbox:
    try:
        return sandbox.start()
    except OSError as error:
        raise Refused(
            f"Port {port} cannot be had ({error.strerror}). Is a demo running already? Otherwise choose another --port."
        ) from None


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
    db.migrate(engine)
    if (folder / MARKER).read_text() != COMPLETE:
        _filled(engine, folder, stack, seed)
    return engine


def _invitation(sandbox: Sandbox, page: MlflowPage, folder: Path, command: str) -> Sequence[str]:
    name = world.EXPERIMENT
    return (
        "",
        f"  Workspace   {sandbox.url}/?as=alice&channel=ml-rollouts",
        f"  MLflow      {page.url}  (up in some seconds)",
        f"  Data        {folder}",
        "",
        "  Try, as alice in #ml-rollouts:",
        f"    1.  {command} status {name}",
        f"    2.  {command} qualify {models.MODEL} 3",
        f"    3.  {command} start {name} {world.POLICY} 3",
        "        then switch to bob, open #ml-approvals and press Approve",
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
    folder = _folder(data_dir, is_reset=is_reset)
    page = MlflowPage(folder, port + 1)
    with ExitStack() as stack:
        sandbox = Sandbox(
            manifest(SLACK.command),
            PEOPLE,
            CHANNELS,
            groups={"ml-approvers": ("bob",)},
            store=folder / "workspace.db",
            port=port,
            team_name="Demo workspace",
            links=(("MLflow", page.url),),
        )
        stack.callback(sandbox.stop)
        _opened(sandbox, port)
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
        )
        made = stack.enter_context(running.running(engine, found))
        stack.enter_context(running.listening(made, sandbox.app_token))
        page.start()
        stack.callback(page.stop)
        traffic = Traffic(engine, models.loader(folder), seed=seed)
        traffic.start()
        stack.callback(traffic.stop)
        print("\n".join(_invitation(sandbox, page, folder, SLACK.command)))
        print(f"  Started in {time.monotonic() - began:.1f} s.\n\nready", flush=True)
        if opens_browser:
            webbrowser.open(f"{sandbox.url}/?as=alice&channel=ml-rollouts")
        told.wait()
        print("Stopping …", flush=True)
