"""Is a disk full or read-only? Asked when a library says only that something did not work.

And what a long-lived process does about it: somebody will see to such a disk, so it waits. Ending
would leave it down for good, since a service manager does not start again what ended with a state
that does not allow it (exit code 3).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

from shared.errors import StorageError
from shared.files import DISK_FULL, storage_error

LEAST_BYTES = 64 * 1024
"""With less, SQLite cannot make its side files: 32 KiB of shared memory and a page of the log."""

START_BYTES = 1024 * 1024
"""With less, a service that starts would be stopped by its first lines of log and first pages."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between two looks at a disk: somebody who has made room should not have to wait for long."""

_PASSING = (*DISK_FULL, errno.EROFS)


def disk_fault(folder: Path, needed: int = LEAST_BYTES) -> OSError | None:
    """Return why nothing can be written in a folder, or None if nothing speaks against it.

    Looks, and writes nothing. A quota does not show.

    Args:
        folder: where; if it is missing, what is above it counts.
        needed: bytes that must be free.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    number = _fault(folder, needed)
    return OSError(number, os.strerror(number), str(folder)) if number else None


def _fault(folder: Path, needed: int) -> int:
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return error.errno or errno.EIO
    if disk.f_flag & os.ST_RDONLY:
        return errno.EROFS
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # some are kept for root
    no_more_files = disk.f_files > 0 and disk.f_favail == 0
    if no_more_files or blocks * disk.f_frsize < needed:
        return errno.ENOSPC
    return 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES


def passes(fault: OSError | None) -> bool:
    """Tell whether a fault is a full or read-only disk, which may be otherwise in a moment."""
    return fault is not None and fault.errno in _PASSING


def when_disk_allows(
    folder: Path,
    work: Callable[[], None],
    tell: Callable[[str], None],
    pause: Callable[[float], bool] | None = None,
) -> None:
    """Do ``work``; while a full or read-only disk forbids it, wait and begin anew.

    Args:
        folder: the state folder.
        work: a service.
        tell: told what is being waited for, once for each cause.
        pause: waits for some seconds; false to give up. By default SIGTERM makes it give up.

    Raises:
        StorageError: the storage fails in a way that does not pass, such as damage.
    """
    told, seconds = "", FIRST_PAUSE_S
    while True:
        try:
            _check_room(folder)
            work()
        except StorageError as error:
            if not _is_of_the_disk(error, folder):
                raise
            if error.message != told:
                told = error.message
                tell(f"waiting for the disk: {told}")
        else:
            return
        if not (pause or _pause)(seconds):
            return
        seconds = min(2 * seconds, LONGEST_PAUSE_S)


def _check_room(folder: Path) -> None:
    fault = disk_fault(folder, START_BYTES) if folder.is_dir() else None
    if fault is not None and passes(fault):
        raise storage_error(fault, folder) from fault


def _is_of_the_disk(error: StorageError, folder: Path) -> bool:
    cause = error.__cause__
    own = isinstance(cause, OSError) and passes(cause)
    return own or passes(disk_fault(folder, START_BYTES))


def _pause(seconds: float) -> bool:
    """Wait; return false as soon as SIGTERM comes, which process 1 of a container gets only so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return signal.sigtimedwait({signal.SIGTERM}, seconds) is None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
