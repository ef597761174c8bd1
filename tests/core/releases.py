"""Releases that are not out yet: the migrations of this one and some more."""

from __future__ import annotations

import shutil
from pathlib import Path

from core import db

MIGRATION = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None
{mark}

def upgrade():
    op.execute("{statement}")
"""


def add(folder: Path, *changes: str) -> None:
    """Adds migrations 9001, 9002 … to a folder of migrations, one for each change; those that drop wait."""
    before = max(path.name[:4] for path in (folder / "versions").glob("0*.py"))
    for number, statement in enumerate(changes, 1):
        revision, mark = f"9{number:03}", "after = True" if "DROP" in statement else ""
        made = MIGRATION.format(revision=revision, before=before, mark=mark, statement=statement)
        (folder / "versions" / f"{revision}.py").write_text(made)
        before = revision


def migrations(folder: Path, *changes: str) -> Path:
    """The migrations of a release that makes these changes."""
    shutil.copytree(db.MIGRATIONS, folder)
    add(folder, *changes)
    return folder


def program(folder: Path, *changes: str) -> Path:
    """A whole release that makes these changes, to be run with PYTHONPATH set to its folder."""
    here = db.MIGRATIONS.parent.parent
    for package in ("bot", "core"):
        shutil.copytree(here / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    add(folder / "core" / "migrations", *changes)
    return folder
