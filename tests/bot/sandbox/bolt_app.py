"""A small app of Bolt's that does a bit of everything, and the two ways of connecting it to a sandbox."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.request import BoltRequest
from slack_sdk import WebClient

from bot.sandbox import Sandbox

Json = dict[str, Any]


def plain(text: str) -> Json:
    """A plain_text object."""
    return {"type": "plain_text", "text": text}


BUTTONS: Json = {
    "type": "actions",
    "block_id": "buttons",
    "elements": [
        {"type": "button", "action_id": "ask", "text": plain("Ask"), "value": "model-7"},
        {
            "type": "button",
            "action_id": "promote",
            "text": plain("Promote"),
            "style": "danger",
            "confirm": {
                "title": plain("Sure?"),
                "text": plain("All of it"),
                "confirm": plain("Yes"),
                "deny": plain("No"),
            },
        },
        {
            "type": "static_select",
            "action_id": "stage",
            "placeholder": plain("Stage"),
            "options": [{"text": plain("Canary"), "value": "canary"}, {"text": plain("Full"), "value": "full"}],
        },
    ],
}
MODAL: Json = {
    "type": "modal",
    "callback_id": "form",
    "private_metadata": "model-7",
    "title": plain("Why?"),
    "submit": plain("Send"),
    "close": plain("Cancel"),
    "notify_on_close": True,
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": plain("Reason"),
            "element": {"type": "plain_text_input", "action_id": "text", "min_length": 3},
        },
        {
            "type": "input",
            "block_id": "next",
            "label": plain("Then"),
            "optional": True,
            "element": {
                "type": "static_select",
                "action_id": "what",
                "options": [
                    {"text": plain(word), "value": word} for word in ("errors", "update", "push", "clear", "bad")
                ],
            },
        },
    ],
}


class Recorder:
    """What the app was sent, newest last."""

    def __init__(self) -> None:
        self.bodies: list[Json] = []
        self.acts = threading.Event()

    def of(self, kind: str) -> list[Json]:
        """Payloads of this type, or of commands by their name, or events by theirs."""
        return [
            body
            for body in self.bodies
            if kind in (body.get("type"), body.get("command"), body.get("event", {}).get("type"))
        ]


def make_app(sandbox: Sandbox) -> tuple[App, Recorder]:
    """The app and what it was sent."""
    client = WebClient(token=sandbox.bot_token, base_url=sandbox.api_url)
    app = App(client=client, signing_secret=sandbox.signing_secret, request_verification_enabled=True)
    seen = Recorder()

    @app.middleware
    def record(body: Json, next: Any) -> None:
        seen.bodies.append(body)
        next()

    @app.command("/rollout")
    def rollout(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
        ANSWERS[command["text"].split()[0]](ack, command, client, respond)

    app.command("/escaped")(lambda ack: ack())
    app.action("promote")(lambda ack: ack())
    app.action("stage")(lambda ack: ack())

    @app.action("ask")
    def ask(ack: Any, body: Json, client: WebClient) -> None:
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=MODAL)

    @app.view("form")
    def form(ack: Any, view: Json) -> None:
        chosen = view["state"]["values"]["next"]["what"]["selected_option"]
        word = chosen["value"] if chosen else ""
        changed = {**MODAL, "title": plain("Changed")}
        responses: dict[str, Json] = {
            "errors": {"response_action": "errors", "errors": {"reason": "Not good enough"}},
            "update": {"response_action": "update", "view": changed},
            "push": {"response_action": "push", "view": changed},
            "clear": {"response_action": "clear"},
            "bad": {"response_action": "errors", "errors": {"elsewhere": "?"}},
        }
        ack(**responses.get(word, {}))

    app.view_closed("form")(lambda ack: ack())
    app.event("app_mention")(lambda ack: ack())
    app.event("message")(lambda ack: ack())

    @app.event("app_home_opened")
    def home(event: Json, client: WebClient) -> None:
        blocks = [{"type": "header", "text": plain("Waiting for you")}, BUTTONS]
        client.views_publish(user_id=event["user"], view={"type": "home", "blocks": blocks})

    return app, seen


def _post(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    ack()
    client.chat_postMessage(channel=command["channel_id"], text="Model 7", blocks=[BUTTONS])


def _whisper(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    ack(text="only you", blocks=[BUTTONS])


def _aloud(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    ack(text="for all", response_type="in_channel")


def _late(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    time.sleep(0.6)
    ack("too late")


def _respond(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    ack()
    respond("by response_url")


def _broken(ack: Any, command: Json, client: WebClient, respond: Any) -> None:
    ack(text="x", blocks=[{"type": "poll"}])


ANSWERS = {"post": _post, "whisper": _whisper, "aloud": _aloud, "late": _late, "respond": _respond, "broken": _broken}


@contextmanager
def connected(sandbox: Sandbox, app: App) -> Iterator[SocketModeHandler]:
    """The app on Socket Mode; ends at once, which the client alone would take three seconds for."""
    handler = SocketModeHandler(app, sandbox.app_token)
    handler.connect()  # type: ignore[no-untyped-call]
    try:
        yield handler
    finally:
        handler.client.auto_reconnect_enabled = handler.client.default_auto_reconnect_enabled = False
        sandbox.stop()
        handler.client.message_processor.event.set()
        handler.client.enqueue_message("{}")  # wakes the thread that waits a second for messages
        handler.close()  # type: ignore[no-untyped-call]


class _Request(BaseHTTPRequestHandler):
    """Hands each POST to Bolt and keeps its headers."""

    app: App
    headers_seen: list[dict[str, str]]
    refuse = 0

    def do_POST(self) -> None:
        """One delivery."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.headers_seen.append({key.lower(): value for key, value in self.headers.items()})
        if type(self).refuse:
            type(self).refuse -= 1
            self._send(500, "")
            return
        response = self.app.dispatch(BoltRequest(body=body, headers=dict(self.headers.items())))
        self._send(response.status, response.body)

    def _send(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class RequestUrl:
    """A request URL whose app is set once the sandbox is made."""

    def __init__(self) -> None:
        self.handler: type[_Request] = type("Handler", (_Request,), {"headers_seen": [], "refuse": 0})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/slack/events"

    def stop(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
