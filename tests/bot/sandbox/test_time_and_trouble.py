"""What runs out, what is too fast, what breaks on order, and what survives."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from bot.sandbox import Sandbox
from bot.sandbox.links import MOST_CONNECTIONS
from tests.bot.sandbox.conftest import Clock, MakeSandbox, web_client
from tests.bot.sandbox.test_web_api import MODAL, channel_id, error_of
from tests.workspace import Refusal, Workspace, waits_until

Json = dict[str, Any]


def link(sandbox: Sandbox) -> ClientConnection:
    """A raw Socket Mode connection."""
    return connect(web_client(sandbox, sandbox.app_token).apps_connections_open(app_token=sandbox.app_token)["url"])


def command(sandbox: Sandbox, socket: ClientConnection, ws: Workspace) -> Json:
    """Type a command that this connection acknowledges: its payload."""
    with ThreadPoolExecutor(1) as pool:
        typing = pool.submit(ws.person("alice").types, "/rollout x", "ml-rollouts")
        while (envelope := json.loads(socket.recv(5)))["type"] != "slash_commands":
            pass
        socket.send(json.dumps({"envelope_id": envelope["envelope_id"]}))
        assert typing.result().acked
    assert envelope["accepts_response_payload"]
    return dict(envelope["payload"])


def test_a_trigger_lives_three_seconds_and_once(
    sandbox: Sandbox, ws: Workspace, client: WebClient, clock: Clock
) -> None:
    with link(sandbox) as socket:
        first, second = command(sandbox, socket, ws)["trigger_id"], command(sandbox, socket, ws)["trigger_id"]
    clock.now += 3
    view = client.views_open(trigger_id=first, view={**MODAL, "external_id": "one"})["view"]
    assert error_of(client, "views.open", trigger_id=first, view=MODAL) == "exchanged_trigger_id"
    assert (
        error_of(client, "views.open", trigger_id=second, view={**MODAL, "external_id": "one"})
        == "duplicate_external_id"
    )
    assert error_of(client, "views.push", trigger_id=second, view=MODAL) == "not_found"
    clock.now += 0.01
    assert error_of(client, "views.open", trigger_id=second, view=MODAL) == "expired_trigger_id"
    updated = client.views_update(external_id="one", view=MODAL, hash=view["hash"])["view"]
    assert error_of(client, "views.update", view_id=view["id"], view=MODAL, hash=view["hash"]) == "hash_conflict"
    alice = ws.person("alice")
    alice.closes(updated)
    assert error_of(client, "views.update", view_id=view["id"], view=MODAL) == "not_found"


def test_a_response_url_takes_five_answers_within_half_an_hour(sandbox: Sandbox, ws: Workspace, clock: Clock) -> None:
    with link(sandbox) as socket:
        first, second = command(sandbox, socket, ws)["response_url"], command(sandbox, socket, ws)["response_url"]
    clock.now += 30 * 60
    for _ in range(5):
        assert WebhookClient(first).send(text="x", response_type="in_channel").status_code == 200
    used = WebhookClient(first).send(text="x")
    assert (used.status_code, json.loads(used.body)["error"]) == (404, "used_url")
    assert json.loads(WebhookClient(second).send(text=" ").body)["error"] == "no_text"
    assert json.loads(WebhookClient(second).send(blocks=[{"type": "poll"}]).body)["error"] == "invalid_blocks"
    clock.now += 0.01
    gone = WebhookClient(second).send(text="x")
    assert (gone.status_code, json.loads(gone.body)["error"]) == (404, "expired_url")
    assert len(ws.person("bob").sees("ml-rollouts")) == 5


# -- connections -------------------------------------------------------------------------------------------------------


def test_a_link_greets_and_its_ticket_is_good_once(sandbox: Sandbox) -> None:
    url = web_client(sandbox, sandbox.app_token).apps_connections_open(app_token=sandbox.app_token)["url"]
    with connect(url) as socket:
        hello = json.loads(socket.recv(5))
        assert (hello["type"], hello["num_connections"]) == ("hello", 1)
        assert hello["connection_info"]["app_id"] in url
        assert hello["debug_info"]
    with pytest.raises(InvalidStatus):
        connect(url)


def test_ten_links_share_what_comes_and_the_eleventh_is_turned_away(sandbox: Sandbox, ws: Workspace) -> None:
    with ExitStack() as stack:
        links = [stack.enter_context(link(sandbox)) for _ in range(MOST_CONNECTIONS)]
        with link(sandbox) as extra:
            assert json.loads(extra.recv(5))["reason"] == "too_many_websockets"
            with pytest.raises(ConnectionClosed):
                extra.recv(5)
        assert [json.loads(each.recv(5))["num_connections"] for each in links] == [*range(1, MOST_CONNECTIONS + 1)]
        assert ws.state()["app"]["connections"] == MOST_CONNECTIONS


def test_links_are_warned_refreshed_and_dropped(sandbox: Sandbox, ws: Workspace) -> None:
    with link(sandbox) as old:
        old.recv(5)
        ws.socket("warning")
        assert json.loads(old.recv(5))["reason"] == "warning"
        ws.socket("refresh")
        assert json.loads(old.recv(5))["reason"] == "refresh_requested"
        with link(sandbox) as new:
            for _ in range(5):
                command(sandbox, new, ws)
            ws.socket("drop")
            with pytest.raises(ConnectionClosed):
                new.recv(5)
    waits_until(lambda: not ws.state()["app"]["connected"], 20, "the connections to be gone")


def test_an_event_that_is_not_acknowledged_is_repeated(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(ack_within=0.05, retry_after=(0.0, 0.01, 0.01))
    with Workspace(sandbox) as ws, link(sandbox) as socket:
        socket.recv(5)
        ws.person("alice").types("<@x> hello @rollout-bot", channel="ml-rollouts")
        envelopes = [json.loads(socket.recv(5)) for _ in range(4)]
    assert [(each["retry_attempt"], each["retry_reason"]) for each in envelopes] == [
        (0, ""),
        (1, "timeout"),
        (2, "timeout"),
        (3, "timeout"),
    ]
    assert len({each["payload"]["event_id"] for each in envelopes}) == 1
    assert envelopes[0]["payload"]["event"]["text"].startswith("&lt;@x&gt; hello <@U")


# -- rate limits and faults --------------------------------------------------------------------------------------------


def test_one_message_a_second_goes_to_a_channel(make_sandbox: MakeSandbox, clock: Clock) -> None:
    sandbox = make_sandbox(rate_limited=True, clock=clock)
    client = web_client(sandbox)
    with Workspace(sandbox) as ws:
        rollouts, council = channel_id(ws, "ml-rollouts"), channel_id(ws, "council")
        client.chat_postMessage(channel=rollouts, text="1")
        client.chat_postMessage(channel=council, text="1")
        with pytest.raises(SlackApiError) as refusal:
            client.chat_postMessage(channel=rollouts, text="2")
        assert (refusal.value.response.status_code, refusal.value.response["error"]) == (429, "ratelimited")
        assert refusal.value.response.headers["Retry-After"] == "1"
        clock.now += 1
        client.chat_postMessage(channel=rollouts, text="3")
        ws.admin("rate_limits", on=False)
        client.chat_postMessage(channel=rollouts, text="4")


def test_a_method_of_tier_two_is_called_twenty_times_a_minute(make_sandbox: MakeSandbox, clock: Clock) -> None:
    client = web_client(make_sandbox(rate_limited=True, clock=clock))
    for _ in range(20):
        client.usergroups_list()
    with pytest.raises(SlackApiError) as refusal:
        client.usergroups_list()
    assert refusal.value.response.headers["Retry-After"] == "60"
    client.users_list()
    clock.now += 60
    assert client.usergroups_list()["ok"]


def test_faults_come_as_ordered(sandbox: Sandbox, ws: Workspace, client: WebClient) -> None:
    rollouts = channel_id(ws, "ml-rollouts")

    def post() -> Any:
        return client.chat_postMessage(channel=rollouts, text="x")

    ws.fails("chat.postMessage", "ratelimited", seconds=7)
    with pytest.raises(SlackApiError) as refusal:
        post()
    assert refusal.value.response.headers["Retry-After"] == "7"
    ws.fails("*", "server_error")
    with pytest.raises(SlackApiError) as refusal:
        post()
    assert refusal.value.response.status_code == 503
    ws.fails("chat.postMessage", "error", error="channel_not_found")
    with pytest.raises(SlackApiError, match="channel_not_found"):
        post()
    ws.fails("chat.postMessage", "drop_before")
    with pytest.raises(OSError):  # noqa: PT011 - whatever the network says of a lost connection
        post()
    assert ws.person("alice").sees(rollouts) == []
    ws.fails("chat.postMessage", "drop_after")
    with pytest.raises(OSError):  # noqa: PT011
        post()
    assert len(ws.person("alice").sees(rollouts)) == 1
    ws.fails("chat.postMessage", "slow", seconds=0.2)
    started = time.monotonic()
    post()
    assert time.monotonic() - started >= 0.2
    ws.fails("chat.postMessage", "error", times=5)
    ws.fails_no_more()
    assert post()["ok"]
    called = ws.requests("chat.postMessage")
    assert [call.get("error") for call in called][:5] == [
        "ratelimited",
        "server_error",
        "channel_not_found",
        "drop_before",
        None,
    ]
    with pytest.raises(Refusal, match="no such fault"):
        ws.fails("*", "fire")


# -- the page and its guards -------------------------------------------------------------------------------------------


def test_a_page_elsewhere_cannot_drive_the_workspace(sandbox: Sandbox) -> None:
    with httpx.Client(base_url=sandbox.url, trust_env=False) as http:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Host": "evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            assert http.get("/control/state", headers=headers).status_code == 403
            assert http.get("/", headers=headers).status_code == 403
        linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert http.get("/", headers=linked).status_code == 200
        own = http.get("/control/state", headers={"Origin": sandbox.url})
        assert own.status_code == 200
        assert own.headers["content-security-policy"].startswith("default-src 'self';")
        assert http.post("/api/api.test", headers={"Host": "sandbox:3000"}).json()["ok"]
        assert http.get("/page/../sandbox.py").status_code == 404
        assert http.get("/page/%2e%2e/sandbox.py").status_code == 404
    with pytest.raises(InvalidStatus):
        connect(sandbox.url.replace("http", "ws") + "/control/stream?user=alice", origin=Origin("http://evil.example"))


def test_the_stream_tells_each_person_what_they_may_see(sandbox: Sandbox, ws: Workspace, client: WebClient) -> None:
    address = sandbox.url.replace("http", "ws") + "/control/stream?user="
    with connect(address + "alice") as alice, connect(address + "carol") as carol:
        council, rollouts = channel_id(ws, "council"), channel_id(ws, "ml-rollouts")
        client.chat_postMessage(channel=council, text="private")
        client.chat_postEphemeral(channel=rollouts, user=ws.person("alice").id, text="psst")
        client.chat_postMessage(channel=rollouts, text="public")
        client.views_publish(user_id=ws.person("alice").id, view={"type": "home", "blocks": [{"type": "divider"}]})
        ws.admin("deactivate", user="bob")
        seen = [json.loads(alice.recv(5)) for _ in range(5)]
        assert [each.get("message", {}).get("text", each["type"]) for each in seen] == [
            "private",
            "psst",
            "public",
            "home",
            "state",
        ]
        assert [json.loads(carol.recv(5)).get("message", {}).get("text") for _ in range(2)] == ["public", None]


# -- starting, stopping, surviving ------------------------------------------------------------------------------------


def test_stopping_is_quick_and_frees_the_port(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox()
    with link(sandbox) as app, connect(sandbox.url.replace("http", "ws") + "/control/stream?user=alice") as page:
        app.recv(5)
        started = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - started < 5
        for socket in (app, page):
            with pytest.raises(ConnectionClosed):
                socket.recv(5)
    again = make_sandbox(port=int(sandbox.url.rsplit(":", 1)[1]))
    assert again.url == sandbox.url


def test_everything_is_there_after_a_restart(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    first = make_sandbox(store=tmp_path / "workspace.db")
    with Workspace(first) as ws:
        rollouts = channel_id(ws, "ml-rollouts")
        web_client(first).views_publish(
            user_id=ws.person("alice").id, view={"type": "home", "blocks": [{"type": "divider"}]}
        )
        ts = web_client(first).chat_postMessage(channel=rollouts, text="x")["ts"]
        ws.admin("leave", channel="council")
        before = ws.state()
    first.stop()
    second = make_sandbox(store=tmp_path / "workspace.db")
    assert (second.bot_token, second.app_token, second.signing_secret) == (
        first.bot_token,
        first.app_token,
        first.signing_secret,
    )
    with Workspace(second) as ws:
        assert ws.state() == before
        assert ws.get("home", user="alice")["view"]
        assert web_client(second).chat_update(channel=rollouts, ts=ts, text="y")["ts"] == ts
        assert web_client(second).chat_postMessage(channel=rollouts, text="z")["ts"] > ts


SERVER = """
import sys, time
from pathlib import Path
from bot.sandbox import Sandbox
from tests.bot.sandbox.conftest import CHANNELS, GROUPS, PEOPLE, manifest
sandbox = Sandbox(manifest(), PEOPLE, CHANNELS, GROUPS, store=Path(sys.argv[1]), rate_limited=False).start()
print(sandbox.url, sandbox.bot_token, flush=True)
time.sleep(60)
"""


def test_nothing_that_was_answered_is_lost_by_a_kill(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    store = tmp_path / "workspace.db"
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(store)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    ) as process:
        assert process.stdout
        url, token = process.stdout.readline().split()
        with Workspace(url) as ws:
            rollouts = channel_id(ws, "ml-rollouts")
        client = WebClient(token=token, base_url=f"{url}/api/")
        answered = [client.chat_postMessage(channel=rollouts, text=str(number))["ts"] for number in range(50)]
        process.send_signal(signal.SIGKILL)
    with Workspace(make_sandbox(store=store)) as ws:
        assert [message["ts"] for message in ws.person("alice").sees(rollouts)] == answered
