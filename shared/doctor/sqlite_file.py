"""A SQLite file as it lies there, looked at before anything opens it for writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared.doctor.report import Check, ok, warn
from shared.errors import ConfigError, StorageError
from shared.sqlite import RESTORE, connect_to_read, storage_failure


def check_integrity(path: Path) -> None:
    """Raise :class:`StorageError` if SQLite finds damage in the file, or cannot read it."""
    with _read_only(path) as connection:
        (told,) = connection.execute("pragma quick_check(1)").fetchone()
    if told != "ok":
        raise StorageError(f"cannot use {path.name}: it is damaged", hint=RESTORE)


def check_schema(path: Path, head: str, empty_hint: str) -> Check:
    """Check the schema's version against the newest one that this software knows.

    Raises:
        ConfigError: it is newer.
        StorageError: the file is damaged, or cannot be read.
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
        with closing(connect_to_read(path)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise storage_failure(error, path, f"cannot use {path.name}") from error
