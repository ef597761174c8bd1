"""The database of an installation, opened as its settings say, and what can be wrong with it in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from core import db, settings
from core.errors import Refused
from core.settings import Settings

OTHER_VERSION = "The database is not of this program's version. Start this version of the bot: it updates it."


def database(stack: ExitStack, found: Settings) -> str:
    """The address of the configured database; where there is none, of one of its own that runs until the stack ends."""
    if found.database_url is not None:
        return found.database_url.get_secret_value()
    found.promotion_bot_data.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(db.embedded(found.promotion_bot_data))


def engine(url: str) -> db.Engine:
    """An engine on an address; nothing is connected yet.

    Raises:
        Refused: where it is none.
    """
    try:
        return db.connect(url)
    except ArgumentError:  # it repeats the URL, and with it the password
        form = "postgresql://name:password@host/base, with %40 for an @ in the password"
        raise Refused(f"DATABASE_URL is no address of a PostgreSQL. Write it like {form}.") from None


@contextmanager
def reaching(engine: db.Engine) -> Iterator[None]:
    """What keeps somebody from the database becomes a sentence.

    Raises:
        Refused: with it.
    """
    try:
        yield
    except OperationalError as error:
        raise Refused(f"The database at {db.address(engine.url)} cannot be used: {error.orig}") from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":  # insufficient_privilege
            raise
        raise Refused(f"{db.NO_RIGHT} ({str(error.orig).splitlines()[0]})") from error


def connected(url: str) -> db.Engine:
    """An engine on a database that is brought up to date."""
    made = engine(url)
    with reaching(made):
        db.migrate(made)
    return made


@contextmanager
def closing(engine: db.Engine) -> Iterator[db.Engine]:
    """The engine, whose connections are closed at the end."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def base(config: Path | None) -> Iterator[tuple[db.Engine, Settings]]:
    """The configured database, brought up to date, and the settings."""
    found = settings.load(config)
    with ExitStack() as stack:
        yield stack.enter_context(closing(connected(database(stack, found)))), found


@contextmanager
def as_it_is(found: Settings) -> Iterator[db.Engine]:
    """The configured database, in which nothing is changed, its schema included.

    Raises:
        Refused: where its schema is of another version.
    """
    with ExitStack() as stack:
        made = stack.enter_context(closing(engine(database(stack, found))))
        with reaching(made):
            is_current = db.is_current(made)
        if not is_current:
            raise Refused(OTHER_VERSION)
        yield made
