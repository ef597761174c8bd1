"""The embedded server: stopped by the last that uses it, also after one was killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import condition, db

START = """
import os, sys, pathlib
from core import db
with db.embedded(pathlib.Path(sys.argv[1])) as url:
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="promotion-bot-"))  # short: the socket's path has a limit
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_server_left_by_a_killed_process_is_stopped_by_the_next(folder: Path) -> None:
    assert db.running(folder) is None
    subprocess.run([sys.executable, "-c", START, str(folder), "die"], check=False)
    assert (folder / "postgres" / "postmaster.pid").exists()
    url = db.running(folder)
    assert url is not None
    assert isinstance(condition.database(url, lambda: datetime.now(UTC)), condition.Database)
    subprocess.run([sys.executable, "-c", START, str(folder), "end"], check=True)
    assert not (folder / "postgres" / "postmaster.pid").exists()
    assert json.loads((folder / "postgres" / ".handle_pids.json").read_text()) == []
    assert db.running(folder) is None
