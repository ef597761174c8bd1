"""The connection to Slack: cut, refreshed, refused, stopped, without a command lost."""

from __future__ import annotations

import threading
import time

import pytest
from slack_bolt import App
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.sandbox import Sandbox
from bot.socketmode import SocketMode
from tests.bot.conftest import ROLLOUTS
from tests.workspace import Person, Reply, Workspace, waits_until


@pytest.fixture
def app(web: WebClient) -> App:
    """Acknowledges each command; the one called `hold` after half a second."""
    made = App(client=web, signing_secret="x")
    made.command("/rollout")(lambda ack, command: (time.sleep(0.5 * (command["text"] == "hold")), ack("done")))
    return made


@pytest.fixture
def slack(app: App, sandbox: Sandbox):  # type: ignore[no-untyped-def]
    made = SocketMode(app, sandbox.app_token)
    made.start()
    yield made
    made.stop()


def types(person: Person, text: str = "x") -> Reply:
    return person.types(f"/rollout {text}", channel=ROLLOUTS)


def test_a_cut_connection_is_back_without_waiting_for_a_ping(
    slack: SocketMode, alice: Person, workspace: Workspace
) -> None:
    for _ in range(5):
        assert types(alice).acked
        workspace.socket("drop")
        cut = time.monotonic()
        waits_until(lambda: types(alice).acked, 20, "a new connection")
        assert time.monotonic() - cut < 5


@pytest.mark.parametrize("farewell", ["refresh", "warning"])
def test_a_refresh_loses_nothing(farewell: str, slack: SocketMode, alice: Person, workspace: Workspace) -> None:
    replies = [types(alice)]
    for n in range(40):
        if n % 15 == 5:
            workspace.socket(farewell)
        replies.append(types(alice))
    assert all(reply.acked for reply in replies)
    assert max(reply.ms for reply in replies) < 2_900
    assert 1 < workspace.state()["app"]["connections"] <= 4  # the old ones stay until Slack ends them


def test_slack_may_be_out_for_a_while(slack: SocketMode, alice: Person, workspace: Workspace) -> None:
    assert types(alice).acked
    workspace.fails("apps.connections.open", "server_error", times=2)
    workspace.fails("apps.connections.open", "ratelimited", seconds=1)
    workspace.socket("drop")
    waits_until(lambda: types(alice).acked, 30, "a new connection")


def test_stopping_acknowledges_what_is_held_and_is_quick(
    app: App, sandbox: Sandbox, alice: Person, workspace: Workspace
) -> None:
    slack = SocketMode(app, sandbox.app_token)
    slack.start()
    replies: list[Reply] = []
    typing = threading.Thread(target=lambda: replies.append(types(alice, "hold")))
    typing.start()
    waits_until(lambda: workspace.requests("slash_commands"), 20, "the command")
    time.sleep(0.1)
    began = time.monotonic()
    slack.stop()
    assert time.monotonic() - began < 5
    typing.join()
    assert replies[0].acked
    waits_until(lambda: not workspace.state()["app"]["connected"], 20, "the end of the connection")
    assert not types(alice).acked


def test_a_token_that_slack_does_not_accept_is_known_at_the_start(app: App) -> None:
    slack = SocketMode(app, "xapp-wrong")
    with pytest.raises(SlackApiError, match="invalid_auth"):
        slack.start()
    slack.stop()
