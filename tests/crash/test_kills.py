"""Bots that are killed before or after any change leave nothing half-done: everything ends as if it had not been."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.conftest import mlflow_template  # noqa: F401 - a fixture
from tests.crash.histories import play
from tests.crash.kills import STORIES, World, differences, sides
from tests.crash.scenes import registry_server

TRIED = 1
"""Kill points of each story, from its middle; `python -m tests.benchmarks.kills` tries all."""


@pytest.fixture(scope="module")
def world(postgres: str, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:  # noqa: F811
    """MLflow's server on a store of its own, and what was told already."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    with registry_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as registry:
        yield World(postgres, registry, folder)


@pytest.mark.parametrize("name", STORIES)
def test_whatever_the_moment_it_ends_the_same(name: str, world: World) -> None:
    whole, wanted = world.undisturbed(name), world.wanted(name)
    assert differences(wanted, whole) == []
    points = sides(whole.seen)
    for at, side in points[len(points) // 2 :][:TRIED]:
        assert differences(wanted, world.tell(name, at, side)) == [], f"killed {side} {at}"


def test_three_that_are_killed_and_frozen_while_people_act(world: World) -> None:
    """`python -m tests.benchmarks.processes` plays more of them."""
    assert play(world.server, world.registry, world.folder / "history", seed=1, moves=20).wrong == []
