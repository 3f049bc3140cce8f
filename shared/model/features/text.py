"""Character and word n-grams of a whole column at once.

Each occurrence of an n-gram is one token. All character n-grams of a field weigh
``1/sqrt(number)``, and so do all its words, so a field has length 1 in the L2 norm whatever the
length of its text (exactly so where no n-gram repeats), times its scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.model.features.batch import Piece
from shared.model.features.fold import CJK, DIGIT, LETTER, Codes, classes
from shared.model.features.hashing import (
    SPREAD,
    U32,
    extend,
    finalise,
    premix,
    to_rows,
    token_hash,
    word_hashes,
)
from shared.model.features.space import CHAR_NGRAMS, TEXT_SCALE, WORD_NGRAMS

I32 = NDArray[np.int32]


def clip_rows(column: Codes, cap: int) -> Codes:
    """Return the column with at most ``cap`` code points a row."""
    counts = np.bincount(column.rows, minlength=column.count)
    if counts.size == 0 or counts.max() <= cap:
        return column
    firsts = np.cumsum(counts) - counts
    keep = np.arange(column.codes.size) - np.repeat(firsts, counts) < cap
    return Codes(column.codes[keep], column.rows[keep], column.count)


def _normalised(rows: list[I32], count: int, length: float) -> list[NDArray[np.float32]]:
    totals = sum((np.bincount(part, minlength=count) for part in rows), np.zeros(count))
    scale = (length / np.sqrt(np.maximum(totals, 1))).astype(np.float32)
    return [scale[part] for part in rows]


def _pieces(
    name: str, count: int, bits: int, parts: list[tuple[I32, U32, I32, I32]]
) -> list[Piece]:
    scale = TEXT_SCALE.get(name.partition(":")[0].partition("~")[0], 1.0)
    weights = _normalised([part[0] for part in parts], count, scale)
    return [
        Piece(name, rows, to_rows(hashes, bits), weight, starts, lengths)
        for (rows, hashes, starts, lengths), weight in zip(parts, weights, strict=True)
    ]


def char_pieces(field: str, column: Codes, bits: int) -> list[Piece]:
    """Return the character n-grams of a column, one piece a length.

    Args:
        field: prefix of the tokens: the same n-gram in another field is another token.
        column: the texts.
        bits: log2 of the rows of the hashed space.
    """
    shortest, longest = CHAR_NGRAMS
    mixed = premix(column.codes)
    state = np.full(mixed.size, token_hash(f"{field}:char"), dtype=np.uint32)
    parts: list[tuple[I32, U32, I32, I32]] = []
    for length in range(1, min(longest, mixed.size) + 1):
        usable = mixed.size - length + 1
        state = extend(state[:usable], mixed[length - 1 :])
        if length >= shortest:
            starts = np.flatnonzero(column.rows[:usable] == column.rows[length - 1 :])
            lengths = np.full(starts.size, length, dtype=np.int32)
            rows = column.rows[starts]
            parts.append((rows, finalise(state[starts]), starts.astype(np.int32), lengths))
    return _pieces(f"{field}:char", column.count, bits, parts)


def word_spans(column: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each word starts, int64[w], and its length, int64[w].

    A word is a run of letters and digits; a CJK character is a word by itself.
    """
    kind = classes(column.codes)
    run = (kind == LETTER) | (kind == DIGIT)
    single = kind == CJK
    before = np.concatenate(([False], run[:-1]))
    after = np.concatenate((run[1:], [False]))
    starts = np.flatnonzero((run & ~before) | single)
    ends = np.flatnonzero((run & ~after) | single)
    return starts, ends - starts + 1


def word_pieces(field: str, column: Codes, bits: int) -> list[Piece]:
    """Return the words and pairs of neighbouring words of a column; arguments as above."""
    starts, lengths = word_spans(column)
    words = word_hashes(column.codes, starts, lengths)
    rows = column.rows[starts]
    seed = token_hash(f"{field}:word")
    parts: list[tuple[I32, U32, I32, I32]] = [
        (
            rows,
            finalise(words + np.uint32(seed)),
            starts.astype(np.int32),
            lengths.astype(np.int32),
        )
    ]
    if WORD_NGRAMS[1] > 1 and starts.size > 1:
        pairs = np.flatnonzero(rows[:-1] == rows[1:])
        state = (words[pairs] + np.uint32(seed)) * SPREAD + words[pairs + 1]
        spans = starts[pairs + 1] + lengths[pairs + 1] - starts[pairs]
        parts.append(
            (
                rows[pairs],
                finalise(state),
                starts[pairs].astype(np.int32),
                spans.astype(np.int32),
            )
        )
    return _pieces(f"{field}:word", column.count, bits, parts)
