"""What goes wrong, by Slack's names for it."""

from collections.abc import Iterable
from typing import Any


class SlackError(Exception):
    """A Web API refusal: `error` is Slack's name, `extra` the further fields of the answer."""

    def __init__(self, error: str, messages: Iterable[str] = (), **extra: Any) -> None:
        super().__init__(error)
        self.error = error
        self.extra = extra
        lines = list(messages)
        if lines:
            self.extra["response_metadata"] = {"messages": [f"[ERROR] {line}" for line in lines]}

    def answer(self) -> dict[str, Any]:
        """The body of the refusal."""
        return {"ok": False, "error": self.error, **self.extra}


class RateLimited(SlackError):
    """Refused for being too fast; `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("ratelimited")
        self.retry_after = retry_after


class ActRefused(Exception):
    """A person cannot do this in the workspace; `message` is a plain sentence for them."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


class NotConnected(Exception):
    """The app has no open connection, so nothing can be delivered to it."""


class NotAcknowledged(Exception):
    """The app was sent something and did not acknowledge it properly; `reason` is Slack's retry reason."""

    def __init__(self, reason: str, no_retry: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.no_retry = no_retry
