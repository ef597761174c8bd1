"""Delivery by signed HTTP requests, for apps that do not use Socket Mode."""

import asyncio
import hashlib
import hmac
import http.client
import json
import time
import uuid
from urllib.parse import urlencode, urlsplit

from bot.sandbox.errors import NotAcknowledged
from bot.sandbox.faults import Log
from bot.sandbox.site import EVENTS_API, INTERACTIVE, Ack, Retry
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

FORM = "application/x-www-form-urlencoded"


def signature(secret: str, timestamp: str, body: str) -> str:
    """Slack's v0 signature of a request."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256).hexdigest()


class Webhook:
    """Posts everything to the one request URL of the app."""

    connections = 1  # a URL is always taken for reachable; whether it is shows at each delivery

    def __init__(self, ws: Workspace, log: Log, url: str, ack_within: float) -> None:
        self._ws = ws
        self._log = log
        self._url = urlsplit(url)
        self._ack_within = ack_within

    async def deliver(self, kind: str, payload: Json, retry: Retry = Retry()) -> Ack:  # noqa: B008 - frozen
        """Post one thing; acknowledged by a 200 within the time."""
        started = time.monotonic()
        entry = self._log.add(
            kind=kind, envelope_id=str(uuid.uuid4()), acked_ms=None, retry=retry.attempt, at=self._ws.clock()
        )
        content_type, body = _encoded(kind, payload)
        headers = self._headers(content_type, body, retry)
        try:
            posting = asyncio.to_thread(self._post, body, headers)
            status, answer, no_retry = await asyncio.wait_for(posting, self._ack_within)
        except TimeoutError:
            raise NotAcknowledged("http_timeout") from None
        except (OSError, http.client.HTTPException):
            raise NotAcknowledged("connection_failed") from None
        if status != 200:
            raise NotAcknowledged("http_error", no_retry)
        entry["acked_ms"] = round((time.monotonic() - started) * 1_000, 1)
        return Ack(_read(answer), entry["acked_ms"])

    def close(self) -> None:
        """Nothing is held open."""

    def _headers(self, content_type: str, body: str, retry: Retry) -> dict[str, str]:
        timestamp = str(int(self._ws.clock()))
        headers = {
            "Content-Type": content_type,
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature(self._ws.signing_secret, timestamp, body),
        }
        if retry.attempt:
            headers |= {"x-slack-retry-num": str(retry.attempt), "x-slack-retry-reason": retry.reason}
        return headers

    def _post(self, body: str, headers: dict[str, str]) -> tuple[int, bytes, bool]:
        secure = self._url.scheme == "https"
        make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = make(self._url.hostname or "", self._url.port, timeout=self._ack_within)
        try:
            connection.request("POST", self._url.path or "/", body.encode(), headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers.get("X-Slack-No-Retry") == "1"
        finally:
            connection.close()


def _encoded(kind: str, payload: Json) -> tuple[str, str]:
    if kind == EVENTS_API:
        return "application/json", json.dumps(payload)
    fields = {"payload": json.dumps(payload)} if kind == INTERACTIVE else payload
    return FORM, urlencode(fields)


def _read(answer: bytes) -> Json:
    if not answer.strip():
        return {}
    try:
        read = json.loads(answer)
    except ValueError:
        return {"text": answer.decode(errors="replace")}
    return read if isinstance(read, dict) else {}
