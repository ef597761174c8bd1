"""Holds on to the lead while the bot runs, and says in the log when it is gained and lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bot.pulse import Pulse
from core.leader import HEARTBEAT_S, Leadership

log = logging.getLogger(__name__)

STOP_S = 2


def _beat(lead: Leadership, gained: Callable[[], None]) -> str:
    """One heartbeat; what is wrong, where without a database there is no lead and the next heartbeat tries again."""
    led = lead.is_held
    try:
        lead.beat()
    except Exception as error:
        return str(error).partition("\n")[0]
    if lead.is_held and not led:
        log.info("this process leads: scheduled jobs run here")
        gained()
    return ""


@contextmanager
def leading(lead: Leadership, gained: Callable[[], None], stopping: threading.Event, pulse: Pulse) -> Iterator[None]:
    """Tries for the lead and keeps it until `stopping` is set, at the latest at the end of the block.

    Then it is let go at once. `gained` is called each time it is got.
    """

    def hold() -> None:
        known = ""
        while not stopping.is_set():
            pulse.beat()
            trouble = _beat(lead, gained)
            if trouble and trouble != known:
                log.warning("this process does not lead: %s", trouble)
            known = trouble
            stopping.wait(HEARTBEAT_S)
        led = lead.is_held
        lead.let_go()
        if led:
            log.info("the lead is let go: this process stops")

    thread = threading.Thread(target=hold, name="lead", daemon=True)
    thread.start()
    pulse.needs(thread)
    pulse.leads = lambda: lead.is_held
    try:
        yield
    finally:
        stopping.set()
        thread.join(STOP_S)
