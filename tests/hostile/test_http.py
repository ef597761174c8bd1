"""What anybody can send to the port."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from bot.manifest import manifest
from bot.sandbox import Sandbox
from tests.bot.conftest import make_sandbox
from tests.bot.test_http import pulse, served, url  # noqa: F401 - fixtures
from tests.core import steps
from tests.hostile.strategies import jsons, tried
from tests.hostile.test_slack import WRONG, untouched

TYPES = ("application/x-www-form-urlencoded", "application/json", "text/plain", "multipart/form-data", "")


@pytest.fixture
def sandbox(url: str) -> Iterator[Sandbox]:  # noqa: F811
    with make_sandbox(manifest=manifest(request_url=url), http_request_url=url) as made:
        yield made


bodies = st.one_of(
    st.binary(max_size=2_000),
    jsons.map(lambda found: str(found).encode("utf-8", "replace")),
    st.sampled_from(
        [
            b"payload=",
            b"payload={",
            b"payload=%7B%7D",
            b"payload=[]",
            b"payload=null",
            b"command=%00",
            b"{}",
            b"[]",
            b"null",
            b"\xff",
        ]
    ),
)


def signed(secret: str, at: str, body: bytes) -> str:
    """Slack's signature of any bytes; its own library takes only text."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()


@tried
@given(body=bodies, kind=st.sampled_from(TYPES), is_signed=st.booleans(), path=st.sampled_from(["/slack/events", "/"]))
def test_whatever_is_posted(
    served: httpx.Client,  # noqa: F811
    sandbox: Sandbox,
    desk: Engine,
    body: bytes,
    kind: str,
    is_signed: bool,
    path: str,
) -> None:
    at = str(int(time.time()))
    signature = signed(sandbox.signing_secret, at, body)
    headers = {"content-type": kind, "x-slack-request-timestamp": at, "x-slack-signature": signature}
    answered = served.post(path, content=body, headers=headers if is_signed else {"content-type": kind})
    assert answered.status_code in ({200, 400, 404} if is_signed else {400, 401, 404})
    assert not [word for word in WRONG if word in answered.text]
    assert untouched(desk) == (0, steps.shares_of(control="1"))


def test_a_body_without_end_is_cut_off(served: httpx.Client) -> None:  # noqa: F811
    """Not a byte more than a megabyte is kept of what says no length."""
    port = served.base_url.port
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(b"POST /slack/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        try:
            while sent < 64_000_000:
                wire.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
    assert sent < 64_000_000
    assert served.get("/healthz").text == "ok"
