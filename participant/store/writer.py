"""Adds records to one kind: drops what is stored already, writes the rest as new segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

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
from participant.store.versions import TIME_COLUMN, has_time
from shared.domain.schemas import KEY_COLUMNS, SCHEMAS

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows that were added.

    Attributes:
        added: Records that were not stored before.
        updated: Records stored before with other values: each has a version more.
        unchanged: Records stored before with the same values; a record that comes again further
            down a long import is counted each time.
        duplicates: Rows whose record occurred in the same import already: a version each if they
            are of another time, else the last one wins.
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
class _Stored:
    """What is stored of each queried row's record.

    Attributes:
        places: int64[n], of the version that came last, -1 if there is none.
        same: bool[n], whether the row itself is stored and holds.
    """

    places: I64
    same: Bools


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
            kept = last | self._is_version(frame, keys)
            frame, keys, last = frame.filter(kept), keys.filter(kept), last.filter(kept)
        hashes = self._file.hashes(keys, frame)
        stored = self._stored(keys, frame, hashes)
        fresh, known, once = ~stored.same, stored.places >= 0, last.to_numpy()
        again = known & (segments_of(stored.places) >= self._first_new)
        changed = fresh if once.all() else _any_of(keys, fresh)
        tally = Tally(
            added=int((~known & once).sum()),
            updated=int((known & changed & ~again & once).sum()),
            unchanged=int((~changed & ~again & once).sum()),
            duplicates=int((again & once).sum()),
        )
        self._count(**asdict(tally))
        if fresh.any():
            written = Hashes(hashes.ids[fresh], hashes.prints[fresh])
            self._write(frame.filter(pl.Series(fresh)), written, int(fresh.sum()) - tally.added)

    def _is_version(self, frame: pl.DataFrame, keys: pl.Series) -> pl.Series:
        """Return bool[n]: rows of records that say in each of their rows when it is from.

        Of rows of the same time it is the last.
        """
        if not has_time(self._segments.kind):
            return pl.repeat(False, len(keys), dtype=pl.Boolean, eager=True)
        rows = pl.DataFrame({"key": keys, "at": frame[TIME_COLUMN]})
        timed = rows.select(pl.col("at").is_not_null().all().over("key")).to_series()
        return timed & rows.to_struct().is_last_distinct()

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

    def _stored(self, keys: pl.Series, frame: pl.DataFrame, hashes: Hashes) -> _Stored:
        places = np.full(len(keys), -1, dtype=np.int64)
        equal = places.copy()
        met = self._confirmed(keys, self._index.find(hashes.ids))
        # In order of arrival, so that what is assigned last is what came last.
        order = np.argsort(met.places)
        places[met.queries[order]] = met.places[order]
        alike = order[met.prints[order] == hashes.prints[met.queries[order]]]
        equal[met.queries[alike]] = met.places[alike]
        same = equal >= 0
        passed = np.flatnonzero(same & (equal < places))
        if len(passed):
            same[passed] = self._still_hold(passed, equal, frame, met)
        return _Stored(places, same)

    def _still_hold(self, passed: I64, equal: I64, frame: pl.DataFrame, met: Candidates) -> Bools:
        """Return bool[m]: whether rows ``passed``, stored at ``equal``, hold after later versions.

        They do if all are known to be of another time, so that a file may tell of a history.
        """
        if not has_time(self._segments.kind):
            return np.zeros(len(passed), dtype=np.bool_)
        later = np.isin(met.queries, passed) & (met.places > equal[met.queries])
        own, places = frame[TIME_COLUMN].gather(met.queries[later]), met.places[later]
        corrected = np.zeros(len(places), dtype=np.bool_)
        for number, here in _by_segment(places):
            times = self._segments.read(number, (TIME_COLUMN,))[TIME_COLUMN]
            theirs, ours = times.gather(rows_of(places[here])), own.gather(here)
            unknown = theirs.is_null() | ours.is_null()  # true or null is true, in polars too
            corrected[here] = (unknown | (theirs == ours)).to_numpy()
        return ~np.isin(passed, met.queries[later][corrected])

    def _confirmed(self, keys: pl.Series, met: Candidates) -> Candidates:
        """Keep the candidates whose full identifier is the queried one, not its hash alone."""
        same = np.zeros(len(met.queries), dtype=np.bool_)
        for number, here in _by_segment(met.places):
            stored = self._stored_keys(number).gather(rows_of(met.places[here]))
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


def _by_segment(places: I64) -> Iterator[tuple[int, I64]]:
    """Yield each segment's number and which of the places are in it."""
    numbers = segments_of(places)
    for number in np.unique(numbers):
        yield int(number), np.flatnonzero(numbers == number)


def _any_of(keys: pl.Series, true: Bools) -> Bools:
    """Return bool[n]: whether it is true of any row with the same key."""
    rows = pl.DataFrame({"key": keys, "true": true})
    return rows.select(pl.col("true").any().over("key")).to_series().to_numpy()
