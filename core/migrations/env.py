"""Alembic's entry: runs the migrations of the bot's own schema on the engine that core.db hands over."""

from alembic import context
from sqlalchemy import text

engine = context.config.attributes["engine"]

with engine.connect() as connection:
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS promotion"))
    connection.commit()
    context.configure(connection=connection, version_table_schema="promotion", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
