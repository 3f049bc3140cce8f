"""A long-lived process of either side, from its command to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shared.console import say
from shared.disk import when_disk_allows
from shared.scratch import make_scratch
from shared.signals import leave_at_sigterm


def run_service(folder: Path, work: Callable[[], None]) -> None:
    """Do ``work`` until it returns; while the disk is full or read-only, wait and begin anew.

    SIGTERM ends it with exit code 0 at any moment at which ``work`` does not listen by itself.

    Args:
        folder: the state folder.
        work: imports what it needs and serves; called again after a wait.

    Raises:
        StorageError: the storage fails in a way that does not pass, such as damage.
    """

    def attempt() -> None:
        make_scratch()
        try:
            work()
        finally:
            leave_at_sigterm()  # again: an event loop that ends leaves the signal to the system

    leave_at_sigterm()
    when_disk_allows(folder, attempt, say)
