"""Signed HTTP requests instead of a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest
from slack_sdk.signature import SignatureVerifier
from sqlalchemy import Engine

from bot import http, running
from bot.manifest import manifest
from bot.pulse import Pulse
from bot.sandbox import Sandbox
from core.errors import Refused
from tests.bot.acts import approve, ask
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
def served(desk: Engine, sandbox: Sandbox, mlflow_uri: str, url: str) -> Iterator[httpx.Client]:
    found = configure(
        sandbox, slack_app_token=None, slack_signing_secret=sandbox.signing_secret, mlflow_tracking_uri=mlflow_uri
    )
    port = int(url.split(":")[2].split("/")[0])
    pulse = Pulse()
    pulse.phase = "running"
    with (
        running.running(desk, found, pulse=pulse) as made,
        http.serving(http.slack(made, pulse), "127.0.0.1", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


def test_the_same_bot_by_http(served: httpx.Client, workspace: Workspace, desk: Engine) -> None:
    alice, bob = workspace.person("alice"), workspace.person("bob")
    approve(bob, ask(alice))
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
    assert "Waiting for you" in str(bob.home())
    assert served.get("/healthz").text == "ok"
    assert served.get("/readyz").text == "ready"


@pytest.mark.parametrize(
    ("wrong", "age_s", "status"), [(False, 0, 200), (True, 0, 401), (False, 330, 401), (False, -330, 401)]
)
def test_only_fresh_signatures_of_slack_count(
    served: httpx.Client, sandbox: Sandbox, workspace: Workspace, wrong: bool, age_s: int, status: int
) -> None:
    alice = workspace.person("alice")
    url = f"{sandbox.url}/response/none"
    body = urlencode({"command": "/rollout", "text": "help", "user_id": alice.id, "response_url": url})
    at = str(int(time.time()) - age_s)
    secret = "0" * 32 if wrong else sandbox.signing_secret
    signed = SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": at,
        "x-slack-signature": str(signed),
    }
    answered = served.post("/slack/events", content=body, headers=headers)
    assert answered.status_code == status
    assert ("step by step" in answered.text) == (status == 200)


def test_what_is_not_signed_or_too_large(served: httpx.Client) -> None:
    assert served.post("/slack/events", content="command=%2Frollout&text=help").status_code == 401
    assert served.post("/slack/events", content=b"x" * 1_000_001).status_code == 413
    assert served.get("/slack/events").status_code == 405
    assert served.get("/").status_code == 404
    assert served.get("/metrics").status_code == 404, "that is for whoever runs it, at the other port"


def test_a_taken_port_is_said(served: httpx.Client) -> None:
    with (
        pytest.raises(Refused, match="cannot be listened on"),
        http.serving(None, "127.0.0.1", served.base_url.port or 0),
    ):  # type: ignore[arg-type]
        pass
