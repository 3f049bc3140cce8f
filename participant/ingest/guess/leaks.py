"""Signals whose being empty tells the label: proposed to be left out."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from participant.ingest.guess.assign import Assignment, Choice
from participant.ingest.guess.looks import Look

MAX_GAP = 0.9
"""Difference between the classes in the share of filled values: an area of .95 under the curve,
from which the data contract reports a feature."""

_REASON = "whether it is empty tells the label: it looks like a trace of how labels were made"


def without_leaks(found: Assignment, columns: dict[str, pl.Series]) -> Assignment:
    """Move signals that give the label away to those left out; a file without labels stays."""
    label = next((one for one in found.columns if one.ours == "label" and not one.doubt), None)
    if label is None:
        return found
    positive = _positive(label, columns[label.look.name])
    telling = {
        name: look
        for name, look in found.signals.items()
        if _gap(look, columns[look.name], positive) > MAX_GAP
    }
    return replace(
        found,
        signals={name: look for name, look in found.signals.items() if name not in telling},
        drop=found.drop | {look.name: _REASON for look in telling.values()},
    )


def _positive(label: Choice, column: pl.Series) -> pl.Series:
    ones = [word for word, our in label.values.items() if our == "1"] or ["1", "fraudulent"]
    return column.cast(pl.String).str.strip_chars().is_in(ones).fill_null(value=False)


def _gap(look: Look, column: pl.Series, positive: pl.Series) -> float:
    """Return the greater difference of two readings: only nothing is empty, or nulls are too."""
    text = column.cast(pl.String).str.strip_chars()
    gaps = []
    for empty in (("",), ("", *(look.writing.nulls or ()))):
        filled = (text.is_not_null() & ~text.is_in(list(empty))).fill_null(value=False)
        shares = [filled.filter(part).mean() for part in (positive, ~positive)]
        if None not in shares:
            gaps.append(abs(float(shares[0]) - float(shares[1])))  # type: ignore[arg-type]
    return max(gaps, default=0.0)
