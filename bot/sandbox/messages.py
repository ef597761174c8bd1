"""Messages: posting, changing, deleting, and how the Web API shows them."""

import copy
from typing import Any

from bot.sandbox.store import Json
from bot.sandbox.workspace import SLACKBOT, Workspace

NAMED_ELEMENTS = ("elements", "element", "accessory")  # where a block keeps elements that carry an action_id


def post(ws: Workspace, channel: Json, user: str, text: str, **fields: Any) -> Json:
    """A new message, kept and shown to everybody who may see it; empty fields are left out."""
    message: Json = {"channel": channel["id"], "ts": ws.new_ts(), "user": user, "text": text}
    message |= {key: value for key, value in fields.items() if value}
    if "blocks" in message:
        message["blocks"] = named(ws, message["blocks"])
    with ws.store.together():
        ws.store.put_message(message)
    show(ws, message)
    _tell_app(ws, channel, message)
    return message


def post_as_app(ws: Workspace, channel: Json, text: str, **fields: Any) -> Json:
    """A new message of the app."""
    return post(ws, channel, ws.bot_user_id, text, bot_id=ws.bot_id, **fields)


def whisper(ws: Workspace, channel: Json, reader: str, text: str, **fields: Any) -> Json:
    """A message of the app that only `reader` sees."""
    return post_as_app(ws, channel, text, ephemeral=True, for_user=reader, **fields)


def system(ws: Workspace, channel: Json, reader: str, text: str) -> Json:
    """What Slackbot tells one person, for example that a command was not acknowledged."""
    return post(ws, channel, SLACKBOT, text, ephemeral=True, for_user=reader, system=True)


def change(ws: Workspace, message: Json, **fields: Any) -> Json:
    """The message with these fields replaced; a field that is None goes away."""
    changed = {**message, **fields}
    if fields.get("text", message["text"]) != message["text"]:
        changed["edited"] = {"user": message["user"], "ts": ws.new_ts()}
    if fields.get("blocks"):
        changed["blocks"] = named(ws, fields["blocks"])
    changed = {key: value for key, value in changed.items() if value not in (None, [])}
    ws.store.put_message(changed)
    show(ws, changed)
    return changed


def delete(ws: Workspace, message: Json) -> None:
    """The message is gone for everybody."""
    ws.store.put_message({**message, "deleted": True})
    show(ws, {**message, "deleted": True})


def find(ws: Workspace, channel: str, ts: str, reader: str | None = None) -> Json | None:
    """The message, unless it is deleted or ephemeral for somebody other than `reader`."""
    message = ws.store.message(channel, ts)
    if not message or message.get("deleted"):
        return None
    return message if message.get("for_user") in (None, reader) else None


def show(ws: Workspace, message: Json) -> None:
    """Push the message to the pages of those who may see it."""
    channel = ws.channel(message["channel"])
    if channel:
        to = [message["for_user"]] if message.get("ephemeral") else ws.readers(channel)
        ws.streams.publish({"type": "message", "message": message}, to)


def named(ws: Workspace, blocks: list[Json]) -> list[Json]:
    """The blocks as Slack keeps them: every block with a block_id, every element with an action_id."""
    kept = copy.deepcopy(blocks)
    for block in kept:
        if not block.get("block_id"):
            block["block_id"] = ws.new_id("b")
        for element in elements_of(block):
            if element.get("type") not in ("image", "plain_text", "mrkdwn") and not element.get("action_id"):
                element["action_id"] = ws.new_id("a")
    return kept


def elements_of(block: Json) -> list[Json]:
    """The interactive elements a block holds."""
    if block["type"] not in ("section", "actions", "input"):
        return []
    found = [block[key] for key in NAMED_ELEMENTS if key in block]
    return found[0] if found and isinstance(found[0], list) else found


def as_slack(ws: Workspace, message: Json, with_metadata: bool = True) -> Json:
    """The message as the Web API and the payloads show it."""
    shown: Json = {key: message[key] for key in ("user", "text", "ts") if key in message}
    shown |= {"type": "message", "team": ws.team_id}
    if message.get("bot_id"):
        shown |= {"bot_id": ws.bot_id, "app_id": ws.app_id, "bot_profile": bot_profile(ws)}
    for key in ("thread_ts", "blocks", "edited", "files"):
        if key in message:
            shown[key] = message[key]
    if with_metadata and "metadata" in message:
        shown["metadata"] = message["metadata"]
    return shown


def with_replies(message: Json, replies: list[Json]) -> Json:
    """Fields a thread's first message carries once somebody answered."""
    if not replies:
        return {}
    people = list(dict.fromkeys(reply["user"] for reply in replies))
    return {
        "thread_ts": message["ts"],
        "reply_count": len(replies),
        "reply_users": people,
        "reply_users_count": len(people),
        "latest_reply": replies[-1]["ts"],
    }


def bot_profile(ws: Workspace) -> Json:
    """The app as it is shown beside its messages."""
    return {
        "id": ws.bot_id,
        "app_id": ws.app_id,
        "user_id": ws.bot_user_id,
        "name": ws.manifest.bot_name,
        "team_id": ws.team_id,
        "deleted": False,
    }


def _tell_app(ws: Workspace, channel: Json, message: Json) -> None:
    if message.get("ephemeral") or ws.bot_user_id not in channel["members"]:
        return
    kind = "message.im" if "user" in channel else "message.groups" if channel["private"] else "message.channels"
    shown = as_slack(ws, message) | {"channel": channel["id"], "event_ts": message["ts"]}
    if kind in ws.manifest.events:
        ws.emit(shown | {"channel_type": {"im": "im", "groups": "group", "channels": "channel"}[kind.split(".")[1]]})
    mentioned = f"<@{ws.bot_user_id}>" in message["text"] and message["user"] != ws.bot_user_id
    if mentioned and "app_mention" in ws.manifest.events:
        ws.emit(shown | {"type": "app_mention"})
