"""Opens SQLite files in write-ahead mode, and says what is wrong where that fails.

A file in that mode needs a side file of shared memory even to be read. On a full or read-only disk
SQLite cannot make one unless another process already has, and says "disk I/O error" or "unable to
open database file". Whoever only wants to read can read the file as it lies there, if no log of
changes lies beside it (sqlite.org/uri.html, ``immutable``).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from shared.disk import disk_fault, passes
from shared.errors import StorageError
from shared.files import explained

# sqlite.org/rescode.html; an extended code has one of these in its low byte.
_BUSY, _LOCKED, _READONLY, _CORRUPT, _FULL, _NOT_A_DATABASE = 5, 6, 8, 11, 13, 26
RESTORE = "restore it from a backup"
"""What to do about damage, and about nothing else: a backup knows less of what was spent."""

_SAID = {
    _BUSY: ("another process holds it", "wait until it is done and try again"),
    _LOCKED: ("another process holds it", "wait until it is done and try again"),
    _READONLY: ("the file is read-only", "run as the owner of the state folder"),
    _CORRUPT: ("it is damaged", RESTORE),
    _FULL: ("the disk is full", "free some space and run the command again"),
    _NOT_A_DATABASE: ("it is not a database", RESTORE),
}
_CLEAR = (_BUSY, _LOCKED, _CORRUPT, _FULL, _NOT_A_DATABASE)
"""What SQLite knows; what it says otherwise may be the disk's fault."""


class AsItLies(sqlite3.Connection):
    """A connection that reads a file without its side files; writing to it fails.

    It would not see another process's changes, so it is for one look, not to be kept.
    """


def connect(database: str, *, busy_ms: int, **options: Any) -> sqlite3.Connection:
    """Open a file in write-ahead mode, every commit flushed, foreign keys on.

    The driver begins no transactions of its own: its implicit BEGIN would come too late for a lock.

    Args:
        database: path of the file.
        busy_ms: how long a writer waits for another.
        options: further ones of :func:`sqlite3.connect`.

    Returns:
        An :class:`AsItLies` where a full or read-only disk allows nothing else.

    Raises:
        sqlite3.DatabaseError: it cannot be opened.
    """
    connection: sqlite3.Connection = sqlite3.connect(database, **options)
    try:
        connection.isolation_level = None
        connection.execute(f"pragma busy_timeout = {busy_ms}")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
    except sqlite3.DatabaseError as error:
        connection.close()
        return _as_it_lies(Path(database), error, options)
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file for reading; raises as :func:`connect`."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("select count(*) from sqlite_master")
    except sqlite3.DatabaseError as error:
        connection.close()
        return _as_it_lies(path, error, {})
    return connection


def _as_it_lies(path: Path, error: sqlite3.Error, options: dict[str, Any]) -> AsItLies:
    log = path.with_name(f"{path.name}-wal")
    changes = log.exists() and log.stat().st_size > 0
    if _code(error) in _CLEAR or changes or not passes(disk_fault(path.parent)):
        raise error
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, factory=AsItLies, **options)
    connection.isolation_level = None
    return connection


def storage_failure(error: BaseException, path: Path, what: str) -> StorageError:
    """Explain an error of SQLite, or SQLAlchemy's wrapping of one.

    Args:
        error: what was raised.
        path: the database's file; a vague error makes its folder be looked at.
        what: could not be done, for people: the text before the cause.
    """
    told = getattr(error, "orig", None) or error
    why, hint = _cause(_code(told), path)
    return StorageError(f"{what}: {why}", hint=hint, detail=str(told))


def _cause(code: int, path: Path) -> tuple[str, str]:
    if code in _CLEAR:
        return _SAID[code]
    fault = disk_fault(path.parent)
    if fault is not None:
        return explained(fault)
    vague = ("it cannot be opened, read or written", "check the disk, and who owns the folder")
    return _SAID.get(code, vague)


def _code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
