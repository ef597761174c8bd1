"""Socket Mode: connections of the app, one of which gets each payload."""

import asyncio
import json
import random
import time
import uuid
from dataclasses import dataclass, field

from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.sandbox.errors import NotAcknowledged, NotConnected
from bot.sandbox.faults import Log
from bot.sandbox.site import EVENTS_API, SLASH_COMMANDS, Ack, Retry, cut
from bot.sandbox.store import Json
from bot.sandbox.tickets import use_link_ticket
from bot.sandbox.workspace import Workspace

MOST_CONNECTIONS = 10
GRACE_S = 10.0  # how long a connection stays open after it was told to refresh
ANSWERABLE = ("view_submission", "block_suggestion")


@dataclass(eq=False)
class Link:
    """One connection; `leaving` once it was told to refresh, so that nothing new is sent by it."""

    socket: WebSocket
    leaving: bool = False
    number: int = field(default=0)


class Links:
    """All open connections of the app, and what waits for its acknowledgement."""

    def __init__(self, ws: Workspace, log: Log, ack_within: float) -> None:
        self._ws = ws
        self._log = log
        self._ack_within = ack_within
        self._links: list[Link] = []
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._twice = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    async def serve(self, socket: WebSocket) -> None:
        """Hold one connection from its greeting until it ends."""
        admitted = self._ws.standing == "live" and use_link_ticket(self._ws, socket.query_params.get("ticket", ""))
        if not admitted or socket.query_params.get("app_id") != self._ws.app_id:
            await socket.close(1008)
            return
        await socket.accept()
        if len(self._links) >= MOST_CONNECTIONS:
            await _send(socket, self._farewell("too_many_websockets"))
            await socket.close(1000)
            return
        link = Link(socket)
        self._links.append(link)
        self._changed()
        try:
            await _send(socket, self._greeting())
            await self._listen(socket)
        except WebSocketDisconnect:
            pass
        finally:
            self._links.remove(link)
            self._changed()

    async def _listen(self, socket: WebSocket) -> None:
        while True:
            text = await socket.receive_text()
            try:
                reply = json.loads(text)
            except ValueError:
                continue
            waiting = self._waiting.get(reply.get("envelope_id", "")) if isinstance(reply, dict) else None
            if waiting and not waiting.done():
                waiting.set_result(reply.get("payload") or {})

    async def deliver(self, kind: str, payload: Json, retry: Retry = Retry()) -> Ack:  # noqa: B008 - frozen
        """Send an envelope to one connection, chosen by chance, and wait for its acknowledgement."""
        open_links = [link for link in self._links if not link.leaving] or self._links
        if not open_links:
            self._log.add(kind=kind, envelope_id=None, acked_ms=None, retry=retry.attempt, at=self._ws.clock())
            raise NotConnected
        envelope: Json = {
            "envelope_id": str(uuid.uuid4()),
            "type": kind,
            "accepts_response_payload": kind == SLASH_COMMANDS or payload.get("type") in ANSWERABLE,
            "payload": payload,
        }
        if kind == EVENTS_API:
            envelope |= {"retry_attempt": retry.attempt, "retry_reason": retry.reason}
        if self._twice:
            self._twice = False
            again = envelope | {"envelope_id": str(uuid.uuid4())}
            await _send(random.choice(open_links).socket, again)
        return await self._exchange(random.choice(open_links), envelope, retry)

    async def _exchange(self, link: Link, envelope: Json, retry: Retry) -> Ack:
        envelope_id, started = envelope["envelope_id"], time.monotonic()
        entry = self._log.add(
            kind=envelope["type"], envelope_id=envelope_id, acked_ms=None, retry=retry.attempt, at=self._ws.clock()
        )
        waiting = self._waiting[envelope_id] = asyncio.get_running_loop().create_future()
        try:
            await _send(link.socket, envelope)
            payload = await asyncio.wait_for(waiting, self._ack_within)
        except TimeoutError:
            raise NotAcknowledged("timeout") from None
        finally:
            del self._waiting[envelope_id]
        entry["acked_ms"] = round((time.monotonic() - started) * 1_000, 1)
        return Ack(payload if isinstance(payload, dict) else {}, entry["acked_ms"])

    # -- what a test may do to the connections -----------------------------------------------------------------------

    def drop(self) -> None:
        """Cut every TCP connection."""
        for link in list(self._links):
            cut(link.socket)

    async def refresh(self, reason: str = "refresh_requested") -> None:
        """Ask the app to connect anew, as Slack does every few hours; `warning` only announces it."""
        for link in list(self._links):
            await _send(link.socket, self._farewell(reason))
            if reason == "refresh_requested":
                link.leaving = True
                asyncio.get_running_loop().call_later(GRACE_S, self._end, link)

    def duplicate_next(self) -> None:
        """The next payload is delivered twice, which Slack allows itself."""
        self._twice = True

    def close(self) -> None:
        """Cut every connection."""
        self.drop()

    def _end(self, link: Link) -> None:
        if link in self._links:
            cut(link.socket)

    def _changed(self) -> None:
        self._ws.streams.publish({"type": "app", "connected": bool(self._links)})

    def _greeting(self) -> Json:
        return {
            "type": "hello",
            "num_connections": len(self._links),
            "connection_info": {"app_id": self._ws.app_id},
            "debug_info": {"host": "sandbox", "build_number": 1, "approximate_connection_time": 18_060},
        }

    def _farewell(self, reason: str) -> Json:
        return {"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}}


async def _send(socket: WebSocket, message: Json) -> None:
    try:
        await socket.send_text(json.dumps(message))
    except (WebSocketDisconnect, RuntimeError):  # it went away a moment ago: as good as lost on the way
        return
