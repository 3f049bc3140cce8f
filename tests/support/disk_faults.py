"""A disk that fills up, or turns read-only, at a chosen point of an operation.

Every call by which this process changes a disk is a point. From the chosen one on, all of them
fail, as they do on a real disk; only removing files still works on a full one. SQLite writes past
Python: its own limits stand in for a full and for a read-only disk, see :func:`database_fault`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from shared.errors import Exit, StorageError

FULL, READ_ONLY = errno.ENOSPC, errno.EROFS
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ADDING = ("write", "fsync", "mkdir", "replace", "rename", "chmod")
_REMOVING = ("unlink", "rmdir")
SAYS = {FULL: "the disk is full", READ_ONLY: "the disk is read-only"}


class Disk:
    """Counts points, and fails from one of them on.

    Args:
        fault: :data:`FULL` or :data:`READ_ONLY`.
        after: points that still work.
    """

    def __init__(self, fault: int, after: int) -> None:
        self._fault = fault
        self._left = after
        self._lock = threading.Lock()
        self.failed = False

    def point(self) -> None:
        """Pass one point, or fail at it."""
        with self._lock:
            self._left -= 1
            if self._left < 0:
                self.failed = True
                raise OSError(self._fault, os.strerror(self._fault))


@contextmanager
def faulty(fault: int, after: int) -> Iterator[Disk]:
    """Let the disk fail in the block, from its ``after``-th point on (from 0)."""
    disk = Disk(fault, after)
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_ADDING, *(_REMOVING if fault == READ_ONLY else ())):
            patch.setattr(os, name, _counted(disk, getattr(os, name)))
        patch.setattr(os, "open", _opening(disk, os.open))
        yield disk


def _counted(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        disk.point()
        return real(*arguments, **options)

    return call


def _opening(disk: Disk, real: Callable[..., int]) -> Callable[..., int]:
    def call(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & _WRITING:
            disk.point()
        return real(path, flags, *arguments, **options)

    return call


def fails_at_every_point(
    operation: Callable[[], object],
    unharmed: Callable[[], None],
    fault: int,
    *,
    most: int = 200,
) -> int:
    """Run an operation once for each of its points; return how many there are.

    Args:
        operation: What writes. Each time anew, until it gets through.
        unharmed: Asserts, after each failure, that nothing is half done.
        fault: What the disk does.
        most: Points after which the operation must have got through.
    """
    for after in range(most):
        with faulty(fault, after) as disk:
            error = _error_of(operation)
        if not disk.failed:
            assert error is None
            return after
        assert error is not None, after
        assert SAYS[fault] in error.message, (after, error.message)
        assert error.exit_code is Exit.CONFIG
        assert error.hint
        unharmed()
    raise AssertionError(f"more than {most} points")


def _error_of(operation: Callable[[], object]) -> StorageError | None:
    try:
        operation()
    except StorageError as error:
        return error
    return None


@contextmanager
def database_fault(fault: int) -> Iterator[None]:
    """Let SQLite refuse to grow its files, or to write at all, in the block."""
    limit = "max_page_count = 1" if fault == FULL else "query_only = on"

    def limited(connection: Any, _record: Any) -> None:
        connection.execute(f"pragma {limit}")

    event.listen(Engine, "connect", limited)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limited)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but SQLite's own, which SQLite restores by itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".db" not in path.name
    }
