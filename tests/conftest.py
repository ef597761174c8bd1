"""The real parts every test stands on: PostgreSQL from a wheel, one template database, a clone for each test.

Time in them is `now()` of the database, which `clock.advance(engine, days=3)` puts forward.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from bot.demo import clock
from core import db

_numbers = itertools.count()
ROOM_BYTES = 4 << 30


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server with a migrated database `template_promotion`; one server per test process."""
    with a_server() as url:
        yield url


@contextmanager
def a_server() -> Iterator[str]:
    """A server as the fixture `postgres` gives it: the one of TEST_DATABASE_URL, or one of its own from the wheel."""
    given = os.environ.get("TEST_DATABASE_URL")
    folder = Path(tempfile.mkdtemp(prefix="promotion-bot-", dir=_quick_place()))  # short: the socket's path has a limit
    try:
        if given:
            yield with_template(given)
        else:
            with db.embedded(folder) as url:
                _hurry(url)
                yield with_template(url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quick_place() -> str | None:
    """A folder in memory where there is room, since a thousand databases are made; None for the usual one."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES:
        return str(memory)
    return None


def _admin(url: str) -> Engine:
    return create_engine(db.psycopg_url(url), isolation_level="AUTOCOMMIT")


def _named(url: str, database: str) -> str:
    return db.psycopg_url(url).set(database=database).render_as_string(hide_password=False)


def _hurry(url: str) -> None:
    """A database that is thrown away need not survive a power cut."""
    admin = _admin(url)
    with admin.connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    admin.dispose()


def with_template(url: str) -> str:
    """The URL of a server, with the database that every fresh one is a copy of."""
    name = f"template_promotion_{os.getpid()}"
    admin = _admin(url)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    engine = db.connect(_named(url, name))
    clock.install(engine)
    db.migrate(engine)
    engine.dispose()
    return url


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of a fresh database with the schema in place, on the server at this URL."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = _admin(server)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_promotion_{os.getpid()}"))
        clock.use(connection, name)
    admin.dispose()  # what happens to the server meanwhile is nothing to these connections
    yield _named(server, name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """The URL of a fresh database with the schema in place."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database."""
    made = db.connect(database_url)
    yield made
    made.dispose()
