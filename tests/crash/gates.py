"""Gates between a bot and what it talks to: every change passes one, and at one of them the bot is killed.

A passage is a commit that changed tables, or a call that changed Slack or the registry; where it is asked for, what
only reads and the beats of a clock are passages as well. The bot knows nothing of the gates: they are servers in front
of the real ones.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx
from sqlalchemy.engine import make_url

Side = Literal["before", "after"]
CHANGES = re.compile(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?\"?(?:promotion|exp)\"?\.\"?(\w+)", re.I)
READS = re.compile(r"\b(?:FROM|JOIN)\s+(?:ONLY\s+)?\"?(?:promotion|exp)\"?\.\"?(\w+)", re.I)
LOOKS = re.compile(
    r"^look |api\.test|auth\.test|\.(list|info|history|replies|getPermalink|open)$|apps\.connections|/(get|search)"
)
"""What changes nothing anybody sees; a form that opens is lost with the click, which is made again."""
TICK = "tick"
TICK_S = 0.1


@dataclass(frozen=True, order=True)
class Passage:
    """The nth time that the same came through: `commit ledger+requests`, `slack chat.postMessage`, `look effects`."""

    what: str
    nth: int


class Killed(Exception):
    """The bot was killed at this gate; nothing more goes through it in either direction."""


@dataclass
class Gates:
    """Counts what passes, and kills the bot before or after one passage."""

    at: Passage | None = None
    side: Side = "before"
    looks: bool = False
    """Whether what only reads counts, the first time that it comes: deliverers look again all the time."""
    ticks: bool = False
    """Whether time counts: a passage each TICK_S."""
    stops_at: str | None = None
    """The bot is told to stop when something with this in its name comes; only from then on anything counts."""
    process: int = 0
    seen: list[Passage] = field(default_factory=list)
    was_killed: threading.Event = field(default_factory=threading.Event)
    is_stopping: threading.Event = field(default_factory=threading.Event)
    _has_ended: threading.Event = field(default_factory=threading.Event)
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def comes(self, what: str) -> Passage | None:
        """Something is about to pass; None where it does not count.

        Raises:
            Killed: where it is not to arrive.
        """
        with self._lock:
            self._tell_to_stop(what)
            counts = self._counts(what)
            self._times[what] += counts
            passage = Passage(what, self._times[what]) if counts else None
            self.seen.extend([passage] if passage else [])
        self._kill(passage, "before")
        return passage

    def went(self, passage: Passage | None) -> None:
        """It arrived, and the bot is about to hear of it.

        Raises:
            Killed: where it never does.
        """
        self._kill(passage, "after")

    @contextmanager
    def watching(self, process: int) -> Iterator[None]:
        """This is the bot, until the end of the block."""
        self.process = process
        if self.ticks:
            threading.Thread(target=self._tick, daemon=True).start()
        try:
            yield
        finally:
            self._has_ended.set()

    def _tick(self) -> None:
        while not self._has_ended.wait(TICK_S):
            with suppress(Killed):
                self.went(self.comes(TICK))

    def _counts(self, what: str) -> bool:
        if self.stops_at is not None and not self.is_stopping.is_set():
            return False
        return not LOOKS.search(what) or (self.looks and what not in self._times)

    def _tell_to_stop(self, what: str) -> None:
        if self.stops_at is not None and self.stops_at in what and not self.is_stopping.is_set():
            self.is_stopping.set()
            os.kill(self.process, signal.SIGTERM)

    def _kill(self, passage: Passage | None, side: Side) -> None:
        if passage is not None and passage == self.at and side == self.side and not self.was_killed.is_set():
            with suppress(ProcessLookupError):  # it has stopped meanwhile, as it was told to
                os.kill(self.process, signal.SIGKILL)
                self.was_killed.set()
        if self.was_killed.is_set():
            raise Killed


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


class _Conversation:
    """What one connection has sent since its last commit, read from PostgreSQL's protocol, version 3."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_first = True
        self._prepared: dict[bytes, str] = {}
        self._changed: set[str] = set()
        self._looked: set[str] = set()

    def messages(self, received: bytes) -> Iterator[tuple[bytes, str | None]]:
        """Whole messages as they are sent on, and for the end of a transaction its name."""
        self._rest += received
        while (length := self._length()) is not None and len(self._rest) >= length:
            message, self._rest = self._rest[:length], self._rest[length:]
            yield message, self._read(message)
            self._is_first = False

    def _length(self) -> int | None:
        skipped = 0 if self._is_first else 1  # the first message has no letter before its length
        if len(self._rest) < skipped + 4:
            return None
        (length,) = struct.unpack_from("!I", self._rest, skipped)
        return skipped + int(length)

    def _read(self, message: bytes) -> str | None:
        if self._is_first:
            return None
        kind, body = message[:1], message[5:]
        if kind == b"P":  # Parse: the name of the statement, then the statement
            name, query, _ = body.split(b"\0", 2)
            self._prepared[name] = query.decode()
        if kind == b"B":  # Bind: the name of a portal, then that of the statement
            self._note(self._prepared.get(body.split(b"\0", 2)[1], ""))
        if kind == b"Q":
            return self._ends(body.rstrip(b"\0").decode())
        return None

    def _note(self, query: str) -> None:
        self._changed |= set(CHANGES.findall(query))
        self._looked |= set(READS.findall(query))

    def _ends(self, query: str) -> str | None:
        self._note(query)
        if query.upper() not in ("COMMIT", "ROLLBACK"):
            return None
        changed, looked = sorted(self._changed), sorted(self._looked)
        self._changed, self._looked = set(), set()
        if changed and query.upper() == "COMMIT":
            return f"commit {'+'.join(changed)}"
        return f"look {'+'.join(looked)}" if looked else None


def server(url: str) -> socket.socket:
    address = make_url(url)
    host = address.host or str(address.query.get("host", "127.0.0.1"))
    port = address.port or int(str(address.query.get("port", 5432)))
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        made.close()
        raise
    return made


def _pass_on(gates: Gates, bot: socket.socket, server: socket.socket) -> None:
    said, commit = _Conversation(), None
    while True:
        for one in select.select([bot, server], [], [])[0]:
            received = one.recv(1 << 16)
            if not received:
                return
            if one is server:
                if commit is not None:
                    gates.went(commit)
                    commit = None
                bot.sendall(received)
                continue
            for message, what in said.messages(received):
                if what is not None:
                    commit = gates.comes(what)
                server.sendall(message)


def _converse(gates: Gates, bot: socket.socket, url: str) -> None:
    with bot, server(url) as there:
        try:
            _pass_on(gates, bot, there)
        except (Killed, OSError):
            return


@contextmanager
def database(gates: Gates, url: str) -> Iterator[str]:
    """A gate before a database; yields the URL to use instead of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                bot, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_converse, args=(gates, bot, url), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    through = make_url(url).set(host="127.0.0.1", port=listener.getsockname()[1])
    plain = {"sslmode": "disable", "gssencmode": "disable"}
    try:
        yield through.set(query=plain).render_as_string(hide_password=False)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


# --- Slack's Web API and MLflow -------------------------------------------------------------------------------------


def _name_of(path: str) -> str:
    return path.partition("?")[0].removeprefix("/api/").removeprefix("2.0/mlflow/")


def _handler(gates: Gates, name: str, client: httpx.Client) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
            try:
                passage = gates.comes(f"{name} {_name_of(self.path)}")
                found = client.request(self.command, self.path, content=body, headers=headers)
                gates.went(passage)
            except (Killed, httpx.HTTPError):
                self.close_connection = True
                return
            self.send_response(found.status_code)
            for key, value in found.headers.items():
                if key.lower() not in ("transfer-encoding", "connection", "content-encoding", "content-length"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_GET = do_POST = do_PATCH = do_DELETE = _forward  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what passes is in the gates."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A bot that was killed closes its connections in the middle."""


@contextmanager
def http(gates: Gates, name: str, to: str) -> Iterator[str]:
    """A gate before a server; yields the URL to use instead of its own."""
    client = httpx.Client(base_url=to, timeout=30, trust_env=False)
    server = _Server(("127.0.0.1", 0), _handler(gates, name, client))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        client.close()
