"""Two releases at one database: the newer adds, the older goes on; what it needs is taken away only when told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, inspect, text

from bot.__main__ import main, migrated
from core import db
from core.errors import Refused
from tests.core import releases
from tests.core.test_tables import empty  # noqa: F401 - fixture
from tests.workspace import waits_until

ADDS, TAKES_AWAY = "CREATE TABLE promotion.more (id int)", "DROP TABLE promotion.messages"
BESIDE = "0009"
"""The first release that works beside the next one's schema has all migrations up to this one."""
Columns = dict[tuple[str, str], tuple[str, bool]]


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names("promotion")) & {"more", "messages", "later"}


def test_the_release_before_works_until_what_it_needs_is_taken_away(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    newer = releases.migrations(tmp_path / "newer", ADDS, TAKES_AWAY)
    assert not db.is_current(empty)
    assert db.standing(empty) == "missing"
    db.migrate(empty)
    assert (db.standing(empty), db.standing(empty, newer)) == ("current", "behind")
    db.migrate(empty, folder=newer)
    assert (db.standing(empty), db.standing(empty, newer)) == ("newer", "waiting")
    assert tables(empty) == {"more", "messages"}
    db.migrate(empty)  # an old process starts once more
    assert tables(empty) == {"more", "messages"}
    assert db.is_current(empty)
    db.migrate(empty, folder=newer, after=True)
    assert tables(empty) == {"more"}
    for _ in range(2):
        db.migrate(empty, folder=newer)
    for work in (db.migrate, db.is_current, db.standing):
        with pytest.raises(Refused, match=r"newer release \(revision 9002\)"):
            work(empty)
    with empty.connect() as connection:
        assert connection.scalars(text("SELECT version_num FROM promotion.alembic_version")).all() == ["9002"]


def test_migrate_says_what_it_did(
    empty: Engine,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url.render_as_string(hide_password=False))

    def said(*more: str) -> str:
        assert main(["migrate", *more]) == 0
        return capsys.readouterr().out

    number = len(list((db.MIGRATIONS / "versions").glob("[0-9]*.py")))
    assert said() == f"{number} migrations were applied. Nothing waits for --after.\n"
    assert said("--after") == "All is up to date. Nothing waits for --after.\n"
    newer = releases.migrations(tmp_path / "newer", ADDS, TAKES_AWAY)
    assert db.migrate(empty, folder=newer) == 1
    assert said() == "All is up to date: the tables are those of a newer release.\n"
    assert (db.migrate(empty, after=True, folder=newer), db.migrate(empty, after=True, folder=newer)) == (1, 0)


@pytest.mark.parametrize(
    ("applied", "standing", "says"),
    [
        (1, "waiting", "1 migration was applied. What only the release before needs waits for `promotion-bot migrate "
         "--after`: run it once no process of that release is left."),
        (0, "current", "All is up to date. Nothing waits for --after."),
    ],
)  # fmt: skip
def test_what_waits_is_said(applied: int, standing: db.Standing, says: str) -> None:
    assert migrated(applied, standing) == says


def test_the_release_after_next_does_first_what_was_left(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    db.migrate(empty, folder=releases.migrations(tmp_path / "newer", ADDS, TAKES_AWAY))
    later = "CREATE TABLE promotion.later (id int)"
    db.migrate(empty, folder=releases.migrations(tmp_path / "newest", ADDS, TAKES_AWAY, later))
    assert tables(empty) == {"more", "later"}


def test_nobody_queues_up_behind_a_migration_that_waits(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    db.migrate(empty)
    newer = releases.migrations(tmp_path / "newer", "ALTER TABLE promotion.messages ADD COLUMN more text")
    read = text("SELECT count(*) FROM promotion.messages")
    asked = text("SELECT count(*) FROM pg_locks WHERE relation = 'promotion.messages'::regclass AND NOT granted")
    with ThreadPoolExecutor() as elsewhere, empty.connect() as long, empty.connect() as other:
        long.execute(read)
        migrating = elsewhere.submit(db.migrate, empty, folder=newer)
        try:
            waits_until(lambda: other.execute(asked).scalar_one(), 40, "the migration to want the table")
            other.execute(text("SET LOCAL lock_timeout = '20s'"))
            assert other.execute(read).scalar_one() == 0
            assert not migrating.done()
            other.rollback()
        finally:
            long.rollback()
        migrating.result(timeout=40)


def test_a_server_that_ends_idle_transactions_ends_no_migration(empty: Engine, tmp_path: Path) -> None:  # noqa: F811
    db.migrate(empty)
    with empty.begin() as connection:
        limit = f"ALTER DATABASE {empty.url.database} SET idle_in_transaction_session_timeout = '200ms'"
        connection.execute(text(limit))
    empty.dispose()
    db.migrate(empty, folder=releases.migrations(tmp_path / "newer", "SELECT pg_sleep(0.6)", ADDS))
    assert "more" in tables(empty)


def columns(connection: Connection) -> Columns:
    """Of all our tables: type, and whether a row can be inserted without naming it."""
    found = inspect(connection)
    return {
        (table, str(column["name"])): (
            str(column["type"]),
            bool(column["nullable"] or column["default"] or column.get("identity")),
        )
        for table in found.get_table_names("promotion")
        for column in found.get_columns(table, "promotion")
    }


def harm(before: Columns, after: Columns) -> set[tuple[str, str]]:
    """The columns by which a release stumbles that knows only what was there before."""
    there = {table for table, _ in before}
    changed = {column for column, what in before.items() if after.get(column) != what}
    demanded = {(table, name) for (table, name), (_, may_lack) in after.items() if table in there and not may_lack}
    return changed | (demanded - set(before))


@pytest.mark.parametrize(
    ("statement", "harmed"),
    [
        ("ADD COLUMN more text", set()),
        ("ADD COLUMN more text NOT NULL DEFAULT ''", set()),
        ("ADD COLUMN more text NOT NULL", {"more"}),
        ("DROP COLUMN ts", {"ts"}),
        ("RENAME COLUMN ts TO at", {"ts", "at"}),
        ("ALTER COLUMN ts TYPE varchar(20)", {"ts"}),
    ],
)
def test_what_the_release_before_stumbles_over_is_seen(engine: Engine, statement: str, harmed: set[str]) -> None:
    with engine.connect() as connection:
        before = columns(connection)
        connection.execute(text(f"ALTER TABLE promotion.messages {statement}"))
        assert harm(before, columns(connection)) == {("messages", name) for name in harmed}


def test_every_migration_only_adds_or_waits(empty: Engine) -> None:  # noqa: F811
    config = db._alembic(empty, db.MIGRATIONS)
    command.upgrade(config, BESIDE)
    for revision in reversed(db._revisions(config)):
        with empty.connect() as connection:
            before = columns(connection)
        command.upgrade(config, revision.revision)
        with empty.connect() as connection:
            assert db._is_after(revision) or not harm(before, columns(connection)), revision.revision
