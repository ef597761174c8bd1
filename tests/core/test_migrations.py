"""Two releases at one database: the newer adds, the older goes on; what it needs is taken away only when told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from core import db
from core.errors import Refused
from tests.core.test_tables import empty  # noqa: F401 - fixture

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
ADDS, TAKES_AWAY = "CREATE TABLE promotion.more (id int)", "DROP TABLE promotion.messages"


def released(folder: Path, *changes: str) -> Path:
    """The migrations of a release that makes these changes, one migration each; those that drop wait."""
    shutil.copytree(db.MIGRATIONS, folder)
    before = max(path.name[:4] for path in (folder / "versions").glob("0*.py"))
    for number, statement in enumerate(changes, 1):
        revision, mark = f"9{number:03}", "after = True" if "DROP" in statement else ""
        made = MIGRATION.format(revision=revision, before=before, mark=mark, statement=statement)
        (folder / "versions" / f"{revision}.py").write_text(made)
        before = revision
    return folder


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names("promotion")) & {"more", "messages", "later"}


def test_the_release_before_works_until_what_it_needs_is_taken_away(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    newer = released(tmp_path / "newer", ADDS, TAKES_AWAY)
    db.migrate(empty)
    db.migrate(empty, folder=newer)
    assert tables(empty) == {"more", "messages"}
    db.migrate(empty)  # an old process starts once more
    assert tables(empty) == {"more", "messages"}
    db.migrate(empty, folder=newer, after=True)
    assert tables(empty) == {"more"}
    for _ in range(2):
        db.migrate(empty, folder=newer)
    with pytest.raises(Refused, match=r"newer release \(revision 9002\)"):
        db.migrate(empty)
    with empty.connect() as connection:
        assert connection.scalars(text("SELECT version_num FROM promotion.alembic_version")).all() == ["9002"]


def test_the_release_after_next_does_first_what_was_left(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    db.migrate(empty, folder=released(tmp_path / "newer", ADDS, TAKES_AWAY))
    later = "CREATE TABLE promotion.later (id int)"
    db.migrate(empty, folder=released(tmp_path / "newest", ADDS, TAKES_AWAY, later))
    assert tables(empty) == {"more", "later"}
