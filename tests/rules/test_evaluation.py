"""The platform's acceptance rule, each criterion at its boundary."""

from __future__ import annotations

import math

import pytest

from core.rules.evaluation import CRITERIA, SCORES, accept

BASE = dict(zip(SCORES, (1.0, 0.8, 0.7, 0.6, 0.5), strict=True))


@pytest.mark.parametrize(
    ("score", "value", "passed"),
    [
        ("constraint_respect_score", 1.0, True),
        ("constraint_respect_score", 0.9999999, False),
        ("constraint_respect_score", 1.1, False),
        ("plan_alignment_score", 0.8, True),
        ("plan_alignment_score", 0.799999, False),
        ("edit_distance_score", 0.7, True),
        ("edit_distance_score", 0.699999, False),
        ("diversity_score", 0.57, True),
        ("diversity_score", 0.569999, False),
        ("leftovers_score", 0.475, True),
        ("leftovers_score", 0.474999, False),
        *((score, value, None) for score in SCORES for value in (None, math.nan, math.inf)),
    ],
)
def test_each_criterion_at_its_boundary(score: str, value: float | None, passed: bool | None) -> None:
    found = accept({**BASE, score: value}, BASE)
    (row,) = (r for r, c in zip(found.rows, CRITERIA, strict=True) if c.score == score)
    assert row.passed is passed
    assert found.passed is (passed is True)
    assert sum(r.passed is True for r in found.rows) == len(SCORES) - (passed is not True)


@pytest.mark.parametrize("score", SCORES[1:])
def test_a_missing_baseline_score_never_passes(score: str) -> None:
    found = accept(BASE, {**BASE, score: None})
    assert not found.passed
    assert [r.detail for r in found.rows if r.passed is None] == [
        f"the baseline's score is missing ({next(c.wording for c in CRITERIA if c.score == score)})"
    ]


def test_constraint_respect_needs_no_baseline() -> None:
    assert accept(BASE, {}).rows[0].passed is True
    assert not accept(BASE, {}).passed
    assert not accept({}, BASE).passed


@pytest.mark.parametrize(
    ("share", "base"), [(0.95 * 0.123457, 0.123457), (0.9 * 0.95, 0.9), (0.95 * 0.333333, 0.333333)]
)
def test_binary_rounding_does_not_fail_an_equal_score(share: float, base: float) -> None:
    baseline = {**BASE, "diversity_score": base}
    assert accept({**BASE, "diversity_score": share}, baseline).passed
    assert not accept({**BASE, "diversity_score": share - 1e-6}, baseline).passed


@pytest.mark.parametrize(
    ("alignment", "pipeline", "passed", "says"),
    [
        (0.8, True, True, None),
        (0.8, None, True, None),
        (0.7, False, False, None),
        (0.8, False, False, "The pipeline stored “failed”, the criteria say “passed”: not passed."),
        (0.7, True, False, "The pipeline stored “passed”, the criteria say “failed”: not passed."),
    ],
)
def test_where_the_pipeline_disagrees_it_is_said_and_does_not_pass(
    alignment: float, pipeline: bool | None, passed: bool, says: str | None
) -> None:
    found = accept({**BASE, "plan_alignment_score": alignment}, BASE, pipeline)
    assert (found.passed, found.disagreement) == (passed, says)


def test_rows_show_both_numbers() -> None:
    assert [row.detail for row in accept(BASE, BASE).rows] == [
        "1.0000 (= 1)",
        "0.8000 (≥ baseline, baseline 0.8000)",
        "0.7000 (≥ baseline, baseline 0.7000)",
        "0.6000 (≥ 0.95 × baseline, baseline 0.6000)",
        "0.5000 (≥ 0.95 × baseline, baseline 0.5000)",
    ]
