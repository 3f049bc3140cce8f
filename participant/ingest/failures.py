"""Remembers, for each row of a batch, the first reason why it cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.ingest.rejects import Reject


@dataclass(frozen=True, slots=True)
class _Reason:
    code: str
    column: str
    text: str


class Failures:
    """First failure of each of ``height`` rows."""

    def __init__(self, height: int) -> None:
        self._first = np.zeros(height, dtype=np.uint16)
        self._reasons: list[_Reason] = []

    def flag(self, mask: pl.Series, code: str, column: str, text: str) -> None:
        """Mark the rows where ``mask`` is true, unless they failed before."""
        if not mask.any():
            return
        self._reasons.append(_Reason(code, column, text))
        hit = mask.fill_null(value=False).to_numpy()
        self._first[hit & (self._first == 0)] = len(self._reasons)

    @property
    def passed(self) -> pl.Series:
        """Boolean mask of the rows without a failure."""
        return pl.Series(self._first == 0)

    def rejects(self, rows: NDArray[np.int64]) -> list[Reject]:
        """Return what failed; ``rows`` are the row numbers of the batch."""
        found = []
        for at in np.flatnonzero(self._first):
            reason = self._reasons[self._first[at] - 1]
            found.append(Reject(int(rows[at]), reason.code, reason.column, reason.text))
        return found
