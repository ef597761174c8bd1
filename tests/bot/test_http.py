"""Signed HTTP requests instead of a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from slack_sdk.signature import SignatureVerifier
from sqlalchemy import Engine, text

from bot import http, running
from bot.manifest import manifest
from bot.pulse import Pulse
from bot.sandbox import Sandbox
from core.errors import Refused
from tests.bot.acts import answer, approve, ask
from tests.bot.conftest import configure, make_sandbox
from tests.core import steps
from tests.workspace import Workspace


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def url() -> str:
    return f"http://127.0.0.1:{free_port()}/slack/events"


@pytest.fixture
def sandbox(url: str) -> Iterator[Sandbox]:
    with make_sandbox(manifest=manifest(request_url=url), http_request_url=url) as made:
        yield made


@pytest.fixture
def pulse() -> Pulse:
    """Of a process that has started."""
    made = Pulse()
    made.phase = "running"
    return made


@pytest.fixture
def served(desk: Engine, sandbox: Sandbox, mlflow_uri: str, url: str, pulse: Pulse) -> Iterator[httpx.Client]:
    found = configure(
        sandbox, slack_app_token=None, slack_signing_secret=sandbox.signing_secret, mlflow_tracking_uri=mlflow_uri
    )
    port = int(url.split(":")[2].split("/")[0])
    with (
        running.running(desk, found, pulse=pulse) as made,
        http.serving(http.slack(made, pulse), "127.0.0.1", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


def test_the_same_bot_by_http(served: httpx.Client, workspace: Workspace, desk: Engine, pulse: Pulse) -> None:
    alice, bob = workspace.person("alice"), workspace.person("bob")
    approve(bob, ask(alice))
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
    assert "Waiting for you" in str(bob.home())
    assert served.get("/healthz").text == "ok"
    assert served.get("/readyz").text == "ready"
    assert acks(pulse) == {("command", "ok"): 1, ("button", "ok"): 1, ("event", "ok"): 1}


def test_a_fault_is_counted_with_its_reference(
    served: httpx.Client, workspace: Workspace, desk: Engine, pulse: Pulse
) -> None:
    alice = workspace.person("alice")
    with desk.begin() as connection:
        connection.execute(text("ALTER TABLE promotion.alerts RENAME TO away"))
    assert "Reference for the log" in answer(alice, "alerts")
    assert pulse.meters.registry.get_sample_value("promotion_bot_unexpected_errors_total") == 1
    assert acks(pulse) == {("command", "ok"): 1}


def command(secret: str, sandbox: Sandbox, user: str, typed: str, age_s: int = 0) -> dict[str, Any]:
    """A command as Slack sends it, signed with a secret so many seconds ago."""
    url = f"{sandbox.url}/response/none"
    body = urlencode({"command": "/rollout", "text": typed, "user_id": user, "response_url": url})
    at = str(int(time.time()) - age_s)
    signed = SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": at,
        "x-slack-signature": str(signed),
    }
    return {"content": body, "headers": headers}


@pytest.mark.parametrize(
    ("wrong", "age_s", "status"), [(False, 0, 200), (True, 0, 401), (False, 330, 401), (False, -330, 401)]
)
def test_only_fresh_signatures_of_slack_count(
    served: httpx.Client, sandbox: Sandbox, workspace: Workspace, wrong: bool, age_s: int, status: int
) -> None:
    alice = workspace.person("alice")
    secret = "0" * 32 if wrong else sandbox.signing_secret
    answered = served.post("/slack/events", **command(secret, sandbox, alice.id, "help", age_s))
    assert answered.status_code == status
    assert ("step by step" in answered.text) == (status == 200)


def acks(pulse: Pulse) -> dict[tuple[str, str], float]:
    """What was answered, by kind and outcome."""
    found = [sample for family in pulse.meters.registry.collect() for sample in family.samples]
    return {
        (each.labels["kind"], each.labels["outcome"]): each.value
        for each in found
        if each.name == "promotion_bot_acks_total"
    }


def test_what_is_not_signed_or_too_large(served: httpx.Client, pulse: Pulse) -> None:
    assert served.post("/slack/events", content="command=%2Frollout&text=help").status_code == 401
    assert served.post("/slack/events", content=b"x" * 1_000_001).status_code == 413
    assert served.get("/slack/events").status_code == 405
    assert served.get("/").status_code == 404
    assert acks(pulse) == {("command", "refused"): 1, ("other", "refused"): 1}
    assert served.get("/metrics").status_code == 404, "that is for whoever runs it, at the other port"


def test_an_idle_connection_is_kept(served: httpx.Client) -> None:
    connection = HTTPConnection("127.0.0.1", served.base_url.port, timeout=10)
    connection.connect()
    connection.auto_open = 0  # a connection that was closed is not opened again without a word
    for pause_s in (0.0, 6.0):  # what uvicorn keeps an idle one for by itself is 5 s
        time.sleep(pause_s)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
    connection.close()
    assert http.KEPT_S > 60, "for so long load balancers keep theirs"


def test_a_taken_port_is_said(served: httpx.Client) -> None:
    with (
        pytest.raises(Refused, match="cannot be listened on"),
        http.serving(None, "127.0.0.1", served.base_url.port or 0),
    ):  # type: ignore[arg-type]
        pass
