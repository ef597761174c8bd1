"""The platform's acceptance rule for offline replay: may this model version become a candidate?"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.rules.decision import CheckRow

SCORES = (
    "constraint_respect_score",
    "plan_alignment_score",
    "edit_distance_score",
    "diversity_score",
    "leftovers_score",
)
"""The five scores of a replay; all lie between 0 and 1 and higher is better."""


# A share of the baseline computed in binary may miss an equal score by far less than this; stored scores have six
# decimals, so it lets nothing through that is worse.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Criterion:
    """One acceptance criterion: `passes` is asked with the score and the baseline's score."""

    score: str
    title: str
    wording: str
    passes: Callable[[float, float], bool]
    needs_baseline: bool = True


def _at_least(part: float) -> Callable[[float, float], bool]:
    return lambda value, baseline: value >= part * baseline - _ROUNDING


CRITERIA: tuple[Criterion, ...] = (
    Criterion(
        "constraint_respect_score", "Constraint respect", "= 1", lambda value, _: value == 1.0, needs_baseline=False
    ),
    Criterion("plan_alignment_score", "Plan alignment", "≥ baseline", operator.ge),
    Criterion("edit_distance_score", "Edit distance score", "≥ baseline", operator.ge),
    Criterion("diversity_score", "Diversity", "≥ 0.95 × baseline", _at_least(0.95)),
    Criterion("leftovers_score", "Leftovers", "≥ 0.95 × baseline", _at_least(0.95)),
)

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Acceptance:
    """The outcome of one evaluation, criterion by criterion, and where the pipeline disagrees."""

    rows: tuple[CheckRow, ...]
    pipeline_verdict: bool | None

    @property
    def passed(self) -> bool:
        """True where every criterion passes and the pipeline's own verdict does not contradict it."""
        return all(row.passed for row in self.rows) and self.pipeline_verdict is not False

    @property
    def disagreement(self) -> str | None:
        """One sentence where the pipeline's stored verdict and the criteria differ."""
        by_rule = all(row.passed for row in self.rows)
        if self.pipeline_verdict is None or self.pipeline_verdict == by_rule:
            return None
        words = {True: "passed", False: "failed"}
        return f"The pipeline stored “{words[self.pipeline_verdict]}”, the criteria say “{words[by_rule]}”: not passed."


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _row(criterion: Criterion, scores: Scores, baseline: Scores) -> CheckRow:
    value, base = _number(scores.get(criterion.score)), _number(baseline.get(criterion.score))
    if value is None or (criterion.needs_baseline and base is None):
        missing = "the score is missing" if value is None else "the baseline's score is missing"
        return CheckRow(criterion.title, None, f"{missing} ({criterion.wording})")
    against = f", baseline {base:.4f}" if criterion.needs_baseline and base is not None else ""
    passed = criterion.passes(value, base or 0.0)
    return CheckRow(criterion.title, passed, f"{value:.4f} ({criterion.wording}{against})")


def accept(scores: Scores, baseline: Scores, pipeline_verdict: bool | None = None) -> Acceptance:
    """Judges one replay against its baseline on the same dataset; a missing score never passes."""
    return Acceptance(tuple(_row(criterion, scores, baseline) for criterion in CRITERIA), pipeline_verdict)
