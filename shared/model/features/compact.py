"""Features of the compact model: each record by itself, and of one length.

The gradient of a linear model on a record is as long as the record's features. With every record of
one length none is cut short for having more text, and the noise that privacy asks for is the same
for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from shared.model.features.batch import Piece
from shared.model.features.space import (
    COMPACT_LENGTH,
    COMPACT_RAW,
    COMPACT_SCALE,
    COMPACT_SIGNAL_WORD,
)


def compact_pieces(pieces: Iterable[Piece], count: int) -> list[Piece]:
    """Return the tokens with the compact model's weights, those of weight 0 left out.

    Args:
        pieces: groups of tokens.
        count: number of records.

    Returns:
        Groups in which the squared weights of each record add up to ``COMPACT_LENGTH`` squared.
        Tokens that fall on the same row of the hashed space can make it somewhat longer still.
    """
    scaled = [(piece, piece.weights * np.float32(_scale(piece))) for piece in pieces]
    kept = [(piece, weights) for piece, weights in scaled if weights.any()]
    squares = np.zeros(count)
    for piece, weights in kept:
        squares += np.bincount(piece.rows, weights.astype(np.float64) ** 2, minlength=count)
    factor = (COMPACT_LENGTH / np.sqrt(np.maximum(squares, 1e-12))).astype(np.float32)
    return [replace(piece, weights=weights * factor[piece.rows]) for piece, weights in kept]


def _scale(piece: Piece) -> float:
    field, raw, _ = piece.name.partition(":")[0].partition("~")
    if piece.word and field.startswith("signal."):
        return COMPACT_SIGNAL_WORD
    return COMPACT_SCALE.get(field, 1.0) * (COMPACT_RAW if raw else 1.0)
