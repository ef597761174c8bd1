"""What differs between two configurations, key by key; and what one names that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import faults
from core.settings import Key, Settings
from core.tables import Experiment

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


def strangers(session: Session, settings: Settings) -> list[str]:
    """What the configuration says of experiments that there are not: a sentence for each."""
    named = {name: f"[experiments.{name}]" for name in settings.experiments}
    named |= {name: f"the freeze {freeze.name}" for freeze in settings.freezes for name in freeze.experiments}
    if not named:
        return []
    there = set(session.scalars(select(Experiment.name)))
    return [
        f"{where} is about an experiment that is not there: {name}{faults.nearest(name, there)}"
        for name, where in named.items()
        if name not in there
    ]
