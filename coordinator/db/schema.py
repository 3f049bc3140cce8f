"""Brings a database to the schema this software knows, and refuses one from the future."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from coordinator.db.engine import WRITES
from shared.errors import ConfigError
from shared.locks import MIGRATING

HEAD = "0002"
"""The newest revision in ``migrations/versions``; a test holds it against the folder."""

_MIGRATIONS = Path(__file__).resolve().parent / "migrations"


def alembic_config(connection: Connection | None = None) -> Config:
    """Return alembic's configuration, bound to an open connection if one is given."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision, or nothing for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Apply what is missing, all of it or nothing.

    Raises:
        ConfigError: the schema is newer than this software.
    """
    with engine.connect() as connection:
        if current_revision(connection) == HEAD:
            return
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        config = alembic_config(connection)
        revision = current_revision(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise ConfigError(
                f"the database has schema {revision}, which this software does not know",
                hint="a newer touchstone has opened it; install that version or a newer one",
            )
        with MIGRATING:
            command.upgrade(config, "head")
