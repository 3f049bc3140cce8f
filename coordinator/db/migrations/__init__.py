"""Alembic migrations, run by :mod:`coordinator.db.schema`."""
