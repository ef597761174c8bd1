"""What the database and the registry are like, for whoever sets the bot up. Reads only, and never waits for long."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from core import adoption, db
from core.db import Engine, Session, Standing
from core.errors import Refused
from core.registry import Registry

PATIENCE_MS = 4_000
PATIENCE_S = 3
LONGEST = 300
"""Letters of an error that are shown; a proxy may answer with a whole page."""

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")

T = TypeVar("T")


@dataclass(frozen=True)
class Trouble:
    """Why something is not known: a sentence, or Slack's name for it."""

    why: str


@dataclass(frozen=True)
class Database:
    """A database as a role sees it that has just logged in."""

    address: str
    """Host, port where one is given, and base."""
    server: int
    """PostgreSQL's number of its own version, such as 160002."""
    role: str
    takes_changes: bool
    ahead_s: float
    """How far its clock is before this machine's."""
    standing: Standing | Trouble
    blockers: tuple[str, ...] | Trouble
    """What keeps the bot from starting."""
    owned_by_others: tuple[str, ...]
    """Tables of the bot that belong to another role."""
    experiments: frozenset[str] | None
    """The names of those that are there; None where the table cannot be read."""


@dataclass(frozen=True)
class Models:
    """A registry that answers."""

    models: int
    client: str
    server: str | None
    """MLflow's releases here and there; None for a store without a server."""


def plainly(error: object) -> str:
    """The first line of an error, without its number and its full stop."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = _ERRNO.sub("", said)
    return said.rstrip(".") if len(said) <= LONGEST else f"{said[:LONGEST]} …"


def _root(error: BaseException) -> BaseException:
    """What lies under an error: of a connection that fails, MLflow's own words fill a paragraph."""
    while (under := error.__cause__ or error.__context__) is not None:
        error = under
    return error


def _tried(look: Callable[[], T]) -> T | Trouble:
    try:
        return look()
    except (Refused, SQLAlchemyError) as error:
        return Trouble(plainly(getattr(error, "orig", None) or error))


# --- The database ---------------------------------------------------------------------------------------------------

_HERE = """
SELECT CAST(current_setting('server_version_num') AS integer) AS server, current_user AS role,
       NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off' AS takes_changes,
       now() AS now
"""
_OWNED_BY_OTHERS = """
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = to_regnamespace('promotion') AND c.relkind IN ('r', 'p', 'v', 'S')
   AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1
"""
_EXPERIMENTS = "SELECT name FROM exp.experiments WHERE name IS NOT NULL"


def database(url: str, now: Callable[[], datetime]) -> Database | Trouble:
    """Looks at a database; `now` reads the clock of this machine."""
    try:
        engine = db.connect(url, pool_size=1)
    except ArgumentError:  # it repeats the URL, and with it the password
        return Trouble("DATABASE_URL is no address of a PostgreSQL")
    try:
        with engine.connect():
            pass
        return _tried(lambda: _looked_at(engine, now))
    except OperationalError as error:
        return Trouble(plainly(error.orig))
    finally:
        engine.dispose()


def _looked_at(engine: Engine, now: Callable[[], datetime]) -> Database:
    with _reading(engine) as session:
        before = now()
        here = session.execute(text(_HERE)).mappings().one()
        halfway = before + (now() - before) / 2
        owned_by_others = tuple(session.scalars(text(_OWNED_BY_OTHERS)))
    return Database(
        address=db.address(engine.url),
        server=here["server"],
        role=here["role"],
        takes_changes=here["takes_changes"],
        ahead_s=(here["now"] - halfway).total_seconds(),
        standing=_tried(lambda: db.standing(engine)),
        blockers=_tried(lambda: _blockers(engine)),
        owned_by_others=owned_by_others,
        experiments=_known(_tried(lambda: _there(engine))),
    )


def _reading(engine: Engine) -> AbstractContextManager[Session]:
    return db.transaction(engine, patience_ms=PATIENCE_MS, only_reads=True)


def _blockers(engine: Engine) -> tuple[str, ...]:
    with _reading(engine) as session:
        return tuple(adoption.blockers(session))


def _there(engine: Engine) -> frozenset[str]:
    with _reading(engine) as session:
        return frozenset(session.scalars(text(_EXPERIMENTS)))


def _known(found: frozenset[str] | Trouble) -> frozenset[str] | None:
    return None if isinstance(found, Trouble) else found


# --- The registry ---------------------------------------------------------------------------------------------------


def models(uri: str) -> Models | Trouble:
    """Looks at an MLflow server or store, and reads what models it has."""
    registry = Registry(uri, timeout_s=PATIENCE_S)
    try:
        return Models(len(registry.models()), version("mlflow-skinny"), registry.server_version())
    except Refused as refused:
        root = _root(refused)  # where an answer is no JSON, MLflow's own words say more
        return Trouble(plainly(refused.__cause__ or refused if isinstance(root, ValueError) else root))
