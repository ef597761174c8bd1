"""Tells the pages that are open what changed."""

import asyncio
from collections.abc import Collection

from bot.sandbox.store import Json


class Streams:
    """One queue per open page; what is published reaches the pages of the people named."""

    def __init__(self) -> None:
        self._open: list[tuple[str, asyncio.Queue[Json]]] = []

    def open(self, user: str) -> asyncio.Queue[Json]:
        """A queue that gets everything this person may see from now on."""
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self._open.append((user, queue))
        return queue

    def close(self, queue: asyncio.Queue[Json]) -> None:
        """Publish no more to this queue."""
        self._open = [(user, each) for user, each in self._open if each is not queue]

    def publish(self, change: Json, to: Collection[str] | None = None) -> None:
        """Tell the people named, or everybody."""
        for user, queue in self._open:
            if to is None or user in to:
                queue.put_nowait(change)
