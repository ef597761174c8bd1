"""files.*: the three steps of an upload, and giving the content back."""

import mimetypes
from typing import Any

from bot.sandbox import messages
from bot.sandbox.call import Call
from bot.sandbox.chat import open_channel, thread
from bot.sandbox.errors import SlackError
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

MOST_BYTES = 50_000_000
MOST_ALT_TEXT = 1_000


def upload_url(call: Call) -> Json:
    """files.getUploadURLExternal"""
    name = call.required("filename")
    length = call.number("length", 0, MOST_BYTES)
    if len(call.text("alt_txt")) > MOST_ALT_TEXT:
        raise SlackError("alt_txt_too_long")
    file_id = call.ws.new_id("F")
    record: Json = {"id": file_id, "name": name, "size": length, "alt_txt": call.text("alt_txt"), "state": "waiting"}
    call.ws.store.put("file", file_id, record)
    return {"upload_url": f"{call.ws.url}/upload/{file_id}", "file_id": file_id}


def receive(ws: Workspace, file_id: str, content: bytes) -> str:
    """Take the bytes that were announced; refused if they are others than announced."""
    record = ws.store.get("file", file_id)
    if not record or record["state"] != "waiting":
        raise SlackError("file_not_found")
    if len(content) != record["size"]:
        raise SlackError("file_size_mismatch")
    with ws.store.together():
        ws.store.put_blob(file_id, content)
        ws.store.put("file", file_id, record | {"state": "uploaded"})
    return f"OK - {len(content)}"


def complete(call: Call) -> Json:
    """files.completeUploadExternal"""
    wanted = call.json("files", "invalid_arguments")
    if not isinstance(wanted, list) or not wanted:
        raise SlackError("invalid_arguments", ["missing required field: files"])
    channel = _shared_in(call)
    thread_ts = thread(call, channel) if channel else None
    records = [_uploaded(call, each) for each in wanted]
    with call.ws.store.together():
        for record in records:
            call.ws.store.put("file", record["id"], record)
    shown = [as_slack(call.ws, record) for record in records]
    if channel:
        text = call.text("initial_comment")
        messages.post_as_app(call.ws, channel, text, thread_ts=thread_ts, files=shown)
    return {"files": shown}


def as_slack(ws: Workspace, record: Json) -> Json:
    """The file as messages carry it."""
    url = f"{ws.url}/files/{record['id']}/{record['name']}"
    mimetype = mimetypes.guess_type(record["name"])[0] or "application/octet-stream"
    return {
        "id": record["id"],
        "name": record["name"],
        "title": record.get("title") or record["name"],
        "mimetype": mimetype,
        "filetype": record["name"].rpartition(".")[2].lower(),
        "size": record["size"],
        "alt_txt": record["alt_txt"],
        "user": ws.bot_user_id,
        "url_private": url,
        "url_private_download": url,
        "permalink": url,
    }


def _shared_in(call: Call) -> Json | None:
    if call.has("channels") and not call.has("channel_id"):
        call = Call(call.ws, {**call.args, "channel_id": call.text("channels").split(",")[0]})
    if not call.has("channel_id"):
        return None
    return open_channel(call.joined(call.channel("channel_id")))


def _uploaded(call: Call, wanted: Any) -> Json:
    if not isinstance(wanted, dict) or not isinstance(wanted.get("id"), str):
        raise SlackError("invalid_arguments", ["missing required field: id [json-pointer:/files]"])
    record = call.ws.store.get("file", wanted["id"])
    if not record or record["state"] != "uploaded":
        raise SlackError("file_not_found")
    return record | {"title": wanted.get("title"), "state": "complete"}
