"""Reads the first rows of a file and proposes how to read all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from participant.ingest.convert import convert, make_plan
from participant.ingest.guess.assign import Assignment, assign
from participant.ingest.guess.languages import language_of
from participant.ingest.guess.leaks import without_leaks
from participant.ingest.guess.looks import Look, look_at, unix_writing
from participant.ingest.guess.render import render
from participant.ingest.guess.sample import Sample, read_sample
from participant.ingest.guess.words import fold
from participant.ingest.mapping import (
    Mapping,
    load_mapping,
    parse_mapping,
    shipped_mapping_text,
    shipped_mappings,
)
from shared.domain.vocabulary import Kind
from shared.errors import BadInput, ConfigError


@dataclass(frozen=True, slots=True)
class Guess:
    """A proposed mapping.

    Attributes:
        text: TOML, to be read by a person and then by ``data import``.
        shipped: Name of the mapping that comes with the product and fits, or empty.
        columns: Our column -> the file's column, for what was taken.
        unsure: Our columns and signals left as comments.
        missing: Our required columns that a person has to fill in before it can be used.
        rows: Rows looked at.
        rejected: Of these, rows that the mapping would reject.
    """

    text: str
    shipped: str
    columns: dict[str, str]
    unsure: tuple[str, ...]
    missing: tuple[str, ...]
    rows: int
    rejected: int

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {
            "mapping": self.text,
            "shipped": self.shipped or None,
            "columns": self.columns,
            "unsure": list(self.unsure),
            "missing": list(self.missing),
            "rows": self.rows,
            "rejected": self.rejected,
        }


def guess_mapping(path: Path, kind: Kind, *, shipped: bool = True) -> Guess:
    """Propose a mapping for a file.

    Args:
        path: CSV, TSV, JSON Lines or Parquet.
        kind: Which records the file holds.
        shipped: Propose a mapping that comes with the product if all its columns are there.

    Raises:
        BadInput: the file cannot be read, or has no rows.
    """
    sample = read_sample(path)
    if not sample.columns or not len(next(iter(sample.columns.values()))):
        raise BadInput(f"{path.name} has no rows")
    fitting = _fitting(kind, sample) if shipped else None
    if fitting:
        return _of_shipped(fitting, kind, sample)
    looks = [_look(name, column) for name, column in sample.columns.items()]
    found = without_leaks(assign(kind, looks), sample.columns)
    text, missing = render(kind, sample.file, found, _constants(kind, sample, found))
    rejected = 0 if missing else _rejected(parse_mapping(text, "proposal"), sample)
    return Guess(
        text=text,
        shipped="",
        columns={choice.ours: choice.look.name for choice in found.columns if not choice.doubt},
        unsure=(
            *dict.fromkeys(choice.ours for choice in found.columns if choice.doubt),
            *(f"signals.{name}" for name in found.unsure_signals),
        ),
        missing=missing,
        rows=_height(sample),
        rejected=rejected,
    )


_TIME_WORDS = frozenset(("at", "date", "time", "created", "updated", "since", "datum", "timestamp"))


def _look(name: str, column: pl.Series) -> Look:
    """Return a column's look; a number under a time's name may be a moment."""
    look = look_at(name, column)
    if look.shape == "number" and _TIME_WORDS & set(fold(name).split()):
        writing = unix_writing(column)
        if writing is not None:
            return replace(look, shape="date", writing=writing, words=())
    return look


def _constants(kind: Kind, sample: Sample, found: Assignment) -> dict[str, str]:
    """Return values that the rows agree on without saying so in a column of their own."""
    columns = {choice.ours: choice.look for choice in found.columns if not choice.doubt}
    mentioned = {choice.ours for choice in found.columns}
    constants = {}
    if kind == "listings":
        price, title = columns.get("price"), columns.get("title")
        if "currency" not in mentioned and price is not None and price.currency:
            constants["currency"] = price.currency
        if "language" not in mentioned and title is not None:
            language = language_of(sample.columns[title.name].cast(pl.String))
            constants |= {"language": language} if language else {}
    return constants


def _fitting(kind: Kind, sample: Sample) -> str | None:
    """Return the shipped mapping of the kind whose columns are all in the file, if there is one."""
    for name in shipped_mappings():
        try:
            make_plan(load_mapping(name, kind), _types(sample))
        except ConfigError:  # of another kind, or for another file
            continue
        return name
    return None


def _of_shipped(name: str, kind: Kind, sample: Sample) -> Guess:
    mapping = load_mapping(name, kind)
    columns = {ours: rule.source for ours, rule in mapping.columns.items() if rule.source}
    return Guess(
        text=shipped_mapping_text(name),
        shipped=name,
        columns=columns,
        unsure=(),
        missing=(),
        rows=_height(sample),
        rejected=_rejected(mapping, sample),
    )


def _rejected(mapping: Mapping, sample: Sample) -> int:
    rows = np.arange(1, _height(sample) + 1)
    plan = make_plan(mapping, _types(sample))
    batch = pl.DataFrame([sample.columns[name].alias(name) for name in plan.needed])
    return len(convert(plan, batch, rows)[1])


def _types(sample: Sample) -> dict[str, pl.DataType]:
    return {name: column.dtype for name, column in sample.columns.items()}


def _height(sample: Sample) -> int:
    return len(next(iter(sample.columns.values())))
