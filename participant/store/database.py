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

from shared.errors import ConfigError
from shared.locks import MIGRATING
from shared.sqlite import AsItLies, connect, storage_failure

SCHEMA_HEAD = "0002"
"""The newest migration; a test holds it equal to what alembic finds."""

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another process before it gives up."""

_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """One SQLite file in write-ahead mode, shared by the node, the commands and the console.

    A disk that is full or read-only lets it be read; see :mod:`shared.sqlite`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "do_connect", _connect)
        event.listen(self._engine, "checkin", _let_go)
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
        raise storage_failure(error, path, f"cannot use {path.name}") from error


def _is_integrity(error: BaseException) -> bool:
    return isinstance(getattr(error, "orig", None), sqlite3.IntegrityError)


def _connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> sqlite3.Connection:
    return connect(*arguments, busy_ms=BUSY_TIMEOUT_MS, **options)


def _let_go(connection: sqlite3.Connection, record: Any) -> None:
    # The next one may find room on the disk, and would not see what others write meanwhile.
    if isinstance(connection, AsItLies):
        record.invalidate()


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
