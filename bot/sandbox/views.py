"""Modals and Home tabs: their life, their stack and what people have filled in."""

import copy
import secrets

from bot.sandbox.errors import SlackError
from bot.sandbox.inputs import state_of
from bot.sandbox.messages import named
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

MOST_IN_STACK = 3


def stack(ws: Workspace, user: str) -> list[Json]:
    """The person's open modals, the one on top last."""
    record = ws.store.get("stack", user) or {"views": []}
    views = [ws.store.get("view", view_id) for view_id in record["views"]]
    return [view for view in views if view]


def home(ws: Workspace, user: str) -> Json | None:
    """What the person's Home tab shows, or None."""
    record = ws.store.get("home", user)
    return ws.store.get("view", record["view"]) if record else None


def open_view(ws: Workspace, user: str, view: Json) -> Json:
    """A new modal in place of all that are open."""
    made = _made(ws, user, view, root=None, previous=None)
    _keep(ws, made, [made["id"]], "opened")
    return made


def push_view(ws: Workspace, user: str, view: Json) -> Json:
    """A new modal on top of those that are open, three at most."""
    open_now = stack(ws, user)
    if len(open_now) >= MOST_IN_STACK:
        raise SlackError("push_limit_reached")
    made = _made(ws, user, view, root=open_now[0]["id"], previous=open_now[-1]["id"])
    _keep(ws, made, [*(each["id"] for each in open_now), made["id"]], "pushed")
    return made


def update_view(ws: Workspace, old: Json, view: Json) -> Json:
    """The view with new content; what people filled in stays where the inputs are the same."""
    made = _made(ws, old["user"], view, root=old["root_view_id"], previous=old["previous_view_id"], old=old)
    ws.store.put("view", made["id"], made)
    _tell(ws, made, "updated")
    return made


def publish_home(ws: Workspace, user: str, view: Json) -> Json:
    """The person's Home tab with new content."""
    old = home(ws, user)
    made = _made(ws, user, view, root=None, previous=None, old=old)
    with ws.store.together():
        ws.store.put("view", made["id"], made)
        ws.store.put("home", user, {"view": made["id"]})
    ws.streams.publish({"type": "home", "view": shown(made)}, [user])
    return made


def close_view(ws: Workspace, view: Json, clear: bool = False) -> list[Json]:
    """The view is gone, and with `clear` all of the stack; answers those that closed, top first."""
    open_now = stack(ws, view["user"])
    closing = open_now if clear else [each for each in open_now if each["id"] == view["id"]]
    left = [each["id"] for each in open_now if each not in closing]
    ws.store.put("stack", view["user"], {"views": left})
    for each in reversed(closing):
        _tell(ws, each, "closed")
    return closing[::-1]


def find(ws: Workspace, view_id: str = "", external_id: str = "") -> Json | None:
    """The view that is open or on a Home tab, or None."""
    if external_id:
        return next((view for view in _live(ws) if view["external_id"] == external_id), None)
    view = ws.store.get("view", view_id)
    return view if view and is_live(ws, view) else None


def is_live(ws: Workspace, view: Json) -> bool:
    """Whether somebody still has it before them."""
    shown_home = home(ws, view["user"])
    return view in stack(ws, view["user"]) or (shown_home is not None and shown_home["id"] == view["id"])


def keep_state(ws: Workspace, view: Json, values: Json) -> Json:
    """The view with what the person has filled in."""
    kept = view | {"state": {"values": values}}
    ws.store.put("view", view["id"], kept)
    return kept


def shown(view: Json) -> Json:
    """The view as the app and the page get it."""
    return {key: value for key, value in view.items() if key != "user"}


def _live(ws: Workspace) -> list[Json]:
    return [view for user in ws.users() for view in [*stack(ws, user["id"]), home(ws, user["id"])] if view]


def _made(
    ws: Workspace, user: str, view: Json, root: str | None, previous: str | None, old: Json | None = None
) -> Json:
    external_id = view.get("external_id", "")
    owner = find(ws, external_id=external_id) if external_id else None
    if owner and (not old or owner["id"] != old["id"]):
        raise SlackError("duplicate_external_id")
    view_id = old["id"] if old else ws.new_id("V")
    blocks = named(ws, copy.deepcopy(view["blocks"]))
    made: Json = {
        "id": view_id,
        "user": user,
        "team_id": ws.team_id,
        "type": view["type"],
        "blocks": blocks,
        "private_metadata": view.get("private_metadata", ""),
        "callback_id": view.get("callback_id", ""),
        "external_id": external_id,
        "state": {"values": state_of(blocks, old["state"]["values"] if old else {})},
        "hash": f"{int(ws.clock())}.{secrets.token_hex(4)}",
        "clear_on_close": view.get("clear_on_close", False),
        "notify_on_close": view.get("notify_on_close", False),
        "root_view_id": root or view_id,
        "previous_view_id": previous,
        "app_id": ws.app_id,
        "app_installed_team_id": ws.team_id,
        "bot_id": ws.bot_id,
    }
    return made | {key: view.get(key) for key in ("title", "submit", "close")}


def _keep(ws: Workspace, view: Json, stacked: list[str], event: str) -> None:
    with ws.store.together():
        ws.store.put("view", view["id"], view)
        ws.store.put("stack", view["user"], {"views": stacked})
    _tell(ws, view, event)


def _tell(ws: Workspace, view: Json, event: str) -> None:
    kind = {"type": "home"} if view["type"] == "home" else {"type": "view", "event": event}
    ws.streams.publish(kind | {"view": shown(view)}, [view["user"]])
