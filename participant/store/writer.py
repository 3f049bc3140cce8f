"""Adds records to one kind: drops what is stored already, writes the rest as new segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlmodel import Session

from participant.store.index import (
    I64,
    Candidates,
    Hashes,
    IndexFile,
    RecordIndex,
    rows_of,
    segments_of,
)
from participant.store.models import SegmentRow
from participant.store.segments import SEGMENT_ROWS, Segments, record_keys
from shared.domain.schemas import KEY_COLUMNS, SCHEMAS


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows that were added.

    Attributes:
        added: Records that were not stored before.
        updated: Records stored before with other values; the new ones are now the latest.
        unchanged: Records stored before with the same values; a record that comes again further
            down a long import is counted each time.
        duplicates: Rows whose record occurred in the same import already; the last one wins.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0

    @property
    def kept(self) -> int:
        """Different records that are now stored as given."""
        return self.added + self.updated + self.unchanged


@dataclass(frozen=True, slots=True)
class _Latest:
    """The newest stored version of each queried row: place (-1 if none) and print."""

    places: I64
    prints: NDArray[np.uint64]


class RecordWriter:
    """One import in progress; see :meth:`participant.store.records.Records.writer`."""

    def __init__(self, segments: Segments, index: IndexFile, listed: Sequence[SegmentRow]) -> None:
        self._segments = segments
        self._file = index
        self._new: list[SegmentRow] = []
        self._first_new = 1 + max((row.number for row in listed), default=0)
        self._index = RecordIndex()
        for row in listed:
            self._index.add(row.number, self._known_hashes(row))
        self.tally = Tally()

    def add(self, frame: pl.DataFrame) -> None:
        """Take in validated rows in the canonical schema; order matters, the last wins.

        Raises:
            StorageError: the disk is full, read-only or broken.
            ValueError: the columns are not the canonical ones.
        """
        if frame.schema != SCHEMAS[self._segments.kind]:
            raise ValueError(f"these are not the canonical columns of {self._segments.kind}")
        for part in frame.iter_slices(SEGMENT_ROWS):
            self._add(part)

    def commit(self, session: Session) -> None:
        """List the new segments in the catalogue, within the caller's transaction."""
        session.add_all(self._new)

    def _add(self, frame: pl.DataFrame) -> None:
        keys = record_keys(frame, self._segments.kind)
        last = keys.is_last_distinct()
        if not last.all():
            self._count(duplicates=int((~last).sum()))
            frame, keys = frame.filter(last), keys.filter(last)
        hashes = self._file.hashes(keys, frame)
        latest = self._latest(keys, hashes)
        known = latest.places >= 0
        fresh = ~known | (latest.prints != hashes.prints)
        again = known & (segments_of(latest.places) >= self._first_new)
        self._count(
            added=int((~known).sum()),
            updated=int((known & fresh & ~again).sum()),
            unchanged=int((~fresh & ~again).sum()),
            duplicates=int(again.sum()),
        )
        if fresh.any():
            written = Hashes(hashes.ids[fresh], hashes.prints[fresh])
            self._write(frame.filter(pl.Series(fresh)), written, int((known & fresh).sum()))

    def _write(self, frame: pl.DataFrame, hashes: Hashes, replaced: int) -> None:
        number = self._first_new + len(self._new)
        sha256 = self._segments.write(number, frame)
        kind = self._segments.kind
        self._file.put(kind, number, sha256, hashes)
        self._index.add(number, hashes)
        self._new.append(
            SegmentRow(
                kind=kind, number=number, rows=frame.height, replaced=replaced, sha256=sha256
            )
        )

    def _latest(self, keys: pl.Series, hashes: Hashes) -> _Latest:
        places = np.full(len(keys), -1, dtype=np.int64)
        prints = np.zeros(len(keys), dtype=np.uint64)
        met = self._confirmed(keys, self._index.find(hashes.ids))
        # In order of age, so that what is assigned last is the newest version.
        order = np.argsort(met.places)
        places[met.queries[order]] = met.places[order]
        prints[met.queries[order]] = met.prints[order]
        return _Latest(places, prints)

    def _confirmed(self, keys: pl.Series, met: Candidates) -> Candidates:
        """Keep the candidates whose full identifier is the queried one, not its hash alone."""
        same = np.zeros(len(met.queries), dtype=np.bool_)
        numbers = segments_of(met.places)
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            stored = self._stored_keys(int(number)).gather(rows_of(met.places[here]))
            same[here] = (stored == keys.gather(met.queries[here])).to_numpy()
        return Candidates(met.queries[same], met.places[same], met.prints[same])

    def _stored_keys(self, number: int) -> pl.Series:
        kind = self._segments.kind
        return record_keys(self._segments.read(number, KEY_COLUMNS[kind]), kind)

    def _known_hashes(self, row: SegmentRow) -> Hashes:
        kind = self._segments.kind
        known = self._file.get(kind, row.number, row.sha256)
        if known is None:
            frame = self._segments.read(row.number)
            known = self._file.hashes(record_keys(frame, kind), frame)
            self._file.put(kind, row.number, row.sha256, known)
        return known

    def _count(self, **more: int) -> None:
        now = self.tally
        self.tally = replace(now, **{name: getattr(now, name) + n for name, n in more.items()})
