"""The same app behind a request URL: signed requests, and repeats of events."""

from collections.abc import Iterator

import pytest
from slack_sdk.signature import SignatureVerifier

from tests.bot.sandbox.bolt_app import Recorder, RequestUrl, make_app
from tests.bot.sandbox.conftest import MakeSandbox
from tests.workspace import Workspace, waits_until

ROLLOUTS = "ml-rollouts"


@pytest.fixture
def request_url() -> Iterator[RequestUrl]:
    """A running request URL."""
    url = RequestUrl()
    yield url
    url.stop()


@pytest.fixture
def by_http(make_sandbox: MakeSandbox, request_url: RequestUrl) -> Iterator[tuple[Workspace, Recorder]]:
    """A workspace that delivers by HTTP, and what the app was sent."""
    sandbox = make_sandbox(http_request_url=request_url.url, retry_after=(0.0, 0.05, 0.1))
    request_url.handler.app, recorder = make_app(sandbox)
    with Workspace(sandbox) as ws:
        yield ws, recorder


def test_commands_clicks_and_modals_work_by_signed_requests(
    by_http: tuple[Workspace, Recorder], request_url: RequestUrl
) -> None:
    ws, seen = by_http
    alice = ws.person("alice")
    assert alice.types("/rollout post", channel=ROLLOUTS).acked
    alice.clicks(alice.waits_for("Ask", channel=ROLLOUTS), "Ask")
    outcome = alice.submits(alice.modal(), {"Reason": "because", "Then": "errors"})
    assert outcome.errors == {"reason": "Not good enough"}
    assert {body.get("type", body.get("command")) for body in seen.bodies} == {
        "/rollout",
        "block_actions",
        "view_submission",
    }
    assert all(headers["x-slack-signature"].startswith("v0=") for headers in request_url.handler.headers_seen)


def test_the_answer_to_a_command_is_the_body_of_the_response(by_http: tuple[Workspace, Recorder]) -> None:
    ws, _ = by_http
    alice = ws.person("alice")
    alice.types("/rollout whisper", channel=ROLLOUTS)
    assert alice.waits_for("only you", channel=ROLLOUTS)["ephemeral"]


def test_an_event_is_repeated_with_number_and_reason(
    by_http: tuple[Workspace, Recorder], request_url: RequestUrl
) -> None:
    ws, seen = by_http
    request_url.handler.refuse = 2
    ws.person("alice").types("hello @rollout-bot", channel=ROLLOUTS)
    waits_until(lambda: seen.of("app_mention"), 20, "the event")
    sent = [headers for headers in request_url.handler.headers_seen if "json" in headers["content-type"]]
    assert [headers.get("x-slack-retry-num") for headers in sent] == [None, "1", "2"]
    assert sent[1]["x-slack-retry-reason"] == "http_error"


def test_a_command_is_never_repeated(by_http: tuple[Workspace, Recorder], request_url: RequestUrl) -> None:
    ws, seen = by_http
    request_url.handler.refuse = 1
    alice = ws.person("alice")
    assert not alice.types("/rollout post", channel=ROLLOUTS).acked
    assert alice.waits_for('failed with the error "dispatch_failed"', channel=ROLLOUTS)
    assert not seen.of("/rollout")


def test_the_official_verifier_accepts_the_signature(make_sandbox: MakeSandbox) -> None:
    from bot.sandbox.webhook import signature

    sandbox = make_sandbox()
    verifier = SignatureVerifier(sandbox.signing_secret)
    timestamp = str(int(verifier.clock.now()))
    assert verifier.is_valid("a=b", timestamp, signature(sandbox.signing_secret, timestamp, "a=b"))
    assert not verifier.is_valid("a=c", timestamp, signature(sandbox.signing_secret, timestamp, "a=b"))
