"""A SQLite file as it lies there, looked at before anything opens it for writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared.doctor.report import Check, ok, warn
from shared.errors import ConfigError, StorageError


def check_integrity(path: Path) -> None:
    """Raise :class:`StorageError` if SQLite finds damage in the file."""
    with _read_only(path) as connection:
        (told,) = connection.execute("pragma quick_check(1)").fetchone()
    if told != "ok":
        raise _damaged(path)


def check_schema(path: Path, head: str, empty_hint: str) -> Check:
    """Check the schema's version against the newest one that this software knows.

    Raises:
        ConfigError: it is newer.
        StorageError: the file is damaged.
    """
    with _read_only(path) as connection:
        known = "select count(*) from sqlite_master where name = 'alembic_version'"
        if not connection.execute(known).fetchone()[0]:
            return warn("database", "no_records", "the database is still empty", empty_hint)
        (found,) = connection.execute("select version_num from alembic_version").fetchone()
    if found == head:
        return ok("database", f"whole, schema {found}")
    if str(found) < head:
        text = f"schema {found}, which the next command brings to {head}"
        return warn("database", "schema_old", text, "make a backup before you go on")
    raise ConfigError(
        f"the database has schema {found}, newer than this program knows",
        hint="install the newer touchstone again, or restore a backup of the state folder",
    )


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StorageError:
    return StorageError(
        f"{path.name} is damaged or cannot be read", hint="restore it from a backup"
    )
