"""Slack's client as deliveries use it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slack_sdk import WebClient
from slack_sdk.web import SlackResponse

from bot.manifest import NAME
from bot.meters import Meters

INVITE = f"/invite @{NAME}"


class Client(WebClient):
    """Counts the messages that it posts, and keeps whether it is in the channels that it posts to."""

    def __init__(self, meters: Meters, posts_to: Collection[str] = (), **about: Any) -> None:
        """The channels are known by their names, or by their ids."""
        super().__init__(**about)
        self._meters = meters
        self._posts_to = {name.removeprefix("#") for name in posts_to}
        self._is_member: dict[str, bool] = {}

    def conversations_list(self, **about: Any) -> SlackResponse:
        """Lists channels."""
        answered = super().conversations_list(**about)
        for one in answered["channels"]:
            for known_as in self._posts_to & {one["name"], one["id"]}:
                self._is_member[known_as] = bool(one.get("is_member"))
        return answered

    def closed(self) -> list[str]:
        """Of the channels that it posts to, those that it cannot post to by what was listed: each in a sentence."""
        says = {
            False: "#{}: the bot is not in it, so it cannot post; type in it: {}",
            None: "#{} is no channel that the bot sees, so it cannot post; create it and type in it: {}",
        }
        found = ((name, self._is_member.get(name)) for name in sorted(self._posts_to))
        return [says[there].format(name, INVITE) for name, there in found if not there]

    def chat_postMessage(self, **about: Any) -> SlackResponse:  # noqa: N802 - Slack's name
        """Posts a message; the first word of its delivery says what it is about."""
        answered = super().chat_postMessage(**about)
        self._meters.posted(about["metadata"]["event_payload"]["delivery"])
        return answered
