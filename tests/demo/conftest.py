"""A filled registry and a small world to play live traffic on."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from bot.demo import breakfast, models, world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MLflow has to say about itself while it is imported
    import mlflow.pyfunc  # noqa: F401

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose registry is set up; making it takes seconds, so tests share it and change nothing."""
    path = tmp_path_factory.mktemp("data")
    models.set_up(path)
    return path


@pytest.fixture
def small(engine: Engine) -> Engine:
    """The seeded world with little traffic in it, up to the present moment; live, one experiment has it all."""
    world.seed(engine, seed=5, now=datetime.now(UTC), plans_a_day=20)
    with engine.begin() as connection:
        pause = text("UPDATE exp.experiments SET status = 'paused' WHERE id = :id")
        connection.execute(pause, {"id": breakfast.EXPERIMENT_ID})
    return engine
