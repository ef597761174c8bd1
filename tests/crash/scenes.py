"""A scene for bots in processes of their own: a database, a registry, a workspace and its people, which go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from mlflow import MlflowClient
from sqlalchemy import Engine

from bot.__main__ import main
from bot.demo import clock, mlflow_page
from bot.sandbox import Sandbox
from core import db
from tests.bot.conftest import make_sandbox
from tests.conftest import fresh_database
from tests.core.conftest import MODEL, set_up_desk
from tests.crash import gates
from tests.crash.gates import Gates
from tests.workspace import Person, Workspace, waits_until

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
