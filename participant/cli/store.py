"""Opens the node's store for one command; the node may be running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from participant.store import Store
    from participant.store.audit import AuditLog


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open the store of a state folder; nothing of it is imported before it is needed."""
    from participant.store import Store

    store = Store.open(folder)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def audit_log(folder: Path) -> Iterator[AuditLog]:
    """Open the node's audit log for one event."""
    with opened(folder) as store:
        yield store.audit
