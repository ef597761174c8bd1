"""A bot at work in a local workspace: real PostgreSQL, a real MLflow store, Bolt over a real Socket Mode connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bot import running
from bot.manifest import manifest
from bot.sandbox import Channel, Person, Sandbox
from core import settings
from core.settings import Settings, SlackSection
from sqlalchemy import Engine

from tests.core.conftest import client, desk, mlflow_template, mlflow_uri, registry  # noqa: F401 - fixtures
from tests.workspace import Workspace

PEOPLE = (
    Person(handle="alice", name="Alice Moreau", title="ML engineer"),
    Person(handle="bob", name="Bob Tanaka", title="Approver"),
    Person(handle="carol", name="Carol Okafor", title="On call"),
)
EVERYBODY = ("alice", "bob", "carol")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A workspace with the bot's app installed, without the limit of one message a second."""
    made = Sandbox(
        manifest=manifest(),
        people=PEOPLE,
        channels=(
            Channel(name="ml-rollouts", topic="", members=EVERYBODY, with_app=True),
            Channel(name="ml-approvals", topic="", members=EVERYBODY, with_app=True),
        ),
        rate_limited=False,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def workspace(sandbox: Sandbox) -> Workspace:
    return Workspace(sandbox)


@pytest.fixture
def configured(sandbox: Sandbox, mlflow_uri: str, tmp_path: Path) -> Settings:  # noqa: F811
    return settings.load(
        slack_bot_token=sandbox.bot_token,
        slack_app_token=sandbox.app_token,
        slack_api_url=sandbox.api_url,
        mlflow_tracking_uri=mlflow_uri,
        promotion_bot_data=tmp_path,
        slack=SlackSection(approvers=("@bob",)),
    )


@pytest.fixture
def bot(desk: Engine, client: object, sandbox: Sandbox, configured: Settings) -> Iterator[None]:  # noqa: F811
    """The bot, connected, on an experiment with `control` at 100 % and `planner_policy` v3 as a candidate."""
    with running.running(desk, configured) as made, running.listening(made, sandbox.app_token):
        yield
