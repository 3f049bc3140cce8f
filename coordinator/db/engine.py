"""Engines: SQLite by default, PostgreSQL by URL, with the same guarantees on both."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from shared.errors import ConfigError
from shared.sqlite import AsItLies, connect

BUSY_TIMEOUT_MS = 10_000
"""How long a SQLite writer waits for another; the CLI and the server share one file."""

WRITES = "touchstone_writes"
"""Execution option that marks a connection on which a transaction is going to write."""

_ADVISORY_LOCK = 0x746F756368  # "touch"; any constant that all coordinators of a database share


def sqlite_url(path: Path) -> URL:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite+pysqlite", database=str(path))


def make_engine(url: str | URL) -> Engine:
    """Return an engine for a SQLite or ``postgresql+psycopg`` URL.

    Raises:
        ConfigError: another database, a malformed URL, or psycopg is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError("the database URL cannot be read") from error
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError(f"{parsed.get_backend_name()!r} is not a supported database")
    try:
        engine = create_engine(parsed)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError(
            "the driver of this database is not installed", hint="pip install 'psycopg[binary]'"
        ) from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "do_connect", _connect_sqlite)
        event.listen(engine, "checkin", _let_go)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgres)
    return engine


def _connect_sqlite(
    _dialect: Any, _record: Any, arguments: Any, options: Any
) -> sqlite3.Connection:
    return connect(*arguments, busy_ms=BUSY_TIMEOUT_MS, **options)


def _let_go(connection: sqlite3.Connection, record: Any) -> None:
    # The next one may find room on the disk, and would not see what others write meanwhile.
    if isinstance(connection, AsItLies):
        record.invalidate()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns writer half-way can fail at once with "database is
    # locked", whatever the busy time-out; an immediate one waits its turn.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    # One writer at a time, as on SQLite: indices, sequences and the audit chain count on it.
    if connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
