"""views.*, blocks.validate and apps.connections.open: modals, Home tabs and the link to the app."""

from urllib.parse import urlencode

from bot.sandbox import views
from bot.sandbox.call import Call
from bot.sandbox.checks import check_blocks, check_view, message_faults, refuse, view_faults
from bot.sandbox.errors import SlackError
from bot.sandbox.schema import Fault
from bot.sandbox.store import Json
from bot.sandbox.tickets import look_at_trigger, new_link_ticket, use_trigger


def open_view(call: Call) -> Json:
    """views.open"""
    view = _view(call, "modal")
    trigger_id = call.required("trigger_id")
    trigger = look_at_trigger(call.ws, trigger_id)
    with call.ws.store.together():
        made = views.open_view(call.ws, trigger["user"], view)
        use_trigger(call.ws, trigger_id, trigger)
    return {"view": views.shown(made)}


def push_view(call: Call) -> Json:
    """views.push: only for a trigger_id that came from within an open modal"""
    view = _view(call, "modal")
    trigger_id = call.required("trigger_id")
    trigger = look_at_trigger(call.ws, trigger_id)
    inside = views.find(call.ws, trigger["view_id"] or "")
    if not inside or inside["type"] != "modal":
        raise SlackError("not_found")
    with call.ws.store.together():
        made = views.push_view(call.ws, trigger["user"], view)
        use_trigger(call.ws, trigger_id, trigger)
    return {"view": views.shown(made)}


def update_view(call: Call) -> Json:
    """views.update"""
    view = _view(call, "modal")
    if call.has("view_id") == call.has("external_id"):
        raise SlackError("invalid_arguments", ["must provide exactly one of: view_id, external_id"])
    old = views.find(call.ws, call.text("view_id"), call.text("external_id"))
    if not old or old["type"] != "modal":
        raise SlackError("not_found")
    _same_hash(call, old)
    return {"view": views.shown(views.update_view(call.ws, old, view))}


def publish_view(call: Call) -> Json:
    """views.publish"""
    view = _view(call, "home")
    user = call.user("user_id")
    if not call.ws.manifest.home_tab:
        raise SlackError("not_enabled")
    old = views.home(call.ws, user["id"])
    if old:
        _same_hash(call, old)
    return {"view": views.shown(views.publish_home(call.ws, user["id"], view))}


def validate(call: Call) -> Json:
    """blocks.validate: exactly one of blocks, message and view"""
    given = [name for name in ("blocks", "message", "view") if call.has(name)]
    if len(given) != 1:
        raise SlackError("invalid_arguments", ["must provide exactly one of: blocks, message, view"])
    value = call.json(given[0], "invalid_blocks_format")
    if given == ["view"]:
        refuse("invalid_blocks", view_faults(value))
        return {}
    blocks = value.get("blocks") if given == ["message"] and isinstance(value, dict) else value
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    faults = message_faults(blocks)
    prefix = "/message" if given == ["message"] else ""
    refuse("invalid_blocks", [Fault(fault.message, prefix + fault.at) for fault in faults])
    check_blocks(blocks)
    return {}


def open_connection(call: Call) -> Json:
    """apps.connections.open"""
    ws = call.ws
    if not ws.manifest.socket_mode:
        raise SlackError("not_allowed", ["Socket Mode is not enabled in the app's manifest"])
    query = urlencode({"ticket": new_link_ticket(ws), "app_id": ws.app_id})
    return {"url": f"{ws.url.replace('http', 'ws', 1)}/link/?{query}"}


def _view(call: Call, surface: str) -> Json:
    view = check_view(call.json("view", "invalid_arguments"), surface)
    call.known_files(view["blocks"])
    return view


def _same_hash(call: Call, view: Json) -> None:
    if call.has("hash") and call.text("hash") != view["hash"]:
        raise SlackError("hash_conflict")
