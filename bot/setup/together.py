"""Several looks at once, none of which keeps the others waiting for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from core.condition import Trouble, plainly

log = logging.getLogger(__name__)

T = TypeVar("T")
SLOW = "slow"


def together(looks: Mapping[str, Callable[[], T]], within_s: float) -> dict[str, T | Trouble]:
    """What each look finds; `SLOW` where it is not done in time, which is then left behind.

    A defect in one is logged and hides nothing that the others find.
    """
    found: dict[str, T | Trouble] = {}

    def look(name: str) -> None:
        try:
            found[name] = looks[name]()
        except Exception as error:
            log.exception("%s could not be looked at", name)
            found[name] = Trouble(f"{type(error).__name__}: {plainly(error)}")

    threads = [threading.Thread(target=look, args=(name,), name=name, daemon=True) for name in looks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {name: found.get(name, Trouble(SLOW)) for name in looks}
