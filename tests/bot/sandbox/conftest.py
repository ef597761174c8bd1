"""A workspace for each test, and a small app of Bolt's connected to it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from slack_sdk import WebClient

from bot.sandbox import Channel, Person, Sandbox
from tests.workspace import Workspace

SCOPES = [
    "commands",
    "chat:write",
    "files:write",
    "users:read",
    "users:read.email",
    "usergroups:read",
    "channels:read",
    "channels:history",
    "channels:join",
    "groups:read",
    "groups:history",
    "im:read",
    "im:write",
    "im:history",
]
PEOPLE = (
    Person("alice", "Alice Moreau", "ML engineer"),
    Person("bob", "Bob Ito", "Reviewer"),
    Person("carol", "Carol Diaz", "On call"),
    Person("gus", "Gus Guest", guest=True),
    Person("dora", "Dora Gone", deleted=True),
)
CHANNELS = (
    Channel("ml-rollouts", "Rollouts", ("alice", "bob", "gus")),
    Channel("random", "Anything", ("alice", "carol"), with_app=False),
    Channel("secret", "Private", ("alice",), with_app=False, private=True),
    Channel("council", "Private, with the app", ("alice", "bob"), private=True),
    Channel("old", "Archived", ("alice",), archived=True),
)
GROUPS = {"approvers": ("alice", "bob", "dora")}


def manifest(scopes: list[str] | None = None, **settings: Any) -> dict[str, Any]:
    """The manifest of an app with one command; `settings` replace those of the same name."""
    return {
        "_metadata": {"major_version": 2},
        "display_information": {"name": "Rollouts"},
        "features": {
            "bot_user": {"display_name": "Rollout Bot"},
            "app_home": {"home_tab_enabled": True},
            "slash_commands": [
                {"command": "/rollout", "description": "Promote a model", "usage_hint": "help"},
                {"command": "/escaped", "description": "Gets references", "should_escape": True},
            ],
        },
        "oauth_config": {"scopes": {"bot": SCOPES if scopes is None else scopes}},
        "settings": {
            "socket_mode_enabled": True,
            "interactivity": {"is_enabled": True},
            "event_subscriptions": {"bot_events": ["app_home_opened", "app_mention", "message.im"]},
            **settings,
        },
    }


class Clock:
    """A clock that tests turn forward; it stands still otherwise."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


MakeSandbox = Callable[..., Sandbox]


@pytest.fixture
def make_sandbox() -> Iterator[MakeSandbox]:
    """Makes and starts sandboxes, which stop at the end of the test."""
    started: list[Sandbox] = []

    def make(**options: Any) -> Sandbox:
        options = {"manifest": manifest(), "rate_limited": False, **options}
        sandbox = Sandbox(people=PEOPLE, channels=CHANNELS, groups=GROUPS, **options)
        started.append(sandbox)
        return sandbox.start()

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def clock() -> Clock:
    """The clock of the sandbox."""
    return Clock()


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox, clock: Clock) -> Sandbox:
    """A workspace that is started, with a clock that stands still and without rate limits."""
    return make_sandbox(clock=clock)


@pytest.fixture
def ws(sandbox: Sandbox) -> Iterator[Workspace]:
    """The people's side of the workspace."""
    with Workspace(sandbox) as workspace:
        yield workspace


@pytest.fixture
def client(sandbox: Sandbox) -> WebClient:
    """The app's side: the official client."""
    return web_client(sandbox)


def web_client(sandbox: Sandbox, token: str | None = None) -> WebClient:
    """The official client without retries of its own."""
    return WebClient(token=token or sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])
