"""Which moves between stages are legal, and which stage a model version shows."""

from __future__ import annotations

from itertools import product

import pytest

from core.rules.lifecycle import Stage, is_legal, model_stage

LEGAL = {
    "none": {"none", "candidate"},
    "candidate": {"candidate", "experiment"},
    "experiment": {"experiment", "production", "archived", "candidate"},
    "production": {"production", "archived"},
    "archived": {"archived", "candidate", "production"},
}


@pytest.mark.parametrize(("before", "after"), list(product(Stage, Stage)))
def test_moves(before: Stage, after: Stage) -> None:
    assert is_legal(before, after) is (after in LEGAL[before])


@pytest.mark.parametrize(
    ("stages", "shown"),
    [
        ((), "none"),
        (("none",), "none"),
        (("archived", "candidate"), "candidate"),
        (("candidate", "experiment", "archived"), "experiment"),
        (("archived", "production", "candidate", "experiment"), "production"),
        (("archived", "none"), "archived"),
    ],
)
def test_a_model_version_shows_its_foremost_stage(stages: tuple[str, ...], shown: str) -> None:
    assert model_stage(Stage(stage) for stage in stages) == shown
