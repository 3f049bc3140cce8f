"""The ``signals`` column: one JSON object a row, of names to number, string or null."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shared.errors import BadInput
from shared.model.features.batch import Piece
from shared.model.features.values import category_piece, constant_piece, log_grid, number_pieces


def parse_signals(column: list[str | None]) -> list[dict[str, Any]]:
    """Return the signals of each row; none for null.

    Raises:
        BadInput: a row is not a JSON object.
    """
    # One call for the whole column: json's C parser is far faster than one call a row.
    try:
        rows: list[dict[str, Any]] = json.loads(
            "[" + ",".join(text or "{}" for text in column) + "]"
        )
    except json.JSONDecodeError as error:
        raise BadInput(
            "a row's signals are not a JSON object", hint="import the file again"
        ) from error
    if len(rows) != len(column) or not all(isinstance(row, dict) for row in rows):
        raise BadInput("a row's signals are not a JSON object", hint="import the file again")
    return rows


def signal_pieces(column: list[str | None], bits: int) -> list[Piece]:
    """Return the tokens of every signal of a column.

    A name that a row does not have gives no token; a name with null gives its null token: the
    tokens of a row must not depend on the rows beside it.

    Raises:
        BadInput: a row is not a JSON object.
    """
    rows = parse_signals(column)
    pieces: list[Piece] = []
    for name in sorted(set().union(*rows)):
        pieces += _one_signal(name, rows, bits)
    return pieces


def _one_signal(name: str, rows: list[dict[str, Any]], bits: int) -> list[Piece]:
    label = f"signal.{name.strip().lower()}"
    index = [(row, values[name]) for row, values in enumerate(rows) if name in values]
    numbers = [(row, float(v)) for row, v in index if isinstance(v, int | float)]
    strings = [(row, v) for row, v in index if isinstance(v, str)]
    nulls = [row for row, v in index if v is None]
    pieces: list[Piece] = []
    if numbers:
        values = np.array([value for _, value in numbers])
        at = np.array([row for row, _ in numbers], dtype=np.int32)
        pieces += number_pieces(label, at, log_grid(values), bits)
    if strings:
        at = np.array([row for row, _ in strings], dtype=np.int32)
        pieces.append(category_piece(label, at, [value for _, value in strings], bits))
    if nulls:
        at = np.array(nulls, dtype=np.int32)
        pieces.append(constant_piece(label, f"{label}#null", at, bits))
    return pieces
