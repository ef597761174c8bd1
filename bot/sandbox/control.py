"""/control: what the page and the tests see and do."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.sandbox import acts, messages, views
from bot.sandbox.admin import ACTS, found_channel, found_user
from bot.sandbox.errors import ActRefused
from bot.sandbox.links import Links
from bot.sandbox.site import Site
from bot.sandbox.store import Json

# -- what is seen ------------------------------------------------------------------------------------------------------


async def state(site: Site, given: Json) -> Json:
    """Everything but what was said."""
    ws = site.ws
    return {
        "team": {"id": ws.team_id, "name": ws.team_name},
        "app": {
            "name": ws.manifest.bot_name,
            "bot_user_id": ws.bot_user_id,
            "connected": site.delivery.connections > 0,
            "connections": site.delivery.connections,
            "home": ws.manifest.home_tab,
        },
        "users": ws.users(),
        "channels": ws.channels(),
        "ims": [{"id": im["id"], "user": im["user"]} for im in ws.store.all("im")],
        "groups": ws.groups(),
        "commands": [
            {"command": each.command, "description": each.description, "usage_hint": each.usage_hint}
            for each in ws.manifest.commands
        ],
        "links": ws.links,
        "faults": site.faults.shown(),
        "rate_limited": site.limits.on,
        "new_blocks": ws.new_blocks,
    }


async def said(site: Site, given: Json) -> Json:
    """What this person sees in a channel."""
    user, channel = found_user(site, given), found_channel(site, given)
    if not site.ws.may_read(user["id"], channel):
        raise ActRefused("not_in_channel", f"{user['name']} cannot see this channel.")
    return {"messages": site.ws.store.messages(channel["id"], user["id"])}


async def home(site: Site, given: Json) -> Json:
    """What this person's Home tab shows."""
    view = views.home(site.ws, found_user(site, given)["id"])
    return {"view": views.shown(view) if view else None}


async def stack(site: Site, given: Json) -> Json:
    """This person's open modals."""
    return {"stack": [views.shown(view) for view in views.stack(site.ws, found_user(site, given)["id"])]}


async def requests(site: Site, given: Json) -> Json:
    """Every Web API call and every delivery."""
    return {"requests": site.log.entries()}


# -- what people do ----------------------------------------------------------------------------------------------------


async def command(site: Site, given: Json) -> Json:
    """Type a slash command."""
    return await acts.command(site, _active(site, given), found_channel(site, given), str(given.get("text", "")))


async def message(site: Site, given: Json) -> Json:
    """Type a message."""
    user, channel = _active(site, given), found_channel(site, given)
    text, thread_ts = str(given.get("text", "")), str(given.get("thread_ts") or "")
    return {"message": acts.write(site.ws, user, channel, text, thread_ts)}


async def action(site: Site, given: Json) -> Json:
    """Click or choose in a message, a modal or the Home tab."""
    user = _active(site, given)
    if given.get("view_id"):
        return await acts.act_on_view(site, user, _view(site, user, given), given)
    channel = found_channel(site, given)
    found = messages.find(site.ws, channel["id"], str(given.get("ts", "")), user["id"])
    if not found or not site.ws.may_read(user["id"], channel):
        raise ActRefused("message_not_found", "This message is not there any more.")
    if channel["archived"]:
        raise ActRefused("is_archived", "This channel is archived.")
    return await acts.act_on_message(site, user, channel, found, given)


async def submit(site: Site, given: Json) -> Json:
    """Send off a modal."""
    user = _active(site, given)
    return await acts.submit(site, user, _modal(site, user, given), given.get("values") or {})


async def close(site: Site, given: Json) -> Json:
    """Close a modal."""
    user = _active(site, given)
    return await acts.close(site, user, _modal(site, user, given))


async def home_opened(site: Site, given: Json) -> Json:
    """Look at the Home tab."""
    return acts.open_home(site.ws, _active(site, given))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def order_fault(site: Site, given: Json) -> Json:
    """Let the next calls fail."""
    try:
        site.faults.order(given)
    except (TypeError, ValueError) as wrong:
        raise ActRefused("invalid_fault", str(wrong)) from None
    site.ws.streams.publish({"type": "state"})
    return {"faults": site.faults.shown()}


async def clear_faults(site: Site, given: Json) -> Json:
    """Let nothing fail any more."""
    site.faults.waiting.clear()
    site.ws.streams.publish({"type": "state"})
    return {}


async def socket(site: Site, given: Json) -> Json:
    """Do something to the Socket Mode connections."""
    links = site.delivery
    if not isinstance(links, Links):
        raise ActRefused("no_socket", "This app does not use Socket Mode.")
    if given.get("do") == "drop":
        links.drop()
    elif given.get("do") in ("refresh", "warning"):
        await links.refresh("warning" if given["do"] == "warning" else "refresh_requested")
    elif given.get("do") == "duplicate_next":
        links.duplicate_next()
    else:
        raise ActRefused("unknown_act", f"There is no {given.get('do')} for the socket.")
    return {}


async def admin(site: Site, given: Json) -> Json:
    """Do what an administrator can."""
    act = ACTS.get(str(given.get("do")))
    if not act:
        raise ActRefused("unknown_act", f"There is no {given.get('do')}; there are {', '.join(ACTS)}.")
    act(site, given)
    return {}


Answer = Callable[[Site, Json], Awaitable[Json]]
ROUTES: dict[tuple[str, str], Answer] = {
    ("GET", "state"): state,
    ("GET", "messages"): said,
    ("GET", "home"): home,
    ("GET", "views"): stack,
    ("GET", "requests"): requests,
    ("POST", "command"): command,
    ("POST", "message"): message,
    ("POST", "action"): action,
    ("POST", "submit"): submit,
    ("POST", "close"): close,
    ("POST", "home_opened"): home_opened,
    ("POST", "faults"): order_fault,
    ("DELETE", "faults"): clear_faults,
    ("POST", "socket"): socket,
    ("POST", "admin"): admin,
}


async def control(site: Site, request: Request) -> Response:
    """Answers one call of the control interface."""
    answer = ROUTES.get((request.method, request.path_params["name"]))
    if not answer:
        return _refused("not_found", "There is no such thing here.", 404)
    try:
        given = dict(request.query_params) if request.method == "GET" else json.loads(await request.body() or b"{}")
        if not isinstance(given, dict):
            return _refused("invalid_json", "The body must be a JSON object.")
        return JSONResponse({"ok": True, **await answer(site, given)})
    except ActRefused as refusal:
        return _refused(refusal.error, refusal.message)
    except ValueError:
        return _refused("invalid_json", "The body must be JSON.")


async def stream(site: Site, socket: WebSocket) -> None:
    """Pushes one object per change that this person may see."""
    user = site.ws.user(socket.query_params.get("user", ""))
    if not user:
        await socket.close(1008)
        return
    queue = site.ws.streams.open(user["id"])  # before the handshake ends, so that nothing after it is missed
    await socket.accept()
    listening = asyncio.create_task(_until_closed(socket))
    try:
        while not listening.done():
            getting = asyncio.create_task(queue.get())
            await asyncio.wait({getting, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            await socket.send_json(getting.result())
    except (WebSocketDisconnect, RuntimeError):
        return
    finally:
        site.ws.streams.close(queue)
        listening.cancel()


async def _until_closed(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _active(site: Site, given: Json) -> Json:
    user = found_user(site, given)
    if user["deleted"]:
        raise ActRefused("user_disabled", f"{user['name']} has left the workspace.")
    return user


def _view(site: Site, user: Json, given: Json) -> Json:
    view = views.find(site.ws, str(given.get("view_id", "")))
    if not view or view["user"] != user["id"]:
        raise ActRefused("view_not_found", "This view is not open any more.")
    return view


def _modal(site: Site, user: Json, given: Json) -> Json:
    view = _view(site, user, given)
    if view["type"] != "modal":
        raise ActRefused("view_not_found", "This is no modal.")
    return view


def _refused(error: str, text: str, status: int = 400) -> Response:
    return JSONResponse({"ok": False, "error": error, "message": text}, status)
