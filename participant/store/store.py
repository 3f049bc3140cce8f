"""The door to a member's state folder."""

from __future__ import annotations

from pathlib import Path

from participant.store.audit import AuditLog
from participant.store.database import Database
from participant.store.records import Records
from participant.store.registers import Consents, Deployments, PrivacyLedger
from shared.clock import Clock, SystemClock
from shared.errors import NotFound, StorageError
from shared.files import storage_error


class Store:
    """Everything a member keeps in ``<dir>/store``.

    Attributes:
        folder: ``<dir>/store``.
        database: The SQLite file, for services that write rows of their own.
        records: Listings, complaints, verdicts, shops.
        audit: The hash-chained log.
        ledger: Privacy spent.
        deployments: Decisions about releases.
        consents: Answers to runs.
    """

    def __init__(self, folder: Path, database: Database, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.database = database
        self.records = Records(folder, database)
        self.audit = AuditLog(database, clock)
        self.ledger = PrivacyLedger(database, clock)
        self.deployments = Deployments(database, clock)
        self.consents = Consents(database, clock)

    @classmethod
    def open(cls, directory: Path, *, clock: Clock | None = None, create: bool = True) -> Store:
        """Open the store in a state folder, bringing its schema up to date.

        Args:
            directory: The member's state folder; it need not have joined an alliance.
            clock: Tells the time; the machine's by default.
            create: Make an empty store where there is none.

        Raises:
            NotFound: there is no store and ``create`` is false.
            ConfigError: the store was written by a newer version.
            StorageError: the folder cannot be used, or its database is gone but records remain.
        """
        folder = directory / "store"
        path = folder / "touchstone.db"
        if not path.exists():
            _prepare(folder, create=create)
        return cls(folder, Database(path), clock or SystemClock())

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _prepare(folder: Path, *, create: bool) -> None:
    # Sweeping goes by the catalogue: an empty one beside segments would delete them all.
    if next(folder.glob("segments/*/*.parquet"), None) is not None:
        raise StorageError(
            "the store's database is missing but its records are there",
            hint="restore store/touchstone.db from a backup",
        )
    if not create:
        raise NotFound("there is no store in this folder", hint="import some data first")
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for made in (folder, folder / "segments"):
            made.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its side files the mode that the database has when it opens it.
        (folder / "touchstone.db").touch(mode=0o600)
    except OSError as error:
        raise storage_error(error, folder) from error
