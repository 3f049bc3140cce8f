"""Categories and numbers as weighted tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.model.features.batch import Piece
from shared.model.features.hashing import SPREAD, U32, finalise, to_rows, token_hash
from shared.model.features.space import (
    GRID_LIMIT,
    GRID_STEP,
    GRID_UNIT,
    RATIO_LIMIT,
    RATIO_STEP,
)

MAX_CATEGORY = 120
"""Characters of a category's value that count."""


def log_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``sign(x) * log1p(|x| / GRID_UNIT) / GRID_STEP``, clamped to the grid."""
    grid = np.sign(values) * np.log1p(np.abs(values) / GRID_UNIT) / GRID_STEP
    return np.clip(grid, -GRID_LIMIT, GRID_LIMIT)


def ratio_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear grid of a price relative to the list price."""
    return np.clip(values, 0.0, RATIO_LIMIT) / RATIO_STEP


def _bin_hashes(name: str, bins: NDArray[np.int64]) -> U32:
    state: U32 = (bins + GRID_LIMIT + 1).astype(np.uint32) * SPREAD
    return finalise(state + np.uint32(token_hash(f"{name}#")))


def number_pieces(
    name: str,
    rows: NDArray[np.int32],
    grid: NDArray[np.float64],
    bits: int,
) -> list[Piece]:
    """Return a number as weights on its two neighbouring grid bins; null as a token of its own.

    Args:
        name: prefix of the tokens.
        rows: int32[m], ascending, the record of each value.
        grid: float64[m], positions on a grid; NaN is null.
        bits: log2 of the rows of the hashed space.
    """
    known = np.isfinite(grid)
    position = grid[known]
    low = np.floor(position).astype(np.int64)
    above = (position - low).astype(np.float32)
    pieces = [
        Piece(name, rows[known], to_rows(_bin_hashes(name, low), bits), 1.0 - above),
        Piece(name, rows[known], to_rows(_bin_hashes(name, low + 1), bits), above),
    ]
    if not known.all():
        pieces.append(constant_piece(name, f"{name}#null", rows[~known], bits))
    return pieces


def constant_piece(name: str, token: str, rows: NDArray[np.int32], bits: int) -> Piece:
    """Return the same token, weight 1, for each of ``rows``."""
    ids = np.full(rows.size, token_hash(token) >> (32 - bits), dtype=np.int32)
    return Piece(name, rows, ids, np.ones(rows.size, dtype=np.float32), word=True)


def category_token(name: str, value: str) -> str:
    """Return the token of a category's value: ``name=value``, trimmed and in lower case."""
    return f"{name}={value.strip().lower()[:MAX_CATEGORY]}"


def category_piece(
    name: str, rows: NDArray[np.int32], values: Sequence[str | None], bits: int
) -> Piece:
    """Return one token a record: ``name=value``, or ``name#null`` where the value is missing."""
    hashes: dict[str | None, int] = {None: token_hash(f"{name}#null")}
    for value in set(values):
        if value is not None:
            hashes[value] = token_hash(category_token(name, value))
    ids = np.fromiter((hashes[value] for value in values), dtype=np.uint32, count=len(values))
    ones = np.ones(rows.size, dtype=np.float32)
    return Piece(name, rows, to_rows(ids, bits), ones, word=True)
