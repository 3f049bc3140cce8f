"""The record store: de-duplicated, versioned, all-or-nothing imports over Parquet segments.

The catalogue (table ``segment``) says which files count. A writer adds segment files first and
lists them in one transaction at the end, so a reader sees a whole import or nothing of it, and
whatever a killed writer left is not listed and is swept by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import polars as pl
from sqlmodel import Session, col, select

from participant.store.database import Database
from participant.store.index import IndexFile
from participant.store.models import SegmentRow
from participant.store.segments import Segments
from participant.store.versions import ROW, identifying, superseded
from participant.store.writer import RecordWriter, Tally
from shared.domain.schemas import KEY_COLUMNS, SCHEMAS
from shared.domain.vocabulary import KINDS, Kind
from shared.errors import StateError, StorageError
from shared.files import storage_error


class Records:
    """Listings, complaints, verdicts and shops of this member."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._segments: dict[Kind, Segments] = {
            kind: Segments(folder / "segments", kind) for kind in KINDS
        }

    def frame(self, kind: Kind, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the latest version of every record, in canonical columns or some of them.

        Args:
            kind: Which records.
            columns: Columns to return, in this order; all by default.

        Raises:
            StorageError: a segment is missing or damaged.
        """
        return _collected(self.scan(kind), kind, columns)

    def scan(self, kind: Kind) -> pl.LazyFrame:
        """Return the latest version of every record as a lazy query, in order of arrival.

        Which version that is: :mod:`participant.store.versions`.

        Raises:
            StorageError: a segment is missing or damaged.
        """
        versions = self._versions(kind)
        if not self.older_versions(kind):
            return versions.drop(ROW)
        rest = superseded(_collected(versions, kind, identifying(kind)), kind)
        latest = versions.join(rest.lazy(), on=ROW, how="anti", maintain_order="left")
        return latest.drop(ROW)

    def older(
        self, kind: Kind, among: pl.Series, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Return what records were once like, in order of arrival.

        Args:
            kind: Which records.
            among: Values of the first key column; versions of other records are left out.
            columns: Columns to return, in this order; all by default.

        Raises:
            StorageError: a segment is missing or damaged.
        """
        versions = self._versions(kind)
        if not self.older_versions(kind):
            return _collected(versions.drop(ROW).clear(), kind, columns)
        asked = versions.filter(pl.col(KEY_COLUMNS[kind][0]).is_in(among.implode()))
        rest = superseded(_collected(asked, kind, identifying(kind)), kind)
        former = rest.filter("former").lazy()
        frame = versions.join(former, on=ROW, how="semi", maintain_order="left")
        return _collected(frame.drop(ROW), kind, columns)

    def _versions(self, kind: Kind) -> pl.LazyFrame:
        """Return every version of every record in order of arrival, numbered."""
        numbers = [row.number for row in self._catalogue(kind)]
        return self._segments[kind].scan(numbers).with_row_index(ROW)

    def count(self, kind: Kind) -> int:
        """Return how many different records there are."""
        return sum(row.rows - row.replaced for row in self._catalogue(kind))

    def older_versions(self, kind: Kind) -> int:
        """Return how many stored rows are not the latest version of their record."""
        return sum(row.replaced for row in self._catalogue(kind))

    def state(self, kind: Kind) -> str:
        """Return a digest, in hex, of what is stored: equal only for the same records."""
        told = "\n".join(f"{row.number} {row.sha256}" for row in self._catalogue(kind))
        return hashlib.sha256(told.encode()).hexdigest()

    def foreign_segments(self, kind: Kind) -> int:
        """Return how many segments have other columns or types than this version's schema.

        Raises:
            StorageError: a segment is missing or damaged.
        """
        segments = self._segments[kind]
        return sum(segments.schema(row.number) != SCHEMAS[kind] for row in self._catalogue(kind))

    def put(self, kind: Kind, frame: pl.DataFrame) -> Tally:
        """Store valid records, all or none; the same records again add nothing.

        Args:
            kind: Which records.
            frame: Validated rows in the canonical schema (shared.domain.schemas).

        Raises:
            StateError: another import is running.
            StorageError: the disk is full, read-only or broken.
        """
        with self.writer(kind) as writer:
            writer.add(frame)
            with self._database.transaction() as session:
                writer.commit(session)
        return writer.tally

    @contextmanager
    def writer(self, kind: Kind) -> Iterator[RecordWriter]:
        """Yield the only writer of this store; what it does not commit is removed again.

        Raises:
            StateError: another import is running.
            StorageError: the disk is full, read-only or broken.
        """
        with self._lock():
            listed = self._catalogue(kind)
            segments = self._segments[kind]
            segments.sweep({row.number for row in listed})
            index = IndexFile(self._folder / "index.db")
            writer = RecordWriter(segments, index, listed)
            try:
                yield writer
            finally:
                index.close()
                segments.sweep({row.number for row in self._catalogue(kind)})

    def verify(self) -> int:
        """Compare every segment with its digest in the catalogue; return how many there are.

        Raises:
            StorageError: a segment is missing or differs.
        """
        rows = self._all_rows()
        for row in rows:
            self._check(row)
        return len(rows)

    def verify_some(self, seconds: float) -> bool:
        """Compare segments with their digests for some time; return whether that was all of them.

        They come in random order, so that looks from time to time see every one.

        Raises:
            StorageError: a segment is missing or differs.
        """
        until = time.monotonic() + seconds
        rows = self._all_rows()
        secrets.SystemRandom().shuffle(rows)
        for row in rows:
            if time.monotonic() >= until:
                return False
            self._check(row)
        return True

    def _all_rows(self) -> list[SegmentRow]:
        return [row for kind in self._segments for row in self._catalogue(kind)]

    def _check(self, row: SegmentRow) -> None:
        kind = cast("Kind", row.kind)
        segments = self._segments[kind]
        if segments.digest(row.number) != row.sha256:
            raise StorageError(
                f"segment {kind}/{segments.path(row.number).name} is damaged",
                hint="restore it from a backup of the state folder",
            )

    def _catalogue(self, kind: Kind) -> list[SegmentRow]:
        with self._database.reading() as session:
            return _listed(session, kind)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._folder / "import.lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(error, path) from error
        try:
            _acquire(handle)
            yield
        finally:
            os.close(handle)


def _collected(frame: pl.LazyFrame, kind: Kind, columns: Sequence[str] | None) -> pl.DataFrame:
    try:
        return (frame if columns is None else frame.select(columns)).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(
            f"the stored {kind} cannot be read",
            hint="restore the state folder from a backup",
            detail=str(error),
        ) from error


def _acquire(handle: int) -> None:
    # The kernel lets go of the lock when the process dies, however it dies.
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateError("another import is running", hint="wait until it is done") from error


def _listed(session: Session, kind: Kind) -> list[SegmentRow]:
    query = select(SegmentRow).where(SegmentRow.kind == kind).order_by(col(SegmentRow.number))
    return list(session.exec(query))
