"""chat.*: what the app says."""

from typing import Any

from bot.sandbox import messages
from bot.sandbox.call import Call
from bot.sandbox.checks import check_blocks, check_metadata
from bot.sandbox.errors import SlackError
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

MOST_TEXT = 40_000
MOST_TEXT_IN_UPDATE = 4_000
CUSTOMISED = ("username", "icon_emoji", "icon_url")


def post_message(call: Call) -> Json:
    """chat.postMessage"""
    content = said(call, MOST_TEXT)
    channel = addressed(call)
    if any(call.has(name) for name in CUSTOMISED):
        call.need("chat:write.customize")
    thread_ts = thread(call, channel)
    if call.has("metadata"):
        content["metadata"] = check_metadata(call.json("metadata", "invalid_metadata_format"))
    message = messages.post_as_app(call.ws, channel, thread_ts=thread_ts, **content)
    shown = messages.as_slack(call.ws, message)
    return {"channel": channel["id"], "ts": message["ts"], "message": shown}


def post_ephemeral(call: Call) -> Json:
    """chat.postEphemeral"""
    content = said(call, MOST_TEXT)
    channel = open_channel(call.joined(call.channel()))
    user = call.user()
    if user["id"] not in channel["members"] or user["deleted"]:
        raise SlackError("user_not_in_channel")
    message = messages.whisper(call.ws, channel, user["id"], thread_ts=thread(call, channel), **content)
    return {"message_ts": message["ts"]}


def update(call: Call) -> Json:
    """chat.update"""
    channel = open_channel(call.channel())
    message = _own(call, channel, "cant_update_message")
    content = said(call, MOST_TEXT_IN_UPDATE)
    fields: Json = {}
    if "text" in call.args:
        fields = {"text": content["text"], "blocks": content.get("blocks")}
    if call.has("blocks"):
        fields["blocks"] = content.get("blocks")
    if call.has("metadata"):
        fields["metadata"] = check_metadata(call.json("metadata", "invalid_metadata_format")) or None
    changed = messages.change(call.ws, message, **fields)
    shown = messages.as_slack(call.ws, changed)
    return {"channel": channel["id"], "ts": changed["ts"], "text": changed["text"], "message": shown}


def delete(call: Call) -> Json:
    """chat.delete"""
    channel = open_channel(call.channel())
    message = _own(call, channel, "cant_delete_message")
    messages.delete(call.ws, message)
    return {"channel": channel["id"], "ts": message["ts"]}


def permalink(call: Call) -> Json:
    """chat.getPermalink"""
    channel = call.channel()
    message = messages.find(call.ws, channel["id"], call.required("message_ts"))
    if not message:
        raise SlackError("message_not_found")
    return {"channel": channel["id"], "permalink": link_to(call.ws, message)}


def link_to(ws: Workspace, message: Json) -> str:
    """Where the page shows the message, in the form of Slack's links."""
    link = f"{ws.url}/archives/{message['channel']}/p{message['ts'].replace('.', '')}"
    thread_ts = message.get("thread_ts")
    return f"{link}?thread_ts={thread_ts}&cid={message['channel']}" if thread_ts else link


def said(call: Call, most_text: int) -> dict[str, Any]:
    """The text and blocks of the call, checked; Slack wants at least one of them."""
    if call.has("attachments"):
        raise SlackError("invalid_attachments")
    given = call.json("blocks", "invalid_blocks_format") if call.has("blocks") else []
    blocks = check_blocks(given, call.ws.new_blocks)
    call.known_files(blocks)
    text = call.text("text")
    if len(text) > most_text:
        raise SlackError("msg_too_long")
    if not text.strip() and not blocks:
        raise SlackError("no_text")
    return {"text": text, "blocks": blocks} if blocks else {"text": text}


def addressed(call: Call) -> Json:
    """Where chat.postMessage may post: a conversation, or the direct message with a person."""
    ws = call.ws
    person = ws.store.get("user", call.required("channel"))
    if person:
        if person["deleted"] or person["is_bot"]:
            raise SlackError("channel_not_found")
        return ws.im(person["id"])
    channel = open_channel(call.channel())
    if ws.bot_user_id not in channel["members"] and "chat:write.public" not in ws.manifest.scopes:
        raise SlackError("not_in_channel")
    return channel


def open_channel(channel: Json) -> Json:
    """The conversation, unless it is archived."""
    if channel["archived"]:
        raise SlackError("is_archived")
    return channel


def thread(call: Call, channel: Json) -> str | None:
    """The thread to answer in; only a message that is itself no answer can start one."""
    if not call.has("thread_ts"):
        return None
    parent = messages.find(call.ws, channel["id"], call.text("thread_ts"))
    if not parent or parent.get("ephemeral") or parent.get("thread_ts"):
        raise SlackError("cannot_reply_to_message")
    return str(parent["ts"])


def _own(call: Call, channel: Json, error: str) -> Json:
    message = messages.find(call.ws, channel["id"], call.required("ts"))
    if not message or message.get("ephemeral"):
        raise SlackError("message_not_found")
    if message["user"] != call.ws.bot_user_id:
        raise SlackError(error)
    return message
