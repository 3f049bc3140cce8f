"""Every single value that training sees, a column at a time, for the leakage screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.contract.view import View
from shared.model.features.history import History
from shared.model.features.signals import parse_signals
from shared.model.features.space import LISTING_CATEGORIES, LISTING_NUMBERS

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CHUNK = 20_000
"""Rows whose signals are decoded at once: Python objects are large."""

MAX_NAMES = 1_000
"""Different signals screened; a mapping makes at most 256, free JSON could make millions."""

_PRESENCE = {
    "listings": (*LISTING_CATEGORIES, *LISTING_NUMBERS, "title", "seller_name",
                 "seller_created_at"),
    "shops": ("created_at",),
}  # fmt: skip
"""Columns whose being empty or not is visible to the model."""


@dataclass(frozen=True, slots=True)
class Values:
    """One column of the sample.

    Attributes:
        name: The column, or ``signals.NAME``.
        numbers: float64[m], NaN where there is none.
        words: Texts, null where there is none.
    """

    name: str
    numbers: F64
    words: pl.Series


def presence(view: View) -> Iterator[tuple[str, Bools]]:
    """Yield each column's name and bool[records]: where it has a value."""
    for name in _PRESENCE[view.table]:
        yield name, view.frame[name].is_not_null().to_numpy()
    found: dict[str, Bools] = {}
    height = view.frame.height
    for start in range(0, height, _CHUNK):
        rows = parse_signals(view.frame["signals"][start : start + _CHUNK].to_list())
        for name in set().union(*rows) & found.keys() | _new_names(rows, found):
            here = np.fromiter((row.get(name) is not None for row in rows), np.bool_, len(rows))
            found.setdefault(name, np.zeros(height, dtype=np.bool_))[start : start + _CHUNK] = here
    for name in sorted(found):
        yield f"signals.{name}", found[name]


def _new_names(rows: list[dict[str, object]], found: dict[str, Bools]) -> set[str]:
    new = sorted(set().union(*rows) - found.keys())
    return set(new[: MAX_NAMES - len(found)])


def values(view: View, sample: pl.DataFrame) -> Iterator[Values]:
    """Yield the columns of some labelled records, features of a moment as of that moment."""
    moments = sample["judged_at"]
    if view.table == "listings":
        yield from _listing_values(view, sample, moments)
    else:
        yield _numbers("shop_age_days", _days(sample["created_at"], moments))
    yield from _signal_values(sample["signals"])


def _listing_values(view: View, sample: pl.DataFrame, moments: pl.Series) -> Iterator[Values]:
    for name in LISTING_NUMBERS:
        yield _numbers(name, _floats(sample[name]))
    for name in LISTING_CATEGORIES:
        yield _words(name, sample[name])
    list_price = _floats(sample["list_price"])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(list_price > 0, _floats(sample["price"]) / list_price, np.nan)
    yield _numbers("price_ratio", ratio)
    yield _numbers("seller_age_days", _days(sample["seller_created_at"], moments))
    yield _numbers("image_count", _floats(sample["image_hashes"].list.len()))
    for name, counts in History(view.frame, view.complaints).counts(sample, moments).items():
        yield _numbers(name, counts)


def _signal_values(column: pl.Series) -> Iterator[Values]:
    numbers: dict[str, F64] = {}
    words: dict[str, list[str | None]] = {}
    size = len(column)
    for start in range(0, size, _CHUNK):
        for at, row in enumerate(parse_signals(column[start : start + _CHUNK].to_list()), start):
            for name, value in row.items():
                if value is None or (len(numbers) >= MAX_NAMES and name not in numbers):
                    continue
                if name not in numbers:
                    numbers[name], words[name] = np.full(size, np.nan), [None] * size
                if isinstance(value, str):
                    words[name][at] = value
                else:
                    numbers[name][at] = value
    for name in sorted(numbers):
        yield Values(f"signals.{name}", numbers[name], pl.Series(words[name], dtype=pl.String))


def _numbers(name: str, numbers: F64) -> Values:
    return Values(name, numbers, pl.Series([None], dtype=pl.String).new_from_index(0, numbers.size))


def _words(name: str, words: pl.Series) -> Values:
    return Values(name, np.full(len(words), np.nan), words)


def _floats(series: pl.Series) -> F64:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _days(since: pl.Series, moments: pl.Series) -> F64:
    return _floats((moments - since).dt.total_seconds()) / 86_400
