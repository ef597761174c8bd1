"""Failures on order, and the record of what the app called and was sent."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from bot.sandbox.store import Json

KINDS = ("ratelimited", "server_error", "drop_before", "drop_after", "slow", "error")
MOST_KEPT = 20_000


@dataclass
class Fault:
    """The next `times` calls of `method` (`*` for all) fail in this way."""

    method: str
    kind: str
    error: str = "fatal_error"
    seconds: float = 1.0
    times: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")


@dataclass
class Faults:
    """What is still to fail."""

    waiting: list[Fault] = field(default_factory=list)

    def order(self, wanted: Json) -> Fault:
        """One more failure; ValueError or TypeError if it is none of the known ones."""
        fault = Fault(**wanted)
        self.waiting.append(fault)
        return fault

    def take(self, method: str) -> Fault | None:
        """The failure meant for this call, used up by it."""
        for fault in self.waiting:
            if fault.method in (method, "*"):
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                return fault
        return None

    def shown(self) -> list[Json]:
        """What is still to fail, as JSON."""
        return [asdict(fault) for fault in self.waiting]


class Log:
    """Every Web API call and every delivery, newest last."""

    def __init__(self) -> None:
        self._entries: deque[Json] = deque(maxlen=MOST_KEPT)

    def add(self, **entry: Any) -> Json:
        """Keep an entry; answers it, so that what comes out later can be added."""
        self._entries.append(entry)
        return entry

    def entries(self) -> list[Json]:
        """Everything kept."""
        return list(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
