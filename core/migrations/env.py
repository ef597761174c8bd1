"""Alembic's entry: runs the migrations of the bot's own schema on the engine that core.db hands over."""

from alembic import context
from sqlalchemy import text

engine = context.config.attributes["engine"]

with engine.connect() as connection:
    # Even with IF NOT EXISTS PostgreSQL asks for the right to create schemas, which a role of least rights has not.
    if connection.execute(text("SELECT to_regnamespace('promotion') IS NULL")).scalar_one():
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS promotion"))
    # A foreign key to a table in use waits for its writers, and new ones wait behind it: better to try again later.
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(connection=connection, version_table_schema="promotion", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
