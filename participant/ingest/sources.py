"""Opens an export of any supported format and yields it in bounded batches of raw columns."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.ingest.mapping import FileFormat
from participant.ingest.rejects import Reject
from shared.errors import BadInput

BATCH_ROWS = 50_000
"""Rows handed to the store at once, which makes them a segment. Several batches are held at a time,
each in several forms, so that this is most of an import's memory."""

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""File name endings and what they mean."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Some rows as they are in the file.

    Attributes:
        frame: Raw columns.
        rows: int64[n], row numbers, see :class:`participant.ingest.rejects.Reject`.
        rejects: Rows between these that could not even be split into columns.
    """

    frame: pl.DataFrame
    rows: NDArray[np.int64]
    rejects: list[Reject] = field(default_factory=list)


class Source(Protocol):
    """An open file."""

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The file's columns and their types; all text for text formats."""
        ...

    def batches(self, needed: Sequence[str]) -> Iterator[RawBatch]:
        """Yield all rows in order, with at least the ``needed`` columns."""
        ...


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one pass over a file's bytes tells.

    Attributes:
        path: The file.
        format: ``csv``, ``tsv``, ``jsonl`` or ``parquet``.
        sha256: Of its bytes, in hex.
        lines: Line ends, 0 for Parquet: an estimate of rows for a progress bar.
        stamp: Size and time of change, to notice that the file changed meanwhile.
    """

    path: Path
    format: str
    sha256: str
    lines: int
    stamp: tuple[int, int]

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since these facts were taken.

        Raises:
            BadInput: it was.
        """
        if _stamp(self.path) != self.stamp:
            raise BadInput(
                f"{self.path.name} changed while it was read",
                hint="wait until the export is complete and run the command again",
            )


def examine(path: Path, how: FileFormat) -> FileFacts:
    """Read a file's bytes once: digest, line count, and for text proof of its encoding.

    Raises:
        BadInput: the file cannot be read, is empty, has an unknown ending or broken encoding.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise BadInput(f"{path.name}: unknown kind of file", hint=f"name it {', '.join(FORMATS)}")
    decoder = None if kind == "parquet" else _decoder(how.encoding)
    digest = hashlib.sha256()
    lines = 0
    try:
        stamp = _stamp(path)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                if decoder is not None:
                    _prove_encoding(decoder, block, path, lines)
                    lines += block.count(b"\n")
        if decoder is not None:
            _prove_encoding(decoder, b"", path, lines)
    except OSError as error:
        raise unreadable(path, error) from error
    if stamp[0] == 0:
        raise BadInput(f"{path.name} is empty")
    return FileFacts(path, kind, digest.hexdigest(), lines, stamp)


def unreadable(path: Path, error: OSError) -> BadInput:
    """Explain why a file cannot be read."""
    return BadInput(f"cannot read {path.name}: {(error.strerror or 'input error').lower()}")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        return codecs.getincrementaldecoder(encoding)("strict")
    except LookupError as error:
        raise BadInput(f"there is no encoding {encoding!r}") from error


def _prove_encoding(
    decoder: codecs.IncrementalDecoder, block: bytes, path: Path, lines: int
) -> None:
    try:
        decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        line = lines + bytes(error.object[: error.start]).count(b"\n") + 1
        raise BadInput(
            f"{path.name} is not valid {error.encoding} near line {line}",
            hint="export it as UTF-8, or name its encoding in the mapping under [file]",
        ) from error
