"""One Web API call: its arguments read the way Slack reads them, from a form or from JSON."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from bot.sandbox.errors import SlackError
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace

TRUE = (True, 1, "true", "True", "1")


@dataclass(frozen=True)
class Call:
    """The workspace, and what the app asked with."""

    ws: Workspace
    args: Json

    def has(self, name: str) -> bool:
        """Whether the argument was sent with a value."""
        return self.args.get(name) not in (None, "")

    def text(self, name: str, default: str = "") -> str:
        """A string argument."""
        value = self.args.get(name, default)
        if isinstance(value, (dict, list)):
            raise SlackError("invalid_arguments", [f"must provide a string [json-pointer:/{name}]"])
        return default if value is None else str(value)

    def required(self, name: str) -> str:
        """A string argument that must be there."""
        if not self.has(name):
            raise SlackError("invalid_arguments", [f"missing required field: {name}"])
        return self.text(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean argument."""
        return self.args[name] in TRUE if self.has(name) else default

    def number(self, name: str, default: int, most: int, error: str = "invalid_arguments") -> int:
        """A whole number from 1 to `most`."""
        try:
            value = int(self.text(name) or default)
        except ValueError:
            raise SlackError(error) from None
        if not 1 <= value <= most:
            raise SlackError(error)
        return value

    def known_files(self, value: Any) -> None:
        """Refuse blocks that show a file which is not in the workspace."""
        if isinstance(value, list):
            for item in value:
                self.known_files(item)
        elif isinstance(value, dict):
            wanted = value.get("slack_file")
            if isinstance(wanted, dict):
                file_id = wanted.get("id") or "/".join(str(wanted["url"]).split("/")[-2:-1])
                if (self.ws.store.get("file", file_id) or {}).get("state") != "complete":
                    raise SlackError("invalid_blocks", ["invalid slack file"], errors=["invalid slack file"])
            self.known_files(list(value.values()))

    def json(self, name: str, error: str) -> Any:
        """A structured argument, which a form carries as JSON text."""
        value = self.args.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise SlackError(error) from None

    # -- what arguments refer to -------------------------------------------------------------------------------------

    def channel(self, name: str = "channel") -> Json:
        """The conversation of this id, if the app may know of it."""
        channel_id = self.required(name)
        channel = self.ws.store.get("channel", channel_id) or self.ws.store.get("im", channel_id)
        if not channel or (channel["private"] and self.ws.bot_user_id not in channel["members"]):
            raise SlackError("channel_not_found")
        return channel

    def joined(self, channel: Json) -> Json:
        """The conversation, if the app is in it."""
        if self.ws.bot_user_id not in channel["members"]:
            raise SlackError("not_in_channel")
        return channel

    def user(self, name: str = "user") -> Json:
        """The person of this id."""
        user = self.ws.store.get("user", self.required(name))
        if not user:
            raise SlackError("user_not_found")
        return user

    def need(self, scope: str) -> None:
        """Refuse if the app was not given this scope."""
        if scope not in self.ws.manifest.scopes:
            raise missing_scope(self.ws, scope)

    def need_for(self, channel: Json, verb: str) -> None:
        """Refuse if the app lacks the scope for this kind of conversation, such as `groups:history`."""
        self.need(f"{family(channel)}:{verb}")

    # -- pages -------------------------------------------------------------------------------------------------------

    def page(self, items: list[Json], default: int, most: int = 999) -> tuple[list[Json], str]:
        """The items from the cursor on, and the cursor of those that follow (empty at the end)."""
        size = self.number("limit", default, most, "invalid_limit")
        start = self._start(len(items))
        rest = start + size
        return items[start:rest], base64.b64encode(f"next:{rest}".encode()).decode() if rest < len(items) else ""

    def _start(self, most: int) -> int:
        if not self.has("cursor"):
            return 0
        try:
            word, number = base64.b64decode(self.text("cursor"), validate=True).decode().split(":")
            start = int(number)
        except (ValueError, binascii.Error):
            raise SlackError("invalid_cursor") from None
        if word != "next" or not 0 < start <= most:
            raise SlackError("invalid_cursor")
        return start


def missing_scope(ws: Workspace, scope: str) -> SlackError:
    """Slack's answer to an app without the scope."""
    return SlackError("missing_scope", needed=scope, provided=",".join(sorted(ws.manifest.scopes)))


def family(channel: Json) -> str:
    """The scope family of a conversation."""
    if "user" in channel:
        return "im"
    return "groups" if channel["private"] else "channels"
