"""Alembic's entry point: migrates the connection that :mod:`coordinator.db.schema` holds open."""

from __future__ import annotations

from alembic import context

from coordinator.db.tables import Table

config = context.config

if context.is_offline_mode():
    context.configure(
        dialect_name=config.get_main_option("dialect", "sqlite"),
        target_metadata=Table.metadata,
        literal_binds=True,
    )
else:
    context.configure(
        connection=config.attributes["connection"],
        target_metadata=Table.metadata,
        render_as_batch=True,
    )

with context.begin_transaction():
    context.run_migrations()
