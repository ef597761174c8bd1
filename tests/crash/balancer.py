"""A load balancer in small: each request goes to the next of several servers, as it came."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP = ("host", "connection", "content-length", "transfer-encoding")


class Balancer(ThreadingHTTPServer):
    """Remembers which server each request went to, and which of Slack's attempts it was."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], servers: Sequence[str]) -> None:
        super().__init__(address, Passing)
        self._servers = servers
        self._lock = threading.Lock()
        self.went: list[tuple[str, str]] = []
        self.doubles = False
        """Whether each request goes to all servers."""
        self.loses = 0
        """How many answers are lost on their way back."""

    def targets(self, attempt: str) -> list[str]:
        """Where the next request goes: the first there, or where that is gone, to those after it."""
        with self._lock:
            first = len(self.went) % len(self._servers)
            self.went.append((self._servers[first], attempt))
        return [*self._servers[first:], *self._servers[:first]]

    def loses_this(self) -> bool:
        """Whether the answer at hand is lost."""
        with self._lock:
            self.loses -= 1
            return self.loses >= 0


class Passing(BaseHTTPRequestHandler):
    """One request, passed on with its body and its signature untouched."""

    server: Balancer

    def do_POST(self) -> None:
        """Passes it on, and the first answer back."""
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        answers = self._answers(self.server.targets(headers.get("x-slack-retry-num", "")), body, headers)
        answered = next(answers)
        if self.server.doubles:
            next(answers)
        lost = self.server.loses_this()
        self.send_response(502 if lost else answered.status_code)
        self.send_header("content-type", answered.headers.get("content-type", "text/plain"))
        self.send_header("content-length", str(len(answered.content)))
        self.end_headers()
        self.wfile.write(answered.content)

    def _answers(self, servers: list[str], body: bytes, headers: dict[str, str]) -> Iterator[httpx.Response]:
        for server in servers:
            with suppress(httpx.ConnectError), httpx.Client(trust_env=False, timeout=30) as client:
                yield client.post(f"{server}{self.path}", content=body, headers=headers)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextmanager
def balancing(port: int, servers: Sequence[str]) -> Iterator[Balancer]:
    """A load balancer for as long as the block lasts."""
    made = Balancer(("127.0.0.1", port), servers)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
