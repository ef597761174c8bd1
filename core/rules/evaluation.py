"""The platform's acceptance rule for offline replay: may this model version become a candidate?"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Criterion:
    """One acceptance criterion: `bound` gives the least value that passes, from the baseline's value."""

    score: str
    title: str
    wording: str
    bound: Callable[[float], float]
    needs_baseline: bool = True


CRITERIA: tuple[Criterion, ...] = (
    Criterion("constraint_respect_score", "Constraint respect", "= 1", lambda _: 1.0, needs_baseline=False),
    Criterion("plan_alignment_score", "Plan alignment", "≥ baseline", lambda baseline: baseline),
    Criterion("edit_distance_score", "Edit distance score", "≥ baseline", lambda baseline: baseline),
    Criterion("diversity_score", "Diversity", "≥ 0.95 × baseline", lambda baseline: 0.95 * baseline),
    Criterion("leftovers_score", "Leftovers", "≥ 0.95 × baseline", lambda baseline: 0.95 * baseline),
)

# Scores are stored with six decimals, so a bound computed in binary may miss an equal score by less than this.
_GRAIN = 5e-7

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
    passed = value >= criterion.bound(base or 0.0) - _GRAIN
    return CheckRow(criterion.title, passed, f"{value:.4f} ({criterion.wording}{against})")


def accept(scores: Scores, baseline: Scores, pipeline_verdict: bool | None = None) -> Acceptance:
    """Judges one replay against its baseline on the same dataset; a missing score never passes."""
    return Acceptance(tuple(_row(criterion, scores, baseline) for criterion in CRITERIA), pipeline_verdict)
