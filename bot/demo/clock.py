"""A clock that can be put forward: time here is the database's `now()`, and this one adds to it what has been let pass.

The schema `clock` stands before PostgreSQL's own in the search path of its database, so every unqualified `now()`, in
queries and in the defaults of columns, is the function there. Nothing else is to be used for time: `CURRENT_TIMESTAMP`
is a keyword, which nothing can stand before.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

SEARCH_PATH: Final = "clock, pg_catalog, public"

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS clock;
CREATE TABLE IF NOT EXISTS clock.passed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ahead interval NOT NULL DEFAULT '0'
);
INSERT INTO clock.passed DEFAULT VALUES ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
    'SELECT pg_catalog.now() + ahead FROM clock.passed';
"""
# Defaults that were bound before the schema was there stay with PostgreSQL's own function until they are told.
_REBIND = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT CAST(CAST(d.adrelid AS regclass) AS text) AS relation, a.attname
          FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE pg_get_expr(d.adbin, d.adrelid) = 'pg_catalog.now()'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT clock.now()', found.relation, found.attname);
    END LOOP;
END $$;
"""


def install(engine: Engine) -> None:
    """Gives a database the clock, before or after its other schemas; safe to repeat, time that has passed stays.

    It holds for every connection that is opened from now on, whoever opens it.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('clock'))"))
        connection.execute(text(_SCHEMA))
        connection.execute(text(f"SET LOCAL search_path = {SEARCH_PATH}"))
        connection.execute(text(_REBIND))
        use(connection, str(engine.url.database))
    engine.dispose()


def use(connection: Connection, database: str) -> None:
    """Has a database that was copied from one with the clock go by it; a copy does not take its search path along."""
    connection.execute(text(f'ALTER DATABASE "{database}" SET search_path = {SEARCH_PATH}'))


def now(engine: Engine) -> datetime:
    """What the time is."""
    with engine.connect() as connection:
        found: datetime = connection.execute(text("SELECT clock.now()")).scalar_one()
    return found


def ahead(session: Session) -> timedelta:
    """How much time has been let pass; nothing where there is no such clock."""
    found: timedelta = session.execute(text("SELECT now() - pg_catalog.now()")).scalar_one()
    return found


def put_forward(session: Session, by: timedelta) -> None:
    """Lets time pass as part of a transaction: what is written with it happened by then, and nobody sees a gap."""
    session.execute(
        text("UPDATE clock.passed SET ahead = ahead + make_interval(secs => :s)"), {"s": by.total_seconds()}
    )


def advance(engine: Engine, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
    """Lets time pass; transactions that are open see it from their next statement on."""
    with Session(engine) as session, session.begin():
        put_forward(session, timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))


def set_to(engine: Engine, moment: datetime) -> None:
    """Makes it `moment` now, whether later or earlier; from there time goes on."""
    query = """
        UPDATE clock.passed
           SET ahead = make_interval(secs => CAST(extract(epoch FROM :at - pg_catalog.now()) AS float8))"""
    with engine.begin() as connection:
        connection.execute(text(query), {"at": moment})
