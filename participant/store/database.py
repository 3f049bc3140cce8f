"""Opens ``touchstone.db``: pragmas, migrations behind a version gate, typed storage errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import Session

from shared.errors import ConfigError, StorageError
from shared.locks import MIGRATING

SCHEMA_HEAD = "0002"
"""The newest migration; a test holds it equal to what alembic finds."""

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another process before it gives up."""

_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """One SQLite file in write-ahead mode, shared by the node, the commands and the console."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        with storage_errors(path):
            self._migrate()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session that holds the write lock; commits at the end, or not at all.

        The lock is taken at the beginning, so read-then-write steps (the next audit number)
        cannot interleave between processes.

        Raises:
            StorageError: the disk is full, read-only or broken, or the lock was not free in time.
        """
        with storage_errors(self.path), self._session(write=True) as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session on one consistent snapshot; nothing is committed.

        Raises:
            StorageError: the file cannot be read.
        """
        with storage_errors(self.path), self._session(write=False) as session:
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _session(self, *, write: bool) -> Session:
        return Session(self._engine.execution_options(write=write), expire_on_commit=False)

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            if _schema_version(connection) == SCHEMA_HEAD:
                return
        with self._engine.execution_options(write=True).begin() as connection:
            version = _schema_version(connection)
            if version != SCHEMA_HEAD:
                _upgrade(connection, version)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's failures inside the block into :class:`StorageError`.

    Raises:
        StorageError: whatever went wrong with the file, explained.
    """
    try:
        yield
    except (OperationalError, DatabaseError, sqlite3.DatabaseError) as error:
        if isinstance(error, sqlite3.IntegrityError) or _is_integrity(error):
            raise
        raise _explain(error, path) from error


def _is_integrity(error: BaseException) -> bool:
    return isinstance(getattr(error, "orig", None), sqlite3.IntegrityError)


def _explain(error: Exception, path: Path) -> StorageError:
    told = str(getattr(error, "orig", None) or error)
    causes = {
        "full": ("the disk is full", "free some space and run the command again"),
        "readonly": ("the file is read-only", "run as the owner of the state folder"),
        "read-only": ("the file is read-only", "run as the owner of the state folder"),
        "locked": ("another process holds it", "wait until it is done and try again"),
        "not a database": ("it is not a database", "restore it from a backup"),
        "malformed": ("it is damaged", "restore it from a backup"),
        "unable to open": ("it cannot be opened", "check that the folder is writable"),
    }
    for sign, (why, hint) in causes.items():
        if sign in told:
            return StorageError(f"cannot use {path.name}: {why}", hint=hint, detail=told)
    return StorageError(f"cannot use {path.name}: input/output error", detail=told)


def _configure(connection: Any, _record: Any) -> None:
    # The driver's own implicit BEGIN would come too late for the write lock: see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("pragma journal_mode = wal")
    cursor.execute("pragma synchronous = full")
    cursor.execute("pragma foreign_keys = on")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("begin immediate" if write else "begin")


def _schema_version(connection: Connection) -> str | None:
    known = connection.execute(
        text("select count(*) from sqlite_master where name = 'alembic_version'")
    ).scalar_one()
    if not known:
        return None
    row = connection.execute(text("select version_num from alembic_version")).first()
    return None if row is None else str(row[0])


def _upgrade(connection: Connection, version: str | None) -> None:
    # Imported here: alembic costs a tenth of a second that an up-to-date store need not pay.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise ConfigError(
            f"the store has schema version {version}, newer than this program knows",
            hint="install the newer touchstone again, or restore a backup of the state folder",
        )
    with MIGRATING:
        command.upgrade(config, "head")
