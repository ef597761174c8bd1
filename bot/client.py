"""Slack's client as deliveries use it."""

from __future__ import annotations

from typing import Any

from slack_sdk import WebClient
from slack_sdk.web import SlackResponse

from bot.meters import Meters


class Client(WebClient):
    """Counts the messages that it posts."""

    def __init__(self, meters: Meters, **about: Any) -> None:
        super().__init__(**about)
        self._meters = meters

    def chat_postMessage(self, **about: Any) -> SlackResponse:  # noqa: N802 - Slack's name
        """Posts a message; the first word of its delivery says what it is about."""
        answered = super().chat_postMessage(**about)
        self._meters.posted(about["metadata"]["event_payload"]["delivery"])
        return answered
