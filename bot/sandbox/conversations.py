"""conversations.*: channels, their members and what was said in them."""

from bot.sandbox import messages
from bot.sandbox.call import Call, family
from bot.sandbox.errors import SlackError
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

KINDS = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}


def listed(call: Call) -> Json:
    """conversations.list"""
    return _listed(call, [*call.ws.channels(), *call.ws.store.all("im")])


def of_user(call: Call) -> Json:
    """users.conversations"""
    user_id = call.user()["id"] if call.has("user") else call.ws.bot_user_id
    everything = [*call.ws.channels(), *call.ws.store.all("im")]
    return _listed(call, [channel for channel in everything if user_id in channel["members"]])


def info(call: Call) -> Json:
    """conversations.info"""
    channel = call.channel()
    call.need_for(channel, "read")
    return {"channel": as_slack(call.ws, channel)}


def members(call: Call) -> Json:
    """conversations.members"""
    channel = call.channel()
    call.need_for(channel, "read")
    people, cursor = call.page([{"id": member} for member in channel["members"]], 100)
    return {"members": [person["id"] for person in people], "response_metadata": {"next_cursor": cursor}}


def history(call: Call) -> Json:
    """conversations.history: newest first, without replies and without anything ephemeral"""
    channel = call.channel()
    call.need_for(channel, "history")
    call.joined(channel)
    said = _within(call, call.ws.store.messages(channel["id"]))
    top = [message for message in said if message.get("thread_ts", message["ts"]) == message["ts"]]
    found, cursor = call.page(top[::-1], 100)
    return {
        "messages": [_shown(call, message) for message in found],
        "has_more": bool(cursor),
        "pin_count": 0,
        "response_metadata": {"next_cursor": cursor},
    }


def replies(call: Call) -> Json:
    """conversations.replies: the thread's first message, then the answers, oldest first"""
    channel = call.channel()
    call.need_for(channel, "history")
    call.joined(channel)
    asked = call.required("ts")
    said = call.ws.store.messages(channel["id"])
    one = next((message for message in said if message["ts"] == asked), None)
    if not one:
        raise SlackError("thread_not_found")
    root = one.get("thread_ts", asked)
    thread = [message for message in said if message["ts"] == root]
    answers = _within(call, [message for message in said if message.get("thread_ts") == root])
    found, cursor = call.page([*thread, *answers], 1_000, 1_000)
    return {
        "messages": [_shown(call, message) for message in found],
        "has_more": bool(cursor),
        "response_metadata": {"next_cursor": cursor},
    }


def opened(call: Call) -> Json:
    """conversations.open: the direct message with one person"""
    if call.has("channel"):
        im = call.ws.store.get("im", call.text("channel"))
        if not im:
            raise SlackError("channel_not_found")
        return {"channel": as_slack(call.ws, im)}
    names = call.required("users").split(",")
    if len(names) > 1:
        raise SlackError("not_enough_users" if not all(names) else "missing_scope")
    user = call.ws.store.get("user", names[0])
    if not user or user["is_bot"]:
        raise SlackError("user_not_found")
    if user["deleted"]:
        raise SlackError("user_disabled")
    im = call.ws.im(user["id"])
    return {"channel": as_slack(call.ws, im) if call.flag("return_im") else {"id": im["id"]}}


def join(call: Call) -> Json:
    """conversations.join"""
    channel = call.channel()
    if "user" in channel or channel["private"]:
        raise SlackError("method_not_supported_for_channel_type")
    if channel["archived"]:
        raise SlackError("is_archived")
    if call.ws.bot_user_id not in channel["members"]:
        channel = channel | {"members": [*channel["members"], call.ws.bot_user_id]}
        call.ws.put_channel(channel)
    return {"channel": as_slack(call.ws, channel)}


def as_slack(ws: Workspace, channel: Json) -> Json:
    """The conversation as the Web API shows it."""
    common = {"id": channel["id"], "created": channel["created"], "is_archived": channel["archived"]}
    if "user" in channel:
        return {**common, "is_im": True, "user": channel["user"], "is_user_deleted": False, "is_org_shared": False}
    return {
        **common,
        "name": channel["name"],
        "name_normalized": channel["name"],
        "is_channel": not channel["private"],
        "is_group": False,
        "is_im": False,
        "is_mpim": False,
        "is_private": channel["private"],
        "is_general": False,
        "is_shared": False,
        "is_ext_shared": False,
        "is_org_shared": False,
        "is_member": ws.bot_user_id in channel["members"],
        "context_team_id": ws.team_id,
        "topic": {"value": channel["topic"], "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0},
        "num_members": len(channel["members"]),
    }


def _listed(call: Call, channels: list[Json]) -> Json:
    kinds = [kind.strip() for kind in call.text("types", "public_channel").split(",")]
    if any(kind not in KINDS for kind in kinds):
        raise SlackError("invalid_types")
    families = [KINDS[kind] for kind in kinds]
    for each in families:
        call.need(f"{each}:read")
    seen = [each for each in channels if not each["private"] or call.ws.bot_user_id in each["members"]]
    page, cursor = call.page(seen, 100)
    # As Slack does: what is asked for is chosen from a page, which may become an empty one with others behind it.
    found = [
        each for each in page if family(each) in families and not (call.flag("exclude_archived") and each["archived"])
    ]
    return {
        "channels": [as_slack(call.ws, channel) for channel in found],
        "response_metadata": {"next_cursor": cursor},
    }


def _within(call: Call, said: list[Json]) -> list[Json]:
    oldest, latest, inclusive = call.text("oldest", "0"), call.text("latest"), call.flag("inclusive")
    try:
        first, last = float(oldest), float(latest or "inf")
    except ValueError:
        raise SlackError("invalid_ts_oldest") from None
    return [
        message
        for message in said
        if first < float(message["ts"]) < last or (inclusive and message["ts"] in (oldest, latest))
    ]


def _shown(call: Call, message: Json) -> Json:
    answers = [each for each in call.ws.store.messages(message["channel"]) if each.get("thread_ts") == message["ts"]]
    shown = messages.as_slack(call.ws, message, with_metadata=call.flag("include_all_metadata"))
    return shown | messages.with_replies(message, answers)
