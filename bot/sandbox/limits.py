"""Slack's rate limits: calls per method and minute, and one chat.postMessage per channel and second."""

import math
from collections import defaultdict, deque
from collections.abc import Callable

from bot.sandbox.errors import RateLimited

WINDOW_S = 60.0
BETWEEN_POSTS_S = 1.0


class Limits:
    """Counts calls; `on` switches the counting and the refusing."""

    def __init__(self, clock: Callable[[], float], on: bool) -> None:
        self.on = on
        self._clock = clock
        self._calls: dict[str, deque[float]] = defaultdict(deque)
        self._posts: dict[str, float] = {}

    def count(self, method: str, per_minute: int) -> None:
        """One more call of the method; RateLimited if it is one too many."""
        if not self.on:
            return
        now, calls = self._clock(), self._calls[method]
        while calls and calls[0] <= now - WINDOW_S:
            calls.popleft()
        if len(calls) >= per_minute:
            raise RateLimited(max(1, math.ceil(calls[0] + WINDOW_S - now)))
        calls.append(now)

    def count_post(self, channel: str) -> None:
        """One more message to the channel; RateLimited within a second of the last."""
        if not self.on:
            return
        now = self._clock()
        if now - self._posts.get(channel, -math.inf) < BETWEEN_POSTS_S:
            raise RateLimited(1)
        self._posts[channel] = now
