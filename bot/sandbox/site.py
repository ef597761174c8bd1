"""What the parts of a running workspace share."""

from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from bot.sandbox.faults import Faults, Log
from bot.sandbox.limits import Limits
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

SLASH_COMMANDS = "slash_commands"
INTERACTIVE = "interactive"
EVENTS_API = "events_api"


@dataclass(frozen=True)
class Ack:
    """The app's acknowledgement: what it answered with, if anything, and after how long."""

    payload: Json
    ms: float


@dataclass(frozen=True)
class Retry:
    """Which repetition of a delivery this is, and why the last one failed."""

    attempt: int = 0
    reason: str = ""


class Delivery(Protocol):
    """A way of sending things to the app."""

    @property
    def connections(self) -> int:
        """How many ways are open now."""
        ...

    async def deliver(self, kind: str, payload: Json, retry: Retry = ...) -> Ack:
        """Send one thing and wait for its acknowledgement; NotConnected or NotAcknowledged otherwise."""
        ...

    def close(self) -> None:
        """Drop every connection."""
        ...


@dataclass(frozen=True)
class Site:
    """A running workspace."""

    ws: Workspace
    delivery: Delivery
    limits: Limits
    faults: Faults
    log: Log


def cut(connection: HTTPConnection) -> None:
    """Drop the TCP connection at once, without an answer."""
    transport: Any = connection.scope["sandbox.transport"]
    transport.abort()
