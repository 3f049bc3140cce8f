"""One process at a time may change which model runs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from participant.deployment import log
from participant.deployment.active import MODELS
from participant.deployment.fetch import RELEASES
from participant.deployment.head import FOLDER as HEADS
from participant.deployment.local_model import FOLDER as LOCAL
from participant.deployment.state import read_state
from participant.store import Store
from shared.clock import Clock
from shared.files import storage_error


@contextmanager
def exclusive(state_dir: Path, clock: Clock) -> Iterator[Store]:
    """Wait for the lock on ``models/``, finish what a killed process left, yield the store.

    Raises:
        StorageError: the folder or the store cannot be used.
        StateError: ``active.json`` is damaged.
    """
    models = state_dir / MODELS
    try:
        models.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(models / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(error, models) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _sweep(models)
        store = Store.open(state_dir, clock=clock)
        try:
            log.catch_up(store, read_state(models))
            yield store
        finally:
            store.close()
    finally:
        os.close(handle)


def _sweep(models: Path) -> None:
    """Remove what a killed process was still writing; nobody else writes under the lock."""
    try:
        for name in ("", HEADS, LOCAL, RELEASES):
            for part in (models / name).glob(".*.part"):
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()
    except OSError as error:
        raise storage_error(error, models) from error
