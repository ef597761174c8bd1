"""The workspace as one object: made, started, stopped."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from bot.sandbox.events import RETRY_AFTER_S, Events
from bot.sandbox.faults import Faults, Log
from bot.sandbox.limits import Limits
from bot.sandbox.links import Links
from bot.sandbox.seed import Channel, Person, read_manifest
from bot.sandbox.serve import application
from bot.sandbox.site import Delivery, Site
from bot.sandbox.store import Store
from bot.sandbox.webhook import Webhook
from bot.sandbox.workspace import Workspace, seed

ACK_WITHIN_S = 3.0
STOP_WITHIN_S = 5.0
STEP_S = 0.005
EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound


class Sandbox:
    """A local Slack workspace for one app, at least as strict as Slack; served from a thread of its own."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        people: Sequence[Person],
        channels: Sequence[Channel],
        groups: Mapping[str, Sequence[str]] | None = None,
        store: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        rate_limited: bool = True,
        http_request_url: str | None = None,
        *,
        new_blocks: bool = True,
        team_name: str = "Acme",
        links: Sequence[tuple[str, str]] = (),
        clock: Callable[[], float] = time.time,
        ack_within: float = ACK_WITHIN_S,
        retry_after: Sequence[float] = RETRY_AFTER_S,
    ) -> None:
        self._store = Store(store)
        self._ws = Workspace(self._store, read_manifest(manifest), clock, team_name)
        self._ws.new_blocks = new_blocks
        self._ws.links = [{"title": title, "url": url} for title, url in links]
        seed(self._ws, people, channels, groups or {})
        log = Log()
        delivery: Delivery = (
            Webhook(self._ws, log, http_request_url, ack_within)
            if http_request_url
            else Links(self._ws, log, ack_within)
        )
        self._site = Site(self._ws, delivery, Limits(clock, rate_limited), Faults(), log)
        self._events = Events(self._site, retry_after)
        self._address = (host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.bot_token: str = self._ws.bot_token
        self.app_token: str = self._ws.app_token
        self.signing_secret: str = self._ws.signing_secret

    @property
    def url(self) -> str:
        """Where it is served, once it was started."""
        return self._ws.url

    @property
    def api_url(self) -> str:
        """What a Web API client takes as its base URL."""
        return f"{self.url}/api/"

    def start(self) -> "Sandbox":
        """Serve from a thread; returns when connections are accepted."""
        listener = _listen(*self._address)
        port = listener.getsockname()[1]
        name = "127.0.0.1" if self._address[0] in EVERY_INTERFACE else self._address[0]
        self._ws.url = f"http://{name}:{port}"
        self._ws.emit = self._events.emit
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            application(self._site),
            loop="asyncio",
            http="h11",
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=0,
            ws_ping_interval=10.0,
            ws_ping_timeout=10.0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="sandbox", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the sandbox could not be started")
            time.sleep(STEP_S)
        return self

    def stop(self) -> None:
        """Drop every connection, free the port and let go of the store."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(STOP_WITHIN_S)
        self._server = self._thread = None
        self._store.close()

    def __enter__(self) -> "Sandbox":
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=512)
    # Inherited by each connection; asyncio sets it only on sockets that name their protocol, and 40 ms hang on it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener
