"""The readers behind :func:`open_source`: CSV, JSON Lines, Parquet."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from participant.ingest.mapping import FileFormat
from participant.ingest.rejects import Reject
from participant.ingest.sources import BATCH_ROWS, FileFacts, RawBatch, Source, unreadable
from shared.errors import BadInput
from shared.files import DISK_FULL, storage_error
from shared.limits import MAX_EXPORT_FIELD

csv.field_size_limit(MAX_EXPORT_FIELD)

_TEXT_ROWS = BATCH_ROWS // 2
"""Rows of a text file at once: polars parses several batches ahead, which costs most memory."""

_WINDOW_ROWS = 6 * BATCH_ROWS
"""Rows of a Parquet file asked for at once: polars reads ahead as far as it is allowed to."""

_UTF8 = ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii")


class RaggedCsv(Exception):
    """A line has more fields than the header; the careful reader can tell which."""


@contextmanager
def open_source(facts: FileFacts, how: FileFormat, *, careful: bool = False) -> Iterator[Source]:
    """Open an examined file.

    Args:
        facts: From :func:`participant.ingest.sources.examine`.
        how: How a text file is written.
        careful: Read CSV line by line, about four times slower, rejecting malformed lines one by
            one; without it such a line raises :class:`RaggedCsv`.

    Raises:
        BadInput: the file's structure is broken.
    """
    if facts.format == "parquet":
        yield ParquetSource(facts.path)
    elif facts.format == "jsonl":
        yield JsonLinesSource(facts.path, how.encoding)
    else:
        separator = "\t" if facts.format == "tsv" else how.separator
        with _as_utf8(facts.path, how.encoding) as path:
            yield (CarefulCsvSource if careful else CsvSource)(path, separator, facts.path.name)


class ParquetSource:
    """A Parquet file; types are the file's own."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        with self._broken_file():
            self._frame = pl.scan_parquet(path, glob=False)
            self.columns = dict(self._frame.collect_schema())
            self._rows = int(self._frame.select(pl.len()).collect().item())

    def batches(self, needed: Sequence[str]) -> Iterator[RawBatch]:
        """Yield all rows in order; raises BadInput where the file is damaged."""
        first = 1
        with self._broken_file():
            frame = self._frame.select(needed)
            for start in range(0, self._rows, _WINDOW_ROWS):
                window = frame.slice(start, _WINDOW_ROWS)
                for batch in window.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
                    yield RawBatch(batch, np.arange(first, first + batch.height))
                    first += batch.height

    @contextmanager
    def _broken_file(self) -> Iterator[None]:
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise BadInput(
                f"{self._name} is not a whole Parquet file",
                hint="it may be truncated: copy or export it again",
                detail=str(error),
            ) from error


class CsvSource:
    """A UTF-8 CSV file, read fast; every column is text."""

    def __init__(self, path: Path, separator: str, name: str) -> None:
        self._path = path
        self._separator = separator
        self._header = read_header(path, separator, name)
        self.columns: dict[str, pl.DataType] = dict.fromkeys(self._header, pl.String())

    def batches(self, needed: Sequence[str]) -> Iterator[RawBatch]:
        """Yield all rows but blank lines; raises RaggedCsv at a malformed line."""
        frame = pl.scan_csv(
            self._path,
            separator=self._separator,
            schema=pl.Schema(self.columns),
            empty_string_is_null=False,
            glob=False,
        ).select(needed)
        first = 1
        try:
            for batch in frame.collect_batches(chunk_size=_TEXT_ROWS, maintain_order=True):
                rows = np.arange(first, first + batch.height)
                first += batch.height
                blank = batch.select(pl.all_horizontal(pl.all().fill_null("") == "")).to_series()
                if blank.any():
                    batch, rows = batch.filter(~blank), rows[~blank.to_numpy()]
                yield RawBatch(batch, rows)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise RaggedCsv from error


class CarefulCsvSource(CsvSource):
    """A UTF-8 CSV file, read line by line; a line with other fields than the header is rejected."""

    def batches(self, needed: Sequence[str]) -> Iterator[RawBatch]:
        """Yield all rows but blank lines and malformed ones, which are rejects."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=self._separator, strict=True)
            next(lines)
            first = 1
            while batch := self._next(lines, first):
                yield self._batch(batch, first, needed)
                first += len(batch)

    def _next(self, lines: Iterator[list[str]], first: int) -> list[list[str]]:
        try:
            return list(islice(lines, _TEXT_ROWS))
        except csv.Error as error:
            raise BadInput(
                f"the CSV is not well formed somewhere after row {first - 1}",
                hint="a quote is probably not closed",
                detail=str(error),
            ) from error

    def _batch(self, lines: list[list[str]], first: int, needed: Sequence[str]) -> RawBatch:
        width = len(self._header)
        rejects = [
            Reject(first + at, "field_count", "", f"the row has {len(line)} fields, not {width}")
            for at, line in enumerate(lines)
            if line and len(line) != width
        ]
        good = [at for at, line in enumerate(lines) if len(line) == width and any(line)]
        columns = {}
        for name in needed:
            at = self._header.index(name)
            columns[name] = pl.Series(name, [lines[row][at] for row in good], dtype=pl.String)
        rows = np.asarray(good, dtype=np.int64) + first
        return RawBatch(pl.DataFrame(columns), rows, rejects)


class JsonLinesSource:
    """A JSON Lines file, decoded line by line; every column is text, objects and lists as JSON."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._encoding = "utf-8-sig" if encoding.lower() in _UTF8 else encoding
        names: dict[str, pl.DataType] = {}
        for batch, _, _ in self._decoded():
            for record in batch:
                for name in record:
                    names.setdefault(name, pl.String())
        self.columns = names

    def batches(self, needed: Sequence[str]) -> Iterator[RawBatch]:
        """Yield all rows; lines that are not JSON objects are rejects."""
        for records, rows, rejects in self._decoded():
            columns = {
                name: pl.Series(
                    name, [_as_text(record.get(name)) for record in records], dtype=pl.String
                )
                for name in needed
            }
            yield RawBatch(pl.DataFrame(columns), np.asarray(rows, dtype=np.int64), rejects)

    def _decoded(self) -> Iterator[tuple[list[dict[str, Any]], list[int], list[Reject]]]:
        with self._path.open(encoding=self._encoding, newline="\n") as file:
            numbered = enumerate(file, start=1)
            while lines := list(islice(numbered, _TEXT_ROWS)):
                records, rows, rejects = [], [], []
                for row, line in lines:
                    if not line.strip():
                        continue
                    record = _decode(line)
                    if record is None:
                        rejects.append(Reject(row, "bad_json", "", "the line is no JSON object"))
                    else:
                        records.append(record)
                        rows.append(row)
                yield records, rows, rejects


def read_header(path: Path, separator: str, name: str) -> list[str]:
    """Return the column names of a UTF-8 CSV file.

    Raises:
        BadInput: there is none, or two columns have the same name.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            header = next(csv.reader(file, delimiter=separator, strict=True), [])
        except csv.Error as error:
            raise BadInput(f"{name}: the header is not well formed", detail=str(error)) from error
    twice = sorted({column for column in header if header.count(column) > 1})
    if not any(header):
        raise BadInput(f"{name} has no header line")
    if twice:
        raise BadInput(f"{name} has more than one column {twice[0]!r}")
    return header


def _decode(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if type(record) is dict else None


def _as_text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _as_utf8(path: Path, encoding: str) -> Iterator[Path]:
    """Give the file itself, or a private UTF-8 copy that lives as long as it is read."""
    if encoding.lower() in _UTF8:
        yield path
        return
    try:
        with tempfile.TemporaryDirectory(prefix="touchstone-") as folder:
            copy = Path(folder) / "export.csv"
            with (
                path.open(encoding=encoding, newline="") as source,
                copy.open("w", encoding="utf-8", newline="") as target,
            ):
                shutil.copyfileobj(source, target)
            yield copy
    except OSError as error:
        if error.errno in DISK_FULL:  # it is the copy that has no room, not the export
            raise storage_error(error, Path(tempfile.gettempdir())) from error
        raise unreadable(path, error) from error
