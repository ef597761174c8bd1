"""What the app says by response_url or along with an acknowledgement."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bot.sandbox import messages, tickets
from bot.sandbox.call import Call
from bot.sandbox.chat import MOST_TEXT, said
from bot.sandbox.errors import SlackError
from bot.sandbox.site import Site
from bot.sandbox.store import Json
from bot.sandbox.webapi import arguments
from bot.sandbox.workspace import Workspace

GONE = ("used_url", "expired_url", "invalid_url")
RESPONSE_TYPES = ("ephemeral", "in_channel")


async def response_url(site: Site, request: Request) -> Response:
    """Takes what the app posts to a response_url."""
    response_id = request.path_params["response_id"]
    entry = site.log.add(method="response_url", ok=False, at=site.ws.clock(), ms=0)
    try:
        body = await arguments(request)
        with site.ws.store.together():
            record = tickets.look_at_response(site.ws, response_id)
            say(site.ws, record, body)
            tickets.use_response(site.ws, response_id, record)
    except SlackError as refusal:
        entry["error"] = refusal.error
        return JSONResponse(refusal.answer(), 404 if refusal.error in GONE else 400)
    entry["ok"] = True
    return PlainTextResponse("ok")


def say(ws: Workspace, record: Json, body: Json) -> None:
    """Post, replace or delete as the body asks; `record` tells who acted, where, and on which message."""
    call = Call(ws, body)
    channel = ws.channel(record["channel"])
    if not channel or channel["archived"]:
        raise SlackError("is_archived" if channel else "channel_not_found")
    original = _original(ws, record)
    if call.flag("delete_original"):
        if not original:
            raise SlackError("message_not_found")
        messages.delete(ws, original)
        return
    content = said(call, MOST_TEXT)
    if call.flag("replace_original") and original:
        messages.change(ws, original, **{"blocks": None, **content})
        return
    if call.text("response_type", "ephemeral") not in RESPONSE_TYPES:
        raise SlackError("invalid_response_type")
    _new(ws, record, channel, content | {"thread_ts": call.text("thread_ts")}, call.text("response_type"))


def _original(ws: Workspace, record: Json) -> Json | None:
    return messages.find(ws, record["channel"], record["message_ts"], record["user"]) if record["message_ts"] else None


def _new(ws: Workspace, record: Json, channel: Json, content: dict[str, Any], response_type: str) -> None:
    if response_type == "in_channel":
        messages.post_as_app(ws, channel, **content)
    else:
        messages.whisper(ws, channel, record["user"], **content)
