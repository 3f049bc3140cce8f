"""Finds stored records by identifier: seeded 64-bit hashes in sorted runs, kept in SQLite.

``index.db`` is a cache: one row a segment with the hashes of its rows as two arrays, 16 bytes a
record. It can be deleted at any time and is rebuilt from the segments. While importing, the
arrays lie in memory as sorted runs that are merged like the digits of a binary counter, so a
look-up touches at most log2(segments) of them (O'Neil et al., The Log-Structured Merge-Tree).
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.store.database import BUSY_TIMEOUT_MS, storage_errors
from shared.domain.vocabulary import Kind
from shared.files import storage_error

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_FORMAT = f"2/polars-{pl.__version__}"
"""Hashes are polars' own, a hundred times faster than one call a row to a cryptographic one, and
stable within one polars version only."""

_TABLES = """
create table if not exists meta (name text primary key, value blob not null);
create table if not exists segment_index (
    kind text not null, number integer not null, sha256 text not null,
    ids blob not null, prints blob not null, primary key (kind, number)
);
"""


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of n records.

    Attributes:
        ids: uint64[n], seeded hash of the record's full identifier. The seed is a secret of the
            store, and identifiers are compared in full wherever hashes meet, so whoever writes
            identifiers can neither confuse two records nor aim at slow look-ups.
        prints: uint64[n], seeded hash of all its values.
    """

    ids: U64
    prints: U64


class IndexFile:
    """``index.db``: the hash key of this store and the hashes of every catalogued segment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with storage_errors(path):
            # Used by one thread at a time, which need not be the one that opened it.
            self._connection = sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("pragma journal_mode = wal")
            # A lost tail is rebuilt, so a flush per commit would buy nothing.
            self._connection.execute("pragma synchronous = normal")
            self._connection.executescript(_TABLES)
            self._key = self._prepare()
        try:
            path.chmod(0o600)
        except OSError as error:
            self._connection.close()
            raise storage_error(error, path) from error

    def hashes(self, keys: pl.Series, frame: pl.DataFrame) -> Hashes:
        """Return the hashes of ``frame``'s rows, whose full identifiers are ``keys``."""
        ids = keys.hash(self._seed(b"identifier")).to_numpy()
        return Hashes(ids, frame.hash_rows(self._seed(b"row print")).to_numpy())

    def get(self, kind: Kind, number: int, sha256: str) -> Hashes | None:
        """Return the hashes of a segment if those of exactly this file are known."""
        with storage_errors(self._path):
            row = self._connection.execute(
                "select ids, prints from segment_index"
                " where kind = ? and number = ? and sha256 = ?",
                (kind, number, sha256),
            ).fetchone()
        if row is None:
            return None
        return Hashes(*(np.frombuffer(blob, dtype=np.uint64) for blob in row))

    def put(self, kind: Kind, number: int, sha256: str, hashes: Hashes) -> None:
        """Remember the hashes of a segment's rows, in the segment's order."""
        row = (kind, number, sha256, hashes.ids.tobytes(), hashes.prints.tobytes())
        with storage_errors(self._path):
            self._connection.execute(
                "insert or replace into segment_index values (?, ?, ?, ?, ?)", row
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _seed(self, purpose: bytes) -> int:
        digest = hashlib.blake2b(purpose, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest)

    def _prepare(self) -> bytes:
        self._connection.execute("begin immediate")
        meta = dict(self._connection.execute("select name, value from meta").fetchall())
        if meta.get("format") != _FORMAT.encode():
            meta = {"format": _FORMAT.encode(), "key": secrets.token_bytes(32)}
            self._connection.execute("delete from segment_index")
            self._connection.executemany(
                "insert or replace into meta values (?, ?)", list(meta.items())
            )
        self._connection.execute("commit")
        return bytes(meta["key"])


@dataclass(slots=True)
class _Run:
    ids: U64
    places: I64
    prints: U64


@dataclass(frozen=True, slots=True)
class Candidates:
    """Stored rows whose identifier hash equals that of a queried row.

    Attributes:
        queries: int64[m], positions in the query.
        places: int64[m], where the stored row lies, see :func:`place`.
        prints: uint64[m], the stored row's print.
    """

    queries: I64
    places: I64
    prints: U64


class RecordIndex:
    """The hashes of one kind's stored records, searchable."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, segment: int, hashes: Hashes) -> None:
        """Take in the rows of a segment."""
        order = np.argsort(hashes.ids, kind="stable")
        run = _Run(hashes.ids[order], place(segment, order), hashes.prints[order])
        while self._runs and len(self._runs[-1].ids) <= 2 * len(run.ids):
            run = _merge(self._runs.pop(), run)
        self._runs.append(run)

    def find(self, ids: U64) -> Candidates:
        """Return every stored row whose identifier hash is among ``ids``, uint64[n]."""
        order = np.argsort(ids)
        wanted = ids[order]
        found = [_search(run, wanted, order) for run in self._runs]
        if not found:
            none = np.empty(0, dtype=np.int64)
            return Candidates(none, none, none.astype(np.uint64))
        queries, places, prints = (np.concatenate(column) for column in zip(*found, strict=True))
        return Candidates(queries, places, prints)


def place(segment: int, rows: I64) -> I64:
    """Return where rows lie as one int64 each: later versions have greater places."""
    return (np.int64(segment) << np.int64(32)) | rows


def segments_of(places: I64) -> I64:
    """Return the segment number of each place."""
    return places >> np.int64(32)


def rows_of(places: I64) -> I64:
    """Return the row within its segment of each place."""
    return places & np.int64(0xFFFFFFFF)


def _merge(older: _Run, newer: _Run) -> _Run:
    at = np.searchsorted(older.ids, newer.ids)
    # Column by column, each let go before the next: the largest merge is an import's peak memory.
    prints = np.insert(older.prints, at, newer.prints)
    older.prints = newer.prints = _NOTHING
    places = np.insert(older.places, at, newer.places)
    older.places = newer.places = _NOTHING.astype(np.int64)
    return _Run(np.insert(older.ids, at, newer.ids), places, prints)


_NOTHING = np.empty(0, dtype=np.uint64)


def _search(run: _Run, wanted: U64, order: I64) -> tuple[I64, I64, U64]:
    """Return hits of ``wanted``, ascending, whose places in the query are ``order``."""
    first = np.searchsorted(run.ids, wanted, side="left")
    # Most identifiers are new: only those that are met are looked up a second time.
    near = np.minimum(first, len(run.ids) - 1)
    hits = np.flatnonzero(run.ids[near] == wanted)
    first = first[hits]
    count = np.searchsorted(run.ids, wanted[hits], side="right") - first
    # Hit i meets stored rows first[i] .. first[i] + count[i] - 1.
    queries = np.repeat(order[hits], count)
    starts = np.repeat(first - (np.cumsum(count) - count), count)
    at = starts + np.arange(len(queries))
    return queries, run.places[at], run.prints[at]
