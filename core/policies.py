"""What differs between two configurations, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.settings import Key, Settings

_TELLS: Final = frozenset(
    {
        "command",
        "rollouts_channel",
        "approvals_channel",
        "channel",
        "at",
        "timezone",
        "weekdays",
        "title",
        "remind_hours",
        "thread_after_minutes",
        "group_after_minutes",
        "direct_after_minutes",
    }
)
"""Settings of how and when people are told; all others, and all of a freeze, decide what may happen."""


@dataclass(frozen=True)
class Difference:
    """One key and what each of two configurations says of it, None where it is not set."""

    key: Key
    before: Any
    after: Any
    was_there: bool = True
    is_there: bool = True
    """False where the metric or the freeze that the key belongs to is in the other configuration alone."""

    @property
    def decides(self) -> bool:
        """True for thresholds, steps, quorums, metrics, freezes and people's rights."""
        return self.key[0] == "freezes" or self.key[-1] not in _TELLS


def differences(before: Settings, after: Settings) -> tuple[Difference, ...]:
    """What differs between two configurations, section by section."""
    old, new = before.values, after.values
    sections = list(Settings.model_fields)
    return tuple(
        Difference(key, old.get(key), new.get(key), _is_there(key, old), _is_there(key, new))
        for key in sorted(dict.fromkeys((*new, *old)), key=lambda key: sections.index(key[0]))
        if old.get(key) != new.get(key)
    )


def _is_there(key: Key, among: Mapping[Key, Any]) -> bool:
    is_of_an_entry = key[0] == "freezes" or key[:2] == ("metrics", "custom")
    return not is_of_an_entry or any(other[:-1] == key[:-1] for other in among)
