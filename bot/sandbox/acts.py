"""What people do in the workspace, and what the app's acknowledgement makes of it."""

import re
import time
from collections.abc import Callable

from bot.sandbox import inputs, messages, payloads, tickets, views
from bot.sandbox.answers import say
from bot.sandbox.checks import check_view
from bot.sandbox.errors import ActRefused, NotAcknowledged, NotConnected, SlackError
from bot.sandbox.seed import Command
from bot.sandbox.site import INTERACTIVE, SLASH_COMMANDS, Ack, Site
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

TROUBLE = "We had some trouble connecting. Try again?"
FAILED = '{command} failed with the error "{error}"'
LATE = "{command} failed because the app did not respond (operation_timeout). Try again, or ask whoever runs the app."


async def command(site: Site, user: Json, channel: Json, text: str) -> Json:
    """Type a slash command; answers once the app acknowledged it or the time is up."""
    ws = site.ws
    name, _, rest = text.strip().partition(" ")
    known = next((each for each in ws.manifest.commands if each.command == name), None)
    if not known:
        messages.system(ws, channel, user["id"], f"{name} is not a valid command.")
        raise ActRefused("unknown_command", f"{name} is not a valid command.")
    member_of(user, channel)
    payload = payloads.command(ws, user, channel, name, _typed(ws, known, rest.strip()))
    started = time.monotonic()
    try:
        ack = await site.delivery.deliver(SLASH_COMMANDS, payload)
        if ack.payload:
            record = {"user": user["id"], "channel": channel["id"], "message_ts": None}
            with ws.store.together():
                say(ws, record, ack.payload)
    except NotConnected:
        return _failed(site, user, channel, started, FAILED.format(command=name, error="dispatch_failed"))
    except NotAcknowledged as failure:
        words = LATE if "timeout" in failure.reason else FAILED
        return _failed(site, user, channel, started, words.format(command=name, error="dispatch_failed"))
    except SlackError:
        return _failed(site, user, channel, started, FAILED.format(command=name, error="invalid_command_response"))
    return _acked(ack)


def write(ws: Workspace, user: Json, channel: Json, text: str, thread_ts: str) -> Json:
    """Type a plain message."""
    member_of(user, channel)
    if not text.strip():
        raise ActRefused("no_text", "There is nothing to send.")
    parent = messages.find(ws, channel["id"], thread_ts) if thread_ts else None
    if thread_ts and (not parent or parent.get("ephemeral") or parent.get("thread_ts")):
        raise ActRefused("thread_not_found", "There is no such message to answer.")
    return messages.post(ws, channel, user["id"], escaped(ws, text), thread_ts=thread_ts)


async def act_on_message(site: Site, user: Json, channel: Json, message: Json, given: Json) -> Json:
    """Use an element of a message."""
    blocks = message.get("blocks", [])
    element, action = _action(site.ws, blocks, given)
    state = inputs.state_of(blocks, given.get("state") or {})
    _remember(state, given["block_id"], element, action)
    payload = payloads.message_action(site.ws, user, channel, message, action, state)
    return await _deliver_action(site, user, payload)


async def act_on_view(site: Site, user: Json, view: Json, given: Json) -> Json:
    """Use an element of a modal or of the Home tab."""
    element, action = _action(site.ws, view["blocks"], given)
    values = filled(view, given.get("state") or {})
    _remember(values, given["block_id"], element, action)
    view = views.keep_state(site.ws, view, values)
    return await _deliver_action(site, user, payloads.view_action(site.ws, user, view, action))


async def submit(site: Site, user: Json, view: Json, values: Json) -> Json:
    """Send a modal off: what the client checks first, then what the app makes of it."""
    ws = site.ws
    if not view.get("submit"):
        raise ActRefused("no_submit", "This modal has nothing to submit.")
    if views.stack(ws, user["id"])[-1]["id"] != view["id"]:
        raise ActRefused("not_on_top", "Another modal is on top of this one.")
    view = views.keep_state(ws, view, filled(view, values))
    complaints = inputs.missing_or_wrong(view["blocks"], view["state"]["values"])
    if complaints:
        return {"response": "errors", "errors": complaints}
    payload = payloads.view_submission(ws, user, view, _response_urls(ws, user, view))
    try:
        ack = await site.delivery.deliver(INTERACTIVE, payload)
        with ws.store.together():
            return _respond(ws, view, ack.payload)
    except (NotConnected, NotAcknowledged, SlackError) as failure:
        ws.streams.publish({"type": "failed", "what": "submission", "text": TROUBLE}, [user["id"]])
        error = failure.error if isinstance(failure, SlackError) else "operation_timeout"
        raise ActRefused(error, TROUBLE) from None


async def close(site: Site, user: Json, view: Json) -> Json:
    """Close a modal, and with `clear_on_close` the whole stack; the app is told where it asked for that."""
    cleared = bool(view["clear_on_close"])
    for closed in views.close_view(site.ws, view, clear=cleared):
        if closed["notify_on_close"]:
            payload = payloads.view_closed(site.ws, user, closed, cleared)
            try:
                await site.delivery.deliver(INTERACTIVE, payload)
            except (NotConnected, NotAcknowledged):
                site.ws.streams.publish({"type": "failed", "what": "action", "text": TROUBLE}, [user["id"]])
    return {}


def open_home(ws: Workspace, user: Json) -> Json:
    """Look at the app's Home tab."""
    if not ws.manifest.home_tab:
        raise ActRefused("not_enabled", "This app has no Home tab.")
    if "app_home_opened" in ws.manifest.events:
        ws.emit(payloads.home_opened(ws, user))
    return {}


def member_of(user: Json, channel: Json) -> None:
    """Refuse somebody who cannot write here."""
    if channel["archived"]:
        raise ActRefused("is_archived", "This channel is archived.")
    if user["id"] not in channel["members"]:
        raise ActRefused("not_in_channel", f"{user['name']} is not a member of this channel.")


def filled(view: Json, given: Json) -> Json:
    """The view's state with what the person filled in now; refused if the view has no such input."""
    values = inputs.state_of(view["blocks"], view["state"]["values"])
    for block_id, actions in given.items():
        for action_id, state in actions.items():
            element = inputs.find_element(view["blocks"], block_id, action_id)
            if element["type"] in inputs.INPUTS:
                values[block_id][action_id] = inputs.taken_state(element, state)
    return values


def escaped(ws: Workspace, text: str) -> str:
    """What a person typed as Slack passes it on: entities escaped, @names and #channels as references."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    handles = {user["handle"]: f"<@{user['id']}>" for user in ws.users()}
    names = {channel["name"]: f"<#{channel['id']}|{channel['name']}>" for channel in ws.channels()}
    text = re.sub(r"(?<!\w)@([\w.-]+)", lambda found: handles.get(found[1], found[0]), text)
    return re.sub(r"(?<!\w)#([\w-]+)", lambda found: names.get(found[1], found[0]), text)


def _typed(ws: Workspace, known: Command, text: str) -> str:
    return escaped(ws, text) if known.should_escape else text


def _action(ws: Workspace, blocks: list[Json], given: Json) -> tuple[Json, Json]:
    block_id = str(given.get("block_id", ""))
    element = inputs.find_element(blocks, block_id, str(given.get("action_id", "")))
    block = next(block for block in blocks if block["block_id"] == block_id)
    if block["type"] == "input" and not block.get("dispatch_action"):
        raise ActRefused("no_dispatch", "This input is only sent along with the modal.")
    if "confirm" in element and not given.get("confirmed"):
        raise ActRefused("not_confirmed", "This needs to be confirmed first.")
    state: Json = {}
    if element["type"] == "overflow":
        state = {"selected_option": inputs.offered(element, given.get("selected_option", given.get("value")))}
    elif element["type"] in inputs.INPUTS:
        state = inputs.taken_state(element, given)
    return element, payloads.action_of(ws, element, block_id, state)


def _remember(values: Json, block_id: str, element: Json, action: Json) -> None:
    if element["type"] in inputs.INPUTS:
        key = inputs.INPUTS[element["type"]].key
        values[block_id][element["action_id"]] = {"type": element["type"], key: action[key]}


async def _deliver_action(site: Site, user: Json, payload: Json) -> Json:
    started = time.monotonic()
    try:
        return _acked(await site.delivery.deliver(INTERACTIVE, payload))
    except (NotConnected, NotAcknowledged):
        site.ws.streams.publish({"type": "failed", "what": "action", "text": TROUBLE}, [user["id"]])
        return {"acked": False, "ms": _ms(started)}


def _respond(ws: Workspace, view: Json, answer: Json) -> Json:
    action = answer.get("response_action")
    if not action:
        if answer:
            raise SlackError("invalid_response")
        views.close_view(ws, view)
        return {"response": "closed"}
    respond = RESPONSES.get(action)
    if not respond:
        raise SlackError("invalid_response_action")
    return respond(ws, view, answer)


def _errors(ws: Workspace, view: Json, answer: Json) -> Json:
    errors = answer.get("errors")
    known = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
    if not isinstance(errors, dict) or not errors or not set(errors) <= known:
        raise SlackError("invalid_response_errors")
    if not all(isinstance(text, str) and text for text in errors.values()):
        raise SlackError("invalid_response_errors")
    return {"response": "errors", "errors": errors}


def _update(ws: Workspace, view: Json, answer: Json) -> Json:
    views.update_view(ws, view, _view_of(answer))
    return {"response": "updated"}


def _push(ws: Workspace, view: Json, answer: Json) -> Json:
    views.push_view(ws, view["user"], _view_of(answer))
    return {"response": "pushed"}


def _clear(ws: Workspace, view: Json, answer: Json) -> Json:
    views.close_view(ws, view, clear=True)
    return {"response": "closed"}


RESPONSES: dict[str, Callable[[Workspace, Json, Json], Json]] = {
    "errors": _errors,
    "update": _update,
    "push": _push,
    "clear": _clear,
}


def _view_of(answer: Json) -> Json:
    return check_view(answer.get("view"), "modal")


def _response_urls(ws: Workspace, user: Json, view: Json) -> list[Json]:
    found = []
    for block in view["blocks"]:
        element = block.get("element", {})
        if element.get("response_url_enabled"):
            state = view["state"]["values"][block["block_id"]][element["action_id"]]
            channel = state["selected_conversation"]
            url = tickets.new_response_url(ws, user["id"], channel, None)
            place = {"block_id": block["block_id"], "action_id": element["action_id"], "channel_id": channel}
            found += [{**place, "response_url": url}] if channel else []
    return found


def _acked(ack: Ack) -> Json:
    return {"acked": True, "ms": ack.ms}


def _ms(started: float) -> float:
    return round((time.monotonic() - started) * 1_000, 1)


def _failed(site: Site, user: Json, channel: Json, started: float, text: str) -> Json:
    messages.system(site.ws, channel, user["id"], text)
    site.ws.streams.publish({"type": "failed", "what": "command", "text": text}, [user["id"]])
    return {"acked": False, "ms": _ms(started)}
