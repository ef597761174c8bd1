"""A bot that is killed before or after any change leaves nothing half-done: everything ends as if it had not been."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.conftest import mlflow_template  # noqa: F401 - a fixture
from tests.crash.kills import STORIES, World, differences, registry_server, sides

TRIED = 2
"""Kill points of each story, spread over it; `python -m tests.benchmarks.kills` tries all."""


@pytest.fixture(scope="module")
def registry(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    """MLflow's server on a store of its own."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    with registry_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as url:
        yield url


@pytest.mark.parametrize("name", STORIES)
def test_whatever_the_moment_it_ends_the_same(name: str, postgres: str, registry: str, tmp_path: Path) -> None:
    world = World(postgres, registry, tmp_path)
    whole = world.tell(name)
    points = sides(whole.seen)
    for at, side in points[len(points) // (2 * TRIED) :: len(points) // TRIED]:
        assert differences(whole, world.tell(name, at, side)) == [], f"killed {side} {at}"
