"""What a workspace does not take, as far as it was found out."""

from __future__ import annotations

import time
from collections.abc import Callable

A_DAY_S = 86_400.0


class Abilities:
    """What the workspace was found not to take; tried again after a day, since Slack hands new blocks out in parts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused_at: float | None = None

    @property
    def has_charts(self) -> bool:
        """False where charts were refused less than a day ago."""
        return self._refused_at is None or self._clock() - self._refused_at >= A_DAY_S

    def refused(self) -> None:
        """Charts were refused just now."""
        self._refused_at = self._clock()
