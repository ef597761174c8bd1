"""Alembic's entry: runs the migrations of the bot's own schema on the engine that core.db hands over.

A migration with `after = True` takes away what the release before needs. That it was made is kept in
`promotion.contracted`, where processes of older releases look.
"""

from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

engine = context.config.attributes["engine"]
SCHEMA = "CREATE SCHEMA IF NOT EXISTS promotion"
CONTRACTED = "CREATE TABLE IF NOT EXISTS promotion.contracted (revision text PRIMARY KEY)"


def note(*, ctx: MigrationContext, step: Any, **_: Any) -> None:
    """In the transaction of each migration: what older releases have to know."""
    if getattr(step.up_revision.module, "after", False) and ctx.connection is not None:
        made = {"revision": step.up_revision_id}
        ctx.connection.execute(text("INSERT INTO promotion.contracted VALUES (:revision)"), made)


with engine.connect() as connection:
    connection.detach()  # what is set for it ends with it
    connection.execute(text(f"SET lock_timeout = {context.config.attributes['lock_ms']}"))
    # Even with IF NOT EXISTS PostgreSQL asks for the right to create schemas, which a role of least rights has not.
    if connection.execute(text("SELECT to_regnamespace('promotion') IS NULL")).scalar_one():
        connection.execute(text(SCHEMA))
    connection.execute(text(CONTRACTED))
    connection.commit()
    context.configure(
        connection=connection,
        version_table_schema="promotion",
        transaction_per_migration=True,
        on_version_apply=note,  # type: ignore[arg-type]  # called by keywords, with more than its type says
    )
    with context.begin_transaction():
        context.run_migrations()
