"""Weighted tokens of many records as one sparse matrix, and where each token came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.model.features.fold import Codes


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one group, in order of row.

    Attributes:
        name: the group, such as ``title:char`` or ``price``; stable, used in explanations.
        rows: int32[m], the record of each token, ascending.
        ids: int32[m], row in the hashed space.
        weights: float32[m].
        starts: int32[m], first code point in the text's :class:`Codes`; empty if not text.
        lengths: int32[m], code points of each token; empty if not text.
        word: whether the tokens are values of a category, or say that a value is missing.
    """

    name: str
    rows: NDArray[np.int32]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    lengths: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    word: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Where each token of a batch came from.

    Attributes:
        names: names of the groups.
        groups: int16[nnz], index into ``names``.
        starts: int32[nnz], first code point in the text, -1 if the token is not text.
        lengths: int32[nnz], code points of a text token, 0 otherwise.
        texts: the folded or raw code points of each text field, by field name.
    """

    names: tuple[str, ...]
    groups: NDArray[np.int16]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    texts: dict[str, Codes]


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Compressed sparse rows of weighted tokens.

    Attributes:
        ids: int32[nnz], rows of the hashed space.
        weights: float32[nnz].
        offsets: int64[rows + 1], where each record's tokens start.
        trace: origins of the tokens, only if they were asked for.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    offsets: NDArray[np.int64]
    trace: Trace | None = None

    @property
    def rows(self) -> int:
        """Number of records."""
        return int(self.offsets.size - 1)

    def take(self, index: NDArray[np.int64]) -> FeatureBatch:
        """Return the records at ``index`` (int64[m]) in that order, without a trace."""
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        where = np.repeat(self.offsets[:-1][index], lengths) + within
        return FeatureBatch(self.ids[where], self.weights[where], offsets)


def assemble(
    pieces: Sequence[Piece], count: int, texts: dict[str, Codes] | None = None
) -> FeatureBatch:
    """Interleave groups of tokens into records, without sorting.

    Args:
        pieces: groups, each ascending by row.
        count: number of records.
        texts: the text columns, if a trace is wanted.

    Returns:
        The records; within one, tokens are in the order of ``pieces``.
    """
    pieces = [piece for piece in pieces if piece.ids.size]
    counts = [np.bincount(piece.rows, minlength=count) for piece in pieces]
    totals = np.sum(counts, axis=0, dtype=np.int64) if counts else np.zeros(count, dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(totals))).astype(np.int64)
    total = int(offsets[-1])
    ids = np.empty(total, dtype=np.int32)
    weights = np.empty(total, dtype=np.float32)
    trace = _empty_trace(pieces, total, texts) if texts is not None else None
    at = offsets[:-1].copy()
    for index, (piece, per_row) in enumerate(zip(pieces, counts, strict=True)):
        first = np.cumsum(per_row) - per_row
        where = np.arange(piece.ids.size) + np.repeat(at - first, per_row)
        ids[where] = piece.ids
        weights[where] = piece.weights
        if trace is not None:
            trace.groups[where] = index
            if piece.starts.size:
                trace.starts[where] = piece.starts
                trace.lengths[where] = piece.lengths
        at += per_row
    return FeatureBatch(ids, weights, offsets, trace)


def _empty_trace(pieces: Sequence[Piece], total: int, texts: dict[str, Codes]) -> Trace:
    return Trace(
        tuple(piece.name for piece in pieces),
        np.empty(total, dtype=np.int16),
        np.full(total, -1, dtype=np.int32),
        np.zeros(total, dtype=np.int32),
        texts,
    )


def concatenate(batches: Sequence[FeatureBatch]) -> FeatureBatch:
    """Return the records of several batches as one, without traces."""
    if len(batches) == 1:
        return batches[0]
    ends = np.cumsum([0, *(batch.ids.size for batch in batches)])
    offsets = [batch.offsets[:-1] + end for batch, end in zip(batches, ends, strict=False)]
    return FeatureBatch(
        np.concatenate([batch.ids for batch in batches] or [np.empty(0, dtype=np.int32)]),
        np.concatenate([batch.weights for batch in batches] or [np.empty(0, dtype=np.float32)]),
        np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
    )
