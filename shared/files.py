"""Durable, atomic files: written aside, flushed to disk, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from shared.errors import StorageError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when nothing more can be written for want of room."""


def fsync_dir(folder: Path) -> None:
    """Make a rename or unlink in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes | bytearray | memoryview, *, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never half.

    Raises:
        StorageError: the disk is full, read-only or broken; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.replace(path)
        fsync_dir(path.parent)
    except OSError as error:
        # A disk that has just turned read-only lets nothing be removed either.
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def write_folder(target: Path, files: Mapping[str, bytes], *, mode: int = 0o700) -> None:
    """Put ``files`` (name -> content) into the folder ``target``, all of them at once.

    Whatever lay at ``target`` before, whole or left by a crash, is replaced. One writer at a
    time: callers hold a lock of their own.

    Raises:
        StorageError: the disk is full, read-only or broken; ``target`` is old, new or absent.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=mode, parents=True)
        for name, content in files.items():
            write_atomic(partial / name, content)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        fsync_dir(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error


def storage_error(error: OSError, path: Path) -> StorageError:
    """Explain an operating-system error on ``path``."""
    why, hint = explained(error)
    return StorageError(f"cannot write {path.name}: {why}", hint=hint, detail=str(error))


def explained(error: OSError) -> tuple[str, str]:
    """Return why an operating-system error keeps a file from being written, and what to do."""
    causes = {
        errno.ENOSPC: ("the disk is full", "free some space and run the command again"),
        errno.EDQUOT: ("the disk quota is used up", "free some space and run the command again"),
        errno.EROFS: ("the disk is read-only", "mount the state folder writable"),
        errno.EACCES: ("permission denied", "run as the owner of the state folder"),
    }
    return causes.get(error.errno or 0, (error.strerror or "input/output error", ""))
