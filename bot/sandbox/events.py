"""Events to the app, repeated when it does not acknowledge them."""

import asyncio
from collections.abc import Sequence

from bot.sandbox import payloads
from bot.sandbox.errors import NotAcknowledged, NotConnected
from bot.sandbox.site import EVENTS_API, Retry, Site
from bot.sandbox.store import Json

RETRY_AFTER_S = (0.0, 60.0, 300.0)


class Events:
    """Sends what happens to the app, each event on its own."""

    def __init__(self, site: Site, retry_after: Sequence[float]) -> None:
        self._site = site
        self._retry_after = retry_after
        self._tasks: set[asyncio.Task[None]] = set()

    def emit(self, body: Json) -> None:
        """Send this event, without waiting."""
        task = asyncio.get_running_loop().create_task(self._send(payloads.event(self._site.ws, body)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, payload: Json) -> None:
        retry = Retry()
        for wait in (*self._retry_after, None):
            try:
                await self._site.delivery.deliver(EVENTS_API, payload, retry)
                return
            except NotConnected:
                reason = "connection_failed"
            except NotAcknowledged as failure:
                reason = failure.reason
                if failure.no_retry:
                    return
            if wait is None:
                return
            await asyncio.sleep(wait)
            retry = Retry(retry.attempt + 1, reason)
