"""Checks the contract over a store, and keeps the verdict for as long as the records stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from participant.contract.duplicates import check_duplicates
from participant.contract.labels import check_labels, check_split
from participant.contract.leakage import check_leakage
from participant.contract.report import ContractReport, Part
from participant.contract.rules import CONTRACT_VERSION
from participant.contract.schema import check_schema
from participant.contract.times import check_times
from participant.contract.view import View
from participant.store import Store
from participant.training.known import Table
from shared.domain.schemas import SCHEMA_VERSION
from shared.domain.vocabulary import Kind
from shared.files import write_atomic

Progress = Callable[[str, int, int], None]
"""Told the part that begins, how many are done, and how many there are."""

KEPT_FOR = timedelta(days=7)
"""A verdict on the same records is found again after a week: labels grow old meanwhile."""

_PARTS: dict[str, Callable[[View], Part]] = {
    "labels": check_labels,
    "split": check_split,
    "time": check_times,
    "leakage": check_leakage,
    "duplicates": check_duplicates,
}


def table_of(store: Store) -> Table:
    """Return what a store without a run in mind would train: shops if it has nothing else."""
    shops_only = store.records.count("shops") > 0 and store.records.count("listings") == 0
    return "shops" if shops_only else "listings"


def check_records(store: Store, table: Table, progress: Progress | None = None) -> ContractReport:
    """Check the records of a kind now, and keep the verdict.

    Args:
        store: The member's store.
        table: ``listings`` (with their complaints and verdicts) or ``shops``.
        progress: Told about every part.

    Raises:
        StorageError: a segment is missing or damaged, or the verdict cannot be kept.
    """
    report = _checked(store, table, progress)
    write_atomic(_path(store, table), report.model_dump_json().encode(), mode=0o600)
    return report


def _checked(store: Store, table: Table, progress: Progress | None = None) -> ContractReport:
    state = _state(store, table)
    view = View(store.records, table, store.clock.now())
    parts = examine(view, progress)
    return ContractReport(
        contract=CONTRACT_VERSION, kind=table, state=state, checked_at=view.now, parts=parts
    )


def examine(view: View, progress: Progress | None = None) -> dict[str, Part]:
    """Check every part, and keep nothing.

    Raises:
        StorageError: a segment is missing or damaged.
    """
    tell = progress or (lambda _part, _done, _total: None)
    count = len(_PARTS) + 1
    tell("schema", 0, count)
    parts = {"schema": check_schema(view)}
    # Columns of another schema cannot be read as this one's: nothing else can be said then.
    if not any(one.code == "foreign_schema" for one in parts["schema"].findings):
        for done, (name, check) in enumerate(_PARTS.items(), 1):
            tell(name, done, count)
            parts[name] = check(view)
    tell("", count, count)
    return parts


def contract_of(store: Store, table: Table, *, keep: bool = True) -> ContractReport:
    """Return the kept verdict if it is of these very records and not old, else check now.

    Args:
        store: The member's store.
        table: As in :func:`check_records`.
        keep: Whether a verdict found now is written down.

    Raises:
        StorageError: see :func:`check_records`.
    """
    kept = _kept(_path(store, table))
    if kept is not None and (kept.contract, kept.kind) == (CONTRACT_VERSION, table):
        fresh = store.clock.now() - kept.checked_at
        if kept.state == _state(store, table) and timedelta(0) <= fresh < KEPT_FOR:
            return kept
    return check_records(store, table) if keep else _checked(store, table)


def _kept(path: Path) -> ContractReport | None:
    try:
        return ContractReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # none yet, or one of another version: it is found again
        return None


def _path(store: Store, table: Table) -> Path:
    return store.folder / f"contract-{table}.json"


def _state(store: Store, table: Table) -> str:
    """Return a digest of the records that the contract of a kind looks at."""
    listings: tuple[Kind, ...] = ("listings", "complaints", "verdicts")
    kinds = listings if table == "listings" else ("shops",)
    digests = {kind: store.records.state(kind) for kind in kinds}
    told = json.dumps([SCHEMA_VERSION, digests], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
