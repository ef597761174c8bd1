"""What the app is sent when somebody does something."""

from typing import Any

from bot.sandbox import messages, tickets, views
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace


def command(ws: Workspace, user: Json, channel: Json, name: str, text: str) -> Json:
    """A slash command; every value is a string, as in the form Slack posts."""
    return {
        "token": ws.verification_token,
        "team_id": ws.team_id,
        "team_domain": ws.team_domain,
        "channel_id": channel["id"],
        "channel_name": channel_name(channel),
        "user_id": user["id"],
        "user_name": user["handle"],
        "command": name,
        "text": text,
        "api_app_id": ws.app_id,
        "is_enterprise_install": "false",
        "response_url": tickets.new_response_url(ws, user["id"], channel["id"], None),
        "trigger_id": tickets.new_trigger(ws, user["id"]),
    }


def message_action(ws: Workspace, user: Json, channel: Json, message: Json, action: Json, state: Json) -> Json:
    """A click in a message; an ephemeral message itself is not sent along."""
    ephemeral = bool(message.get("ephemeral"))
    container: Json = {
        "type": "message",
        "message_ts": message["ts"],
        "channel_id": channel["id"],
        "is_ephemeral": ephemeral,
    }
    if message.get("thread_ts"):
        container["thread_ts"] = message["thread_ts"]
    payload = _interactive(ws, "block_actions", user) | {
        "container": container,
        "trigger_id": tickets.new_trigger(ws, user["id"]),
        "channel": {"id": channel["id"], "name": channel_name(channel)},
        "state": {"values": state},
        "response_url": tickets.new_response_url(ws, user["id"], channel["id"], message["ts"]),
        "actions": [action],
    }
    return payload if ephemeral else payload | {"message": messages.as_slack(ws, message)}


def view_action(ws: Workspace, user: Json, view: Json, action: Json) -> Json:
    """A click in a modal or on a Home tab."""
    return _interactive(ws, "block_actions", user) | {
        "container": {"type": "view", "view_id": view["id"]},
        "trigger_id": tickets.new_trigger(ws, user["id"], view["id"]),
        "view": views.shown(view),
        "actions": [action],
    }


def view_submission(ws: Workspace, user: Json, view: Json, response_urls: list[Json]) -> Json:
    """A modal sent off."""
    return _interactive(ws, "view_submission", user) | {
        "trigger_id": tickets.new_trigger(ws, user["id"], view["id"]),
        "view": views.shown(view),
        "response_urls": response_urls,
    }


def view_closed(ws: Workspace, user: Json, view: Json, cleared: bool) -> Json:
    """A modal closed without being sent off."""
    return _interactive(ws, "view_closed", user) | {"view": views.shown(view), "is_cleared": cleared}


def action_of(ws: Workspace, element: Json, block_id: str, state: Json) -> Json:
    """What was clicked or chosen."""
    kept = ("type", "text", "value", "style") if element["type"] == "button" else ("type",)
    action: Json = {key: element[key] for key in kept if key in element}
    return {
        "action_id": element["action_id"],
        "block_id": block_id,
        **action,
        **state,
        "action_ts": ws.new_ts(),
    }


def event(ws: Workspace, body: Json) -> Json:
    """An event in the wrapping of the Events API."""
    return {
        "token": ws.verification_token,
        "team_id": ws.team_id,
        "api_app_id": ws.app_id,
        "event": body,
        "type": "event_callback",
        "event_id": ws.new_id("Ev"),
        "event_time": int(ws.clock()),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": ws.team_id,
                "user_id": ws.bot_user_id,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
    }


def home_opened(ws: Workspace, user: Json) -> Json:
    """The event of somebody looking at the app's Home tab."""
    body: Json = {"type": "app_home_opened", "user": user["id"], "tab": "home", "event_ts": ws.new_ts()}
    view = views.home(ws, user["id"])
    extra: dict[str, Any] = {"view": views.shown(view)} if view else {}
    return body | {"channel": ws.im(user["id"])["id"]} | extra


def channel_name(channel: Json) -> str:
    """The name payloads give a conversation."""
    return "directmessage" if "user" in channel else str(channel["name"])


def _interactive(ws: Workspace, kind: str, user: Json) -> Json:
    return {
        "type": kind,
        "team": {"id": ws.team_id, "domain": ws.team_domain},
        "user": {"id": user["id"], "username": user["handle"], "name": user["handle"], "team_id": ws.team_id},
        "api_app_id": ws.app_id,
        "token": ws.verification_token,
        "enterprise": None,
        "is_enterprise_install": False,
    }
