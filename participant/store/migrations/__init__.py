"""Alembic migrations of ``store/touchstone.db``; run by participant.store.database."""
