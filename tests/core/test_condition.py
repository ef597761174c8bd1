"""What a database and a registry are like, as a role without many rights finds them; a look changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from core import condition, db, rights
from core.condition import Database, Models, Trouble
from tests.core.test_tables import PLATFORM, catalog, empty, run  # noqa: F401 - a fixture
from tests.crash.wires import wire

ROLE = f"looker_{os.getpid()}"


@pytest.fixture
def role(empty: Engine) -> Iterator[str]:  # noqa: F811
    """The URL of the empty database for a role that may log in and nothing else."""
    run(
        empty, f"CREATE ROLE {ROLE} LOGIN PASSWORD 's3cret'", f"REVOKE ALL ON DATABASE {empty.url.database} FROM public"
    )
    run(empty, f"GRANT CONNECT ON DATABASE {empty.url.database} TO {ROLE}")
    yield empty.url.set(username=ROLE, password="s3cret").render_as_string(hide_password=False)
    run(empty, f"DROP OWNED BY {ROLE} CASCADE", f"DROP ROLE {ROLE}")


def now() -> datetime:
    return datetime.now(UTC)


def found(url: str) -> Database:
    seen = condition.database(url, now)
    assert isinstance(seen, Database), seen
    return seen


def test_an_empty_database(role: str, empty: Engine) -> None:  # noqa: F811
    base = empty.url.database
    seen = found(role)
    assert (seen.role, seen.takes_changes, seen.standing, seen.experiments) == (ROLE, True, "missing", None)
    assert seen.blockers == (
        f'The role {ROLE} lacks a right: GRANT CREATE, TEMPORARY ON DATABASE "{base}" TO "{ROLE}";',
    )
    assert abs(seen.ahead_s) < 30
    assert seen.server >= 140_000
    assert "s3cret" not in repr(seen)
    run(empty, *(f"GRANT {right} ON DATABASE {base} TO {ROLE}" for right in ("CREATE", "TEMPORARY")))
    assert found(role).blockers == ()


def test_a_platform_that_the_role_may_not_read_and_tables_of_another_role(role: str, empty: Engine) -> None:  # noqa: F811
    run(empty, PLATFORM)
    without = found(role)
    assert isinstance(without.blockers, tuple)
    assert f'GRANT USAGE ON SCHEMA exp TO "{ROLE}";' in without.blockers
    assert without.experiments is None
    with empty.begin() as connection:
        connection.exec_driver_sql(rights.script(ROLE, str(empty.url.database)))
    given = found(role)
    assert (given.blockers, given.standing, given.experiments) == ((), "missing", {"planner_policy_exp"})
    db.migrate(empty)
    others = found(role)
    assert {"effects", "ledger"} < set(others.owned_by_others)
    assert isinstance(others.standing, Trouble)
    assert "permission denied" in others.standing.why
    before = catalog(empty)
    with db.transaction(empty) as session:
        own = condition.database(empty.url.render_as_string(hide_password=False), now)
        assert isinstance(own, Database)
        assert (own.standing, own.owned_by_others, own.blockers) == ("current", (), ())
        assert session.execute(text("SELECT count(*) FROM promotion.ledger")).scalar_one() == 0
    assert catalog(empty) == before


def test_a_database_that_takes_no_changes_and_a_clock_that_is_wrong(role: str, empty: Engine) -> None:  # noqa: F811
    run(empty, f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    seen = condition.database(role, lambda: now() + timedelta(hours=1))
    assert isinstance(seen, Database)
    assert not seen.takes_changes
    assert -3_700 < seen.ahead_s < -3_500


def test_a_database_that_cannot_be_reached(role: str, empty: Engine) -> None:  # noqa: F811
    nowhere = empty.url.set(database="nowhere").render_as_string(hide_password=False)
    run(empty, f"ALTER ROLE {ROLE} NOLOGIN")
    for url, why in (
        (role, "is not permitted to log in"),
        ("postgresql://me:s3cret@127.0.0.1:9/x", "Connection refused"),
        ("s3cret", "DATABASE_URL is no address of a PostgreSQL"),
        (nowhere, "does not exist"),
    ):
        seen = condition.database(url, now)
        assert isinstance(seen, Trouble)
        assert why in seen.why
        assert "s3cret" not in seen.why


def test_the_registry(mlflow_uri: str, mlflow_template: Path) -> None:
    store = Path(mlflow_uri.removeprefix("sqlite:///"))
    before = store.read_bytes()
    seen = condition.models(mlflow_uri)
    assert isinstance(seen, Models)
    assert (seen.models, seen.server) == (1, None)
    assert store.read_bytes() == before


def test_a_registry_that_does_not_answer() -> None:
    with ExitStack() as stack:
        broken = stack.enter_context(wire(lambda: pytest.fail("reached")))
        broken.becomes("503")
        seen = condition.models(f"http://127.0.0.1:{broken.port}")
    assert isinstance(seen, Trouble)
    assert "503" in seen.why
    nobody = condition.models("http://me:s3cret@127.0.0.1:9")
    assert isinstance(nobody, Trouble)
    assert nobody.why == "Connection refused"
