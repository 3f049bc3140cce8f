"""The first rows of a file, and how its text is written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from participant.ingest.mapping import FileFormat
from participant.ingest.sources import FORMATS, unreadable
from shared.errors import BadInput

SAMPLE_ROWS = 5_000
"""Rows looked at: enough to meet rare spellings of a date, little enough to wait for."""

_SAMPLE_BYTES = 8 << 20
_SEPARATORS = ",;\t|"
_ENCODINGS = ("utf-8-sig", "cp1252")
"""Tried in this order: text in an older encoding is hardly ever valid UTF-8."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of a file.

    Attributes:
        columns: The file's columns; text in text files.
        file: How a text file is written.
    """

    columns: dict[str, pl.Series]
    file: FileFormat


def read_sample(path: Path) -> Sample:
    """Read the first rows.

    Raises:
        BadInput: the file cannot be read, is empty or has an unknown ending.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise BadInput(f"{path.name}: unknown kind of file", hint=f"name it {', '.join(FORMATS)}")
    try:
        if kind == "parquet":
            return Sample(dict(_parquet(path).to_dict()), FileFormat())
        text, encoding = _text(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not text.strip():
        raise BadInput(f"{path.name} is empty")
    named = encoding if encoding == "cp1252" else "utf-8"
    if kind == "jsonl":
        return Sample(_json_lines(text, path), FileFormat(encoding=named))
    separator = "\t" if kind == "tsv" else _separator(text)
    # A .tsv file's separator is known by its ending; the mapping need not repeat it.
    told = FileFormat(encoding=named, separator="," if kind == "tsv" else separator)
    return Sample(_separated(text, separator, path), told)


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.scan_parquet(path, glob=False).head(SAMPLE_ROWS).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BadInput(f"{path.name} is not a whole Parquet file", detail=str(error)) from error


def _text(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        data = file.read(_SAMPLE_BYTES)
    if len(data) == _SAMPLE_BYTES:  # the last line, and perhaps a character, may be cut
        data = data[: data.rfind(b"\n") + 1]
    for encoding in _ENCODINGS:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise BadInput(f"{path.name} is neither UTF-8 nor Windows-1252", hint="export it as UTF-8")


def _separator(text: str) -> str:
    """Return what splits the header and the lines below it into the most equal pieces."""
    best, width = ",", 1
    for separator in _SEPARATORS:
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=separator), 20))
        widths = {len(row) for row in rows if row}
        if len(widths) == 1 and min(widths) > width:
            best, width = separator, min(widths)
    return best


def _separated(text: str, separator: str, path: Path) -> dict[str, pl.Series]:
    try:
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=separator), SAMPLE_ROWS + 1))
    except csv.Error as error:
        raise BadInput(f"{path.name} is not well formed", detail=str(error)) from error
    header, lines = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    return {
        name: pl.Series(name, [row[at] for row in lines], dtype=pl.String)
        for at, name in enumerate(header)
    }


def _json_lines(text: str, path: Path) -> dict[str, pl.Series]:
    rows = []
    for line in islice(text.splitlines(), SAMPLE_ROWS):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise BadInput(f"{path.name} has no JSON objects")
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: pl.Series(name, [_as_text(row.get(name)) for row in rows], dtype=pl.String)
        for name in names
    }


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
