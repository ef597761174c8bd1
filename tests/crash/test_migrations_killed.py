"""Migrations that are killed: the next start goes on with them, and the schema ends as if nothing had been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from core import db
from tests.core.test_tables import catalog, empty, run  # noqa: F401 - a fixture
from tests.crash import gates
from tests.crash.gates import Gates, Passage, Side
from tests.crash.kills import sides

TRIED = 3
"""Of the places before and after each migration's commit."""
pytestmark = pytest.mark.timeout(300)


def migrate(url: str, folder: Path, at: Gates) -> int:
    """`promotion-bot migrate` behind a gate; its exit code."""
    plain = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    with gates.database(at, url) as through:
        environment = plain | {
            "DATABASE_URL": through,
            "PROMOTION_BOT_DATA": str(folder),
            "PYTHONPATH": str(Path(db.__file__).parents[1]),
        }
        made = subprocess.Popen([sys.executable, "-m", "bot", "migrate"], env=environment, cwd=folder)
        at.process = made.pid
        return made.wait(120)


def schema(engine: Engine) -> tuple[object, ...]:
    """Everything that the migrations made, and how far they say to have come."""
    with engine.connect() as connection:
        version = connection.execute(text("SELECT version_num FROM promotion.alembic_version")).scalar_one()
    return catalog(engine), catalog(engine, "promotion"), version


def anew(engine: Engine) -> None:
    run(engine, "DROP SCHEMA IF EXISTS promotion CASCADE", "DROP SCHEMA IF EXISTS exp CASCADE")


def test_wherever_it_is_killed(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    url = empty.url.render_as_string(hide_password=False)
    whole = Gates()
    assert migrate(url, tmp_path, whole) == 0
    wanted = schema(empty)
    points: list[tuple[Passage, Side]] = sides(whole.seen)
    assert len(points) > TRIED
    for at, side in points[len(points) // (2 * TRIED) :: len(points) // TRIED]:
        anew(empty)
        killed = Gates(at, side)
        assert migrate(url, tmp_path, killed) == -9, f"not killed {side} {at}"
        assert migrate(url, tmp_path, Gates()) == 0
        assert schema(empty) == wanted, f"killed {side} {at}"
