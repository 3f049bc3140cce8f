"""Parquet files of records: written aside, flushed, renamed; never changed afterwards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from shared.domain.schemas import KEY_COLUMNS, SCHEMAS, empty_frame
from shared.domain.vocabulary import Kind
from shared.errors import StorageError
from shared.files import storage_error, write_atomic

SEGMENT_ROWS = 100_000
"""Rows in one segment: some 10 MB, so that writing one aside costs little memory."""

_KEY_SEPARATOR = "\x1f"
_ZSTD_LEVEL = 1
"""Level 3 made files 6 % smaller and took 30 % longer."""


class Segments:
    """The segment files of one record kind."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.kind = kind
        self._folder = folder / kind

    def path(self, number: int) -> Path:
        """Return where segment ``number`` (from 1) lies."""
        return self._folder / f"{number:06d}.parquet"

    def write(self, number: int, frame: pl.DataFrame) -> str:
        """Store ``frame`` as segment ``number`` and return the file's SHA-256 in hex.

        Raises:
            StorageError: the disk is full, read-only or broken; no file is left.
        """
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=_ZSTD_LEVEL)
        data = buffer.getbuffer()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._folder) from error
        write_atomic(self.path(number), data, mode=0o600)
        return hashlib.sha256(data).hexdigest()

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return segment ``number`` in stored order, all columns or some.

        Raises:
            StorageError: the file is missing or damaged.
        """
        try:
            return pl.read_parquet(
                self.path(number), columns=None if columns is None else [*columns]
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._damaged(number, error) from error

    def schema(self, number: int) -> pl.Schema:
        """Return the columns of segment ``number`` as they lie on disk.

        Raises:
            StorageError: the file is missing or damaged.
        """
        try:
            return pl.Schema(pl.read_parquet_schema(self.path(number)))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._damaged(number, error) from error

    def scan(self, numbers: Sequence[int]) -> pl.LazyFrame:
        """Return the segments one after another, lazily, in canonical columns."""
        if not numbers:
            return empty_frame(self.kind).lazy()
        for number in numbers:
            if not self.path(number).exists():
                raise self._damaged(number, None)
        return pl.scan_parquet(
            [self.path(number) for number in numbers], schema=SCHEMAS[self.kind], glob=False
        )

    def digest(self, number: int) -> str:
        """Return the SHA-256 of segment ``number`` as it lies on disk, in hex."""
        try:
            with self.path(number).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self._damaged(number, error) from error

    def sweep(self, keep: set[int]) -> None:
        """Remove what an interrupted import left: partial files and segments not in ``keep``."""
        wanted = {self.path(number).name for number in keep}
        try:
            for file in self._folder.glob("*"):
                if file.suffix in (".part", ".parquet") and file.name not in wanted:
                    file.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self._folder) from error

    def _damaged(self, number: int, error: Exception | None) -> StorageError:
        return StorageError(
            f"segment {self.kind}/{self.path(number).name} is missing or damaged",
            hint="restore it from a backup of the state folder",
            detail=str(error or ""),
        )


def record_keys(frame: pl.DataFrame, kind: Kind) -> pl.Series:
    """Return each row's full identifier as a string; equal only for the same record.

    Composite keys are joined by U+001F. Only a key's first part is free text, so the join is
    unambiguous read from the right. Times count in microseconds.
    """
    parts = [
        pl.col(name).to_physical().cast(pl.String)
        if frame.schema[name].is_temporal()
        else pl.col(name)
        for name in KEY_COLUMNS[kind]
    ]
    return frame.select(pl.concat_str(parts, separator=_KEY_SEPARATOR).alias("key")).to_series()
