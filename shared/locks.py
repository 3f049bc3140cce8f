"""One process a state folder: a lock that the operating system drops when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import NotFound, StateError
from shared.files import storage_error

MIGRATING = threading.Lock()
"""Held while a schema is migrated: alembic keeps its context in globals of the process."""


class AlreadyRunning(StateError):
    """Another process works in this state folder."""

    code = "already_running"


@contextmanager
def process_lock(path: Path, what: str) -> Iterator[None]:
    """Hold ``path`` locked, with this process's id in it, for as long as the body runs.

    The file stays behind on purpose: removing it would let two processes hold two files of one
    name. Only the lock counts, and no crash leaves a lock behind.

    Args:
        path: lock file inside the state folder, made when missing, mode 0600.
        what: what is running, for the error text.

    Raises:
        AlreadyRunning: another process holds the lock.
        NotFound: the folder does not exist.
        StorageError: the file cannot be written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise NotFound(f"there is no folder {path.parent}") from error
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        _lock(handle, path, what)
        _write(handle, path, f"{os.getpid()}\n")
        yield
        # Shrinking needs no room, but a disk may have turned read-only or broken meanwhile: the
        # id then stays, which harms nobody, since it is the lock that counts.
        with suppress(OSError):
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _write(handle: int, path: Path, text: str) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError as error:
        raise storage_error(error, path) from error


def _lock(handle: int, path: Path, what: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise storage_error(error, path) from error
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        raise AlreadyRunning(
            f"{what} is already running on {path.parent}"
            + (f" (process {holder})" if holder else ""),
            hint="stop that process first, or use another --dir",
        ) from error
