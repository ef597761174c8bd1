"""The stages of a policy version, the legal moves between them, and what the registry is told."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Stage(StrEnum):
    """Where a policy version stands on its way (model-promotion.md, 1)."""

    NONE = "none"
    CANDIDATE = "candidate"
    EXPERIMENT = "experiment"
    PRODUCTION = "production"
    ARCHIVED = "archived"


MOVES: frozenset[tuple[Stage, Stage]] = frozenset(
    {
        (Stage.NONE, Stage.CANDIDATE),
        (Stage.ARCHIVED, Stage.CANDIDATE),  # qualified again after a rollback
        (Stage.CANDIDATE, Stage.EXPERIMENT),
        (Stage.EXPERIMENT, Stage.PRODUCTION),
        (Stage.EXPERIMENT, Stage.ARCHIVED),  # rolled back
        (Stage.EXPERIMENT, Stage.CANDIDATE),  # without fault of its own: another variant took all traffic
        (Stage.PRODUCTION, Stage.ARCHIVED),  # replaced, or rolled back
        (Stage.ARCHIVED, Stage.PRODUCTION),  # restored when its successor is rolled back
    }
)

_FOREMOST = (Stage.PRODUCTION, Stage.EXPERIMENT, Stage.CANDIDATE, Stage.ARCHIVED)


def is_legal(before: Stage, after: Stage) -> bool:
    """True where a policy version may move from `before` to `after`; staying is always legal."""
    return before == after or (before, after) in MOVES


def model_stage(stages: Iterable[Stage]) -> Stage:
    """The stage of a model version that several policy versions use: the foremost of theirs."""
    present = set(stages)
    return next((stage for stage in _FOREMOST if stage in present), Stage.NONE)
