"""A bot at work in a local workspace: real PostgreSQL, a real MLflow store, Bolt over a real Socket Mode connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient
from sqlalchemy import Engine, text

from bot import running
from bot.manifest import manifest
from bot.pulse import Pulse
from bot.sandbox import Channel, Person, Sandbox
from core import settings
from core.settings import ApprovalsSection, Settings, SlackSection
from tests import workspace as people
from tests.core.conftest import client, desk, mlflow_template, mlflow_uri, registry  # noqa: F401 - fixtures
from tests.workspace import Workspace

PEOPLE = (
    Person(handle="alice", name="Alice Moreau", title="ML engineer"),
    Person(handle="bob", name="Bob Tanaka", title="Approver"),
    Person(handle="carol", name="Carol Okafor", title="On call"),
)
EVERYBODY = ("alice", "bob", "carol")
ROLLOUTS, APPROVALS = "ml-rollouts", "ml-approvals"


def make_sandbox(**options: Any) -> Sandbox:
    """A workspace with the bot's app installed, without the limit of one message a second."""
    channels = [Channel(name=name, topic="", members=EVERYBODY, with_app=True) for name in (ROLLOUTS, APPROVALS)]
    return Sandbox(
        **({"manifest": manifest(), "people": PEOPLE, "channels": channels, "rate_limited": False} | options)
    )


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = make_sandbox()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def workspace(sandbox: Sandbox) -> Iterator[Workspace]:
    with Workspace(sandbox) as made:
        yield made


@pytest.fixture
def alice(workspace: Workspace) -> people.Person:
    """Asks for things."""
    return workspace.person("alice")


@pytest.fixture
def bob(workspace: Workspace) -> people.Person:
    """The approver."""
    return workspace.person("bob")


@pytest.fixture
def carol(workspace: Workspace) -> people.Person:
    """May look, and confirm rollbacks."""
    return workspace.person("carol")


def configure(sandbox: Sandbox, **more: Any) -> Settings:
    """Settings for a bot in this workspace, where bob alone approves."""
    usual: dict[str, Any] = {
        "slack_bot_token": sandbox.bot_token,
        "slack_app_token": sandbox.app_token,
        "slack_api_url": sandbox.api_url,
        "slack": SlackSection(approvers=("@bob",)),
        "approvals": ApprovalsSection(production=1, against=0),
    }
    return settings.load(**(usual | more))


@pytest.fixture
def wishes() -> dict[str, Any]:
    """What a test configures besides the usual."""
    return {}


@pytest.fixture
def configured(sandbox: Sandbox, mlflow_uri: str, tmp_path: Path, wishes: dict[str, Any]) -> Settings:  # noqa: F811
    return configure(sandbox, mlflow_tracking_uri=mlflow_uri, promotion_bot_data=tmp_path, **wishes)


class Bot:
    """A bot over Socket Mode that can be stopped and started again."""

    def __init__(self, engine: Engine, configured: Settings, pulse: Pulse | None = None) -> None:
        self._engine = engine
        self._configured = configured
        self._pulse = pulse
        self._stack = ExitStack()

    def start(self) -> Bot:
        """Connects."""
        token = self._configured.slack_app_token
        assert token is not None
        made = self._stack.enter_context(running.running(self._engine, self._configured, pulse=self._pulse))
        self._stack.enter_context(running.listening(made, token.get_secret_value()))
        return self

    def stop(self) -> None:
        """Finishes what it holds and disconnects."""
        self._stack.close()


@pytest.fixture
def bot(desk: Engine, configured: Settings) -> Iterator[Bot]:  # noqa: F811
    """The bot, connected, on an experiment with `control` at 100 % and `planner_policy` v3 as a candidate."""
    made = Bot(desk, configured)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def web(sandbox: Sandbox) -> WebClient:
    """The Web API as the app itself, for what people cannot do."""
    return WebClient(token=sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])


def hurry(engine: Engine) -> None:
    """The pauses after failed attempts are over."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.effects SET due_at = now() WHERE done_at IS NULL"))


def effects(engine: Engine, kind: str) -> list[Any]:
    """The effects of a kind, oldest first: key, attempts, last_error, done_at."""
    query = "SELECT key, attempts, last_error, done_at FROM promotion.effects WHERE kind = :kind ORDER BY id"
    with engine.connect() as connection:
        return list(connection.execute(text(query), {"kind": kind}))


def waiting(engine: Engine) -> int:
    """How many effects are still to be carried out."""
    with engine.connect() as connection:
        query = "SELECT count(*) FROM promotion.effects WHERE done_at IS NULL"
        return int(connection.execute(text(query)).scalar_one())


@contextmanager
def broken(store_uri: str) -> Iterator[None]:
    """The registry fails at everything meanwhile: the store lacks a table."""
    path = store_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
        store.execute("ALTER TABLE model_versions RENAME TO away")
        try:
            yield
        finally:
            store.execute("ALTER TABLE away RENAME TO model_versions")
