"""Threads that go on with the id of what hands work to them, and that can be given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Pool(ThreadPoolExecutor):
    """Some threads, by name."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._held: set[Future[Any]] = set()

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Does it in one of the threads.

        Raises:
            RuntimeError: where it was finished.
        """
        made = super().submit(copy_context().run, work, *args, **kwargs)
        self._held.add(made)
        made.add_done_callback(self._held.discard)
        return made

    def finish(self, until: float) -> int:
        """Waits for what is held, until this moment of the monotonic clock, and takes no more; how much is left."""
        while (held := self._held.copy()) and (rest := until - time.monotonic()) > 0:
            wait(held, rest)
        self.shutdown(wait=False)
        return len(held)

    def give_up(self) -> None:
        """What was not begun is never done."""
        self.shutdown(wait=False, cancel_futures=True)
