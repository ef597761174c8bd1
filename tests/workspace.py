"""People in a sandbox workspace, as stories need them: they type, see, wait, click and fill in, through /control only.

ws = Workspace(sandbox)
alice = ws.person("alice")
alice.types("/rollout status fraud", channel="ml-rollouts")
message = alice.waits_for("needs a second approval", channel="ml-rollouts")
alice.clicks(message, "Approve", confirm=True)
alice.submits(alice.modal(), {"Reason": "looks right"})
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from bot.sandbox import Sandbox

Json = dict[str, Any]
T = TypeVar("T")
STEP_S = 0.02
PLACES = ("accessory", "element")
# type of an element -> the key its state keeps the value under
STATE_KEYS = {
    "plain_text_input": "value",
    "number_input": "value",
    "static_select": "selected_option",
    "multi_static_select": "selected_options",
    "radio_buttons": "selected_option",
    "checkboxes": "selected_options",
    "overflow": "selected_option",
    "users_select": "selected_user",
    "multi_users_select": "selected_users",
    "conversations_select": "selected_conversation",
    "datepicker": "selected_date",
    "timepicker": "selected_time",
}


class Refusal(AssertionError):
    """The workspace did not let this happen; `error` is its name for why."""

    def __init__(self, answer: Json) -> None:
        super().__init__(f"{answer.get('error')}: {answer.get('message')}")
        self.error = str(answer.get("error"))


@dataclass(frozen=True)
class Reply:
    """Whether the app acknowledged within three seconds, and after how many milliseconds."""

    acked: bool
    ms: float


@dataclass(frozen=True)
class Submission:
    """What became of a modal: `closed`, `errors`, `updated` or `pushed`; errors by block_id."""

    response: str
    errors: Mapping[str, str] = field(default_factory=dict)


class Workspace:
    """The control interface of a sandbox; everything else here goes through it."""

    def __init__(self, sandbox: Sandbox | str) -> None:
        url = sandbox if isinstance(sandbox, str) else sandbox.url
        self._http = httpx.Client(base_url=f"{url}/control/", timeout=30, trust_env=False, verify=False)

    def close(self) -> None:
        """Close the connections to the sandbox."""
        self._http.close()

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def get(self, name: str, **query: str) -> Json:
        """Read from the control interface; Refusal if it says no."""
        return _answer(self._http.get(name, params=query))

    def post(self, name: str, **body: Any) -> Json:
        """Do something through the control interface; Refusal if it says no."""
        return _answer(self._http.post(name, json=body))

    def person(self, handle: str) -> "Person":
        """Somebody of the workspace, by handle or id."""
        for user in self.state()["users"]:
            if handle.lstrip("@") in (user["id"], user["handle"]):
                return Person(self, user)
        raise Refusal({"error": "user_not_found", "message": handle})

    def state(self) -> Json:
        """People, channels, groups, commands and the app."""
        return self.get("state")

    def channel(self, name: str) -> Json:
        """The channel of this name or id."""
        for channel in self.state()["channels"]:
            if name.lstrip("#") in (channel["id"], channel["name"]):
                return dict(channel)
        raise Refusal({"error": "channel_not_found", "message": name})

    def requests(self, method: str = "") -> list[Json]:
        """Every Web API call and delivery so far, or only those of one method or kind."""
        entries: list[Json] = self.get("requests")["requests"]
        return [entry for entry in entries if not method or method in (entry.get("method"), entry.get("kind"))]

    def fails(self, method: str, kind: str, **more: Any) -> None:
        """Let the next call of `method` fail: ratelimited, server_error, drop_before, drop_after, slow or error."""
        self.post("faults", method=method, kind=kind, **more)

    def fails_no_more(self) -> None:
        """Take back every fault that is still waiting."""
        _answer(self._http.delete("faults"))

    def admin(self, do: str, **more: Any) -> None:
        """Archive, leave, revoke_token, deactivate and so on; see bot/sandbox/admin.py."""
        self.post("admin", do=do, **more)

    def socket(self, do: str) -> None:
        """Drop, refresh, warning or duplicate_next."""
        self.post("socket", do=do)

    def waits_until_connected(self, timeout: float = 25) -> None:
        """Returns once the app has a connection."""
        waits_until(lambda: self.state()["app"]["connected"], timeout, "the app to connect")


class Person:
    """Somebody at their Slack client."""

    def __init__(self, workspace: Workspace, user: Json) -> None:
        self._ws = workspace
        self._filled: dict[str, Json] = {}
        self.id: str = user["id"]
        self.handle: str = user["handle"]

    # -- messages ----------------------------------------------------------------------------------------------------

    def types(self, text: str, channel: str, thread_ts: str = "") -> Reply:
        """Type a slash command, or else a plain message, which needs no acknowledgement."""
        where = {"user": self.id, "channel": self._place(channel), "text": text}
        if text.startswith("/"):
            return _reply(self._ws.post("command", **where))
        self._ws.post("message", **where, **({"thread_ts": thread_ts} if thread_ts else {}))
        return Reply(True, 0.0)

    def sees(self, channel: str) -> list[Json]:
        """All messages of a channel (`app` is the direct message with the app), oldest first, with own ephemerals."""
        found: list[Json] = self._ws.get("messages", channel=self._place(channel), user=self.id)["messages"]
        return found

    def waits_for(self, text: str, channel: str, timeout: float = 25) -> Json:
        """The newest message with this text in it, in its text or anywhere in its blocks."""

        def look() -> Json | None:
            return next((message for message in reversed(self.sees(channel)) if text in text_of(message)), None)

        try:
            return waits_until(look, timeout, "")
        except AssertionError:
            seen = "\n---\n".join(text_of(message) for message in self.sees(channel)) or "nothing"
            raise AssertionError(f"{self.handle} waited {timeout} s for {text!r} and sees:\n{seen}") from None

    def clicks(self, where: Json, what: str, confirm: bool = False) -> Reply:
        """Press the button (by its words or its action_id) of a message, a modal or the Home tab."""
        return self._acts(where, what, {}, confirm)

    def chooses(self, where: Json, what: str, value: Any, confirm: bool = False) -> Reply:
        """Choose in an element (by action_id, label or placeholder) of a message, a modal or the Home tab."""
        _, element = _element(where, what)
        return self._acts(where, what, element_state(element, value), confirm)

    def _acts(self, where: Json, what: str, chosen: Json, confirm: bool) -> Reply:
        block, element = _element(where, what)
        place: Json = {"view_id": where["id"]} if "hash" in where else {"channel": where["channel"], "ts": where["ts"]}
        state = {"state": self._filled.get(where["id"], {})} if "hash" in where else {}
        names = {"block_id": block["block_id"], "action_id": element["action_id"], "confirmed": confirm}
        return _reply(self._ws.post("action", user=self.id, **place, **names, **state, **_without_type(chosen)))

    # -- modals and Home ---------------------------------------------------------------------------------------------

    def modal(self, timeout: float = 25, text: str = "") -> Json:
        """The modal on top, once there is one (with this text in it)."""

        def look() -> Json | None:
            stack = self.modals()
            return stack[-1] if stack and text in text_of(stack[-1]) else None

        return waits_until(look, timeout, f"a modal with {text!r}; open: {[text_of(view) for view in self.modals()]}")

    def modals(self) -> list[Json]:
        """Every open modal, the one on top last."""
        found: list[Json] = self._ws.get("views", user=self.id)["stack"]
        return found

    def fills(self, view: Json, values: Mapping[str, Any]) -> None:
        """Fill inputs in, by label or block_id; they go along with the next click or submission in this view."""
        self._filled.setdefault(view["id"], {}).update(states(view, values))

    def submits(self, view: Json, values: Mapping[str, Any] | None = None) -> Submission:
        """Fill the rest in and send the modal off."""
        self.fills(view, values or {})
        filled = self._filled.pop(view["id"])
        answer = self._ws.post("submit", user=self.id, view_id=view["id"], values=filled)
        return Submission(answer["response"], answer.get("errors", {}))

    def closes(self, view: Json) -> None:
        """Close a modal without sending it off."""
        self._filled.pop(view["id"], None)
        self._ws.post("close", user=self.id, view_id=view["id"])

    def home(self, timeout: float = 25, text: str = "") -> Json:
        """Open the app's Home tab: what it shows once it shows something (with this text in it)."""
        self._ws.post("home_opened", user=self.id)
        return self.at_home(timeout, text)

    def at_home(self, timeout: float = 25, text: str = "") -> Json:
        """What the Home tab that is open shows, once this text is in it."""

        def look() -> Json | None:
            view: Json | None = self._ws.get("home", user=self.id)["view"]
            return view if view and text in text_of(view) else None

        return waits_until(look, timeout, f"a Home tab with {text!r}")

    def _place(self, channel: str) -> str:
        if channel != "app":
            return channel
        return next(str(im["id"]) for im in self._ws.state()["ims"] if im["user"] == self.id)


# -- reading and filling in ------------------------------------------------------------------------------------------


def text_of(shown: Any) -> str:
    """All visible text of a message or view, one piece a line."""
    return "\n".join(_texts(shown))


def element_state(element: Json, value: Any) -> Json:
    """Slack's state of an element holding this value; options by their words or their value."""
    key = STATE_KEYS[element["type"]]
    if key == "selected_options":
        chosen: Any = [_option(element, each) for each in ([value] if isinstance(value, str) else value)]
    elif key == "selected_option":
        chosen = None if value is None else _option(element, value)
    else:
        chosen = value if isinstance(value, list) or value is None else str(value)
    return {"type": element["type"], key: chosen}


def states(view: Json, values: Mapping[str, Any]) -> Json:
    """`{block_id: {action_id: state}}` for values given by label, block_id or action_id."""
    found: Json = {}
    for name, value in values.items():
        block, element = _element(view, name)
        found.setdefault(block["block_id"], {})[element["action_id"]] = element_state(element, value)
    return found


def waits_until(look: Callable[[], T | None], timeout: float, what: str) -> T:
    """The first true thing `look` finds; AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(STEP_S)


def _texts(shown: Any) -> Iterator[str]:
    if isinstance(shown, list):
        for item in shown:
            yield from _texts(item)
    elif isinstance(shown, dict):
        for key, item in shown.items():
            if isinstance(item, str):
                yield from [item] if key in ("text", "alt_text") and item else []
            elif key not in ("metadata", "state"):
                yield from _texts(item)


def _element(where: Json, what: str) -> tuple[Json, Json]:
    found = [(block, element) for block in where.get("blocks", []) for element in _elements(block)]
    for same in (_is, _has):
        for block, element in found:
            if any(same(name, what) for name in _names(block, element)):
                return block, element
    raise AssertionError(f"no {what!r} in:\n{text_of(where)}")


def _is(name: str, what: str) -> bool:
    return name == what


def _has(name: str, what: str) -> bool:
    return what in name


def _elements(block: Json) -> list[Json]:
    found = [block[key] for key in PLACES if key in block] + list(block.get("elements", []))
    return [element for element in found if element.get("action_id")]


def _names(block: Json, element: Json) -> list[str]:
    words = [element.get("text", {}), element.get("placeholder", {}), block.get("label", {})]
    return [element["action_id"], block["block_id"], *(each["text"] for each in words if "text" in each)]


def _option(element: Json, wanted: str) -> Json:
    grouped = [option for group in element.get("option_groups", []) for option in group["options"]]
    options = [*element.get("options", []), *grouped]
    for option in options:
        if wanted in (option["value"], option["text"]["text"]):
            return dict(option)
    raise AssertionError(f"no option {wanted!r} among {[option['text']['text'] for option in options]}")


def _without_type(state: Json) -> Json:
    return {key: value for key, value in state.items() if key != "type"}


def _reply(answer: Json) -> Reply:
    return Reply(bool(answer["acked"]), float(answer["ms"]))


def _answer(response: httpx.Response) -> Json:
    answer: Json = response.json()
    if not answer.get("ok"):
        raise Refusal(answer)
    return answer
