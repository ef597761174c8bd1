"""Socket Mode: what Slack sends over its connections is handed to Bolt, and acknowledged on the same connection.

Our own, because commands get lost with slack_sdk's clients: the built-in one notices a cut connection only after
several pings, and leaves the new connection unread for up to 3 s at every refresh; the one on websocket-client closes
the old connection before it opens the new one. This one reconnects at once and lets the two overlap.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from slack_bolt import App
from slack_bolt.adapter.socket_mode.internals import run_bolt_app
from slack_bolt.response import BoltResponse
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.request import SocketModeRequest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from bot.meters import kind_of
from bot.pools import Pool
from bot.pulse import Pulse

log = logging.getLogger(__name__)

WORKERS = 10
PING_S = 5
CLOSE_S = 0.5
FINISH_S = 3.0
"""What is not acknowledged by then is too late for Slack."""
PAUSES_S = (0.05, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before the next connection, by how many in a row ended without Slack's hello."""


class SocketMode:
    """Keeps a connection to Slack open until stopped."""

    def __init__(self, made: App, app_token: str, pulse: Pulse | None = None) -> None:
        self._app = made
        self._pulse = pulse or Pulse()
        self._app_token = app_token
        self._workers = Pool(WORKERS, "socket-mode")
        self._newest: ClientConnection | None = None
        self._in_vain = 0
        self._readers: dict[ClientConnection, threading.Thread] = {}
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="socket-mode-keeper", daemon=True)

    def start(self) -> None:
        """Connects, and from now on replaces a connection that ends or that Slack asks to be replaced.

        Raises:
            SlackApiError: where Slack does not accept the token.
        """
        self._connect()
        self._keeper.start()
        self._pulse.needs(self._keeper)
        self._pulse.is_connected = lambda: self._newest in self._readers

    def stop(self) -> None:
        """Takes nothing more, acknowledges what is held, and closes."""
        self._stopping.set()
        self._wanted.set()
        self._workers.finish(time.monotonic() + FINISH_S)
        if self._keeper.is_alive():
            self._keeper.join(CLOSE_S)  # it may be waiting for an answer of Slack's; then it closes what it opens
        for connection, reader in list(self._readers.items()):
            connection.close()
            reader.join(CLOSE_S)

    # --- Connections ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        url = self._app.client.apps_connections_open(app_token=self._app_token)["url"]
        made = connect(url, ping_interval=PING_S, ping_timeout=PING_S, close_timeout=CLOSE_S, compression=None)
        if self._stopping.is_set():
            made.close()
            return
        self._newest = made
        self._readers[made] = threading.Thread(target=self._read, args=(made,), name="socket-mode-reader", daemon=True)
        self._readers[made].start()

    def _keep(self) -> None:
        while self._wanted.wait() and not self._stopping.is_set():
            if self._stopping.wait(PAUSES_S[min(self._in_vain, len(PAUSES_S) - 1)]):
                return
            self._in_vain += 1
            self._wanted.clear()
            try:
                self._connect()
            except Exception as error:  # whatever it is, the only remedy is to try again
                log.warning("no connection to Slack (%s); trying again", type(error).__name__)
                self._stopping.wait(_asked_to_wait_s(error))
                self._wanted.set()

    def _replace(self, connection: ClientConnection) -> None:
        if connection is self._newest:
            self._wanted.set()

    # --- Messages ---------------------------------------------------------------------------------------------------

    def _read(self, connection: ClientConnection) -> None:
        """Reads until Slack ends the connection; one that is to be replaced is read on until then."""
        try:
            with connection:
                for text in connection:
                    self._take(connection, json.loads(text))
        except ConnectionClosed:
            log.info("the connection to Slack was cut")
        finally:
            del self._readers[connection]
            self._replace(connection)

    def _take(self, connection: ClientConnection, message: Mapping[str, Any]) -> None:
        if message.get("type") == "hello":
            self._in_vain = 0
        elif message.get("type") == "disconnect":
            self._replace(connection)
        elif "envelope_id" in message:
            with suppress(RuntimeError):  # stopping: Slack tells the person that nobody took it
                self._workers.submit(self._handle, connection, message, time.monotonic())

    def _handle(self, connection: ClientConnection, message: Mapping[str, Any], arrived: float) -> None:
        try:
            request = SocketModeRequest.from_dict(dict(message))
            if request is None:
                return
            answered = run_bolt_app(self._app, request)
            if answered.status == 200:
                self._send(connection, {"envelope_id": request.envelope_id, **_payload(answered)})
            self._pulse.meters.acknowledged(kind_of(request.payload), answered.status, arrived)
        except Exception:
            log.exception("a message from Slack could not be handled")

    def _send(self, connection: ClientConnection, reply: Mapping[str, Any]) -> None:
        """Acknowledges where the message came from, or on the newest connection where that one is gone."""
        try:
            connection.send(json.dumps(reply))
        except ConnectionClosed:
            if self._newest is None or self._newest is connection:
                raise
            self._newest.send(json.dumps(reply))


def _payload(answered: BoltResponse) -> dict[str, Any]:
    if not answered.body:
        return {}
    is_json = answered.first_headers().get("content-type", "").startswith("application/json")
    return {"payload": json.loads(answered.body) if is_json else {"text": answered.body}}


def _asked_to_wait_s(error: Exception) -> float:
    if isinstance(error, SlackApiError) and error.response["error"] == "ratelimited":
        return float(error.response.headers.get("Retry-After", 30))
    return 0.0
