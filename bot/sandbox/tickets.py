"""Short-lived permissions: trigger ids, response URLs and Socket Mode tickets."""

import secrets
from typing import Any

from bot.sandbox.errors import SlackError
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

TRIGGER_LIFE_S = 3
RESPONSE_LIFE_S = 30 * 60
RESPONSE_USES = 5
LINK_LIFE_S = 30


def new_trigger(ws: Workspace, user: str, view_id: str | None = None) -> str:
    """A trigger_id for what this person just did, in this modal or outside any."""
    trigger_id = f"{secrets.randbelow(10**13)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
    ws.store.put("trigger", trigger_id, {"user": user, "view_id": view_id, "at": ws.clock(), "used": False})
    return trigger_id


def look_at_trigger(ws: Workspace, trigger_id: str) -> Json:
    """Who did what, if the trigger_id can still be exchanged."""
    trigger = ws.store.get("trigger", trigger_id)
    if not trigger:
        raise SlackError("invalid_trigger_id")
    if trigger["used"]:
        raise SlackError("exchanged_trigger_id")
    if ws.clock() - trigger["at"] > TRIGGER_LIFE_S:
        raise SlackError("expired_trigger_id")
    return trigger


def use_trigger(ws: Workspace, trigger_id: str, trigger: Json) -> None:
    """No second exchange."""
    ws.store.put("trigger", trigger_id, trigger | {"used": True})


def new_response_url(ws: Workspace, user: str, channel: str, message_ts: str | None, **fields: Any) -> str:
    """A URL by which the app may answer what this person did, five times within half an hour."""
    response_id = secrets.token_urlsafe(24)
    record = {"user": user, "channel": channel, "message_ts": message_ts, "at": ws.clock(), "uses": 0, **fields}
    ws.store.put("response", response_id, record)
    return f"{ws.url}/response/{response_id}"


def look_at_response(ws: Workspace, response_id: str) -> Json:
    """What the URL answers, if it still may."""
    record = ws.store.get("response", response_id)
    if not record:
        raise SlackError("invalid_url")
    if record["uses"] >= RESPONSE_USES:
        raise SlackError("used_url")
    if ws.clock() - record["at"] > RESPONSE_LIFE_S:
        raise SlackError("expired_url")
    return record


def use_response(ws: Workspace, response_id: str, record: Json) -> None:
    """One use fewer."""
    ws.store.put("response", response_id, record | {"uses": record["uses"] + 1})


def new_link_ticket(ws: Workspace) -> str:
    """Admits one Socket Mode connection."""
    ticket = secrets.token_urlsafe(24)
    ws.store.put("link", ticket, {"at": ws.clock(), "used": False})
    return ticket


def use_link_ticket(ws: Workspace, ticket: str) -> bool:
    """Whether the ticket admits a connection; never twice."""
    record = ws.store.get("link", ticket)
    if not record or record["used"] or ws.clock() - record["at"] > LINK_LIFE_S:
        return False
    ws.store.put("link", ticket, record | {"used": True})
    return True
