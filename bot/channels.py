"""Slack channels by the names in the configuration."""

from __future__ import annotations

from slack_sdk import WebClient


class Channels:
    """Channel names -> ids; read once, and again when a name is not known yet."""

    def __init__(self, client: WebClient) -> None:
        self._client = client
        self._ids: dict[str, str] = {}

    def id_of(self, name: str) -> str:
        """The id of a channel.

        Raises:
            LookupError: where the bot sees no such channel.
        """
        wanted = name.removeprefix("#")
        if wanted not in self._ids:
            self.read()
        if wanted in self._ids:
            return self._ids[wanted]
        raise LookupError(f"the bot sees no channel {name}: invite it there, or name another in the configuration")

    def mention(self, name: str) -> str:
        """A link to a channel where it is known, else its name; never waits for Slack."""
        known = self._ids.get(name.removeprefix("#"))
        return f"<#{known}>" if known else f"#{name.removeprefix('#')}"

    def read(self) -> None:
        """Reads the channels that the bot can see."""
        cursor = ""
        while True:
            page = self._client.conversations_list(
                types="public_channel,private_channel", exclude_archived=True, limit=200, cursor=cursor
            )
            for channel in page["channels"]:
                self._ids |= {channel["name"]: channel["id"], channel["id"]: channel["id"]}
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return
