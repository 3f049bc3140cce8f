"""Near-duplicate texts in millions: MinHash signatures, locality-sensitive bands, clusters.

A text is a set of neighbouring word pairs; Chinese and Japanese characters count as words. The
share of equal MinHash values estimates the Jaccard similarity of two sets (A. Broder, "On the
resemblance and containment of documents", 1997). Texts that agree on a whole band of values are
compared (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3): with eight bands
of four, a pair with similarity .9 is met with probability .9999 and one of .5 with .4.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

SIMILAR = 0.8
"""Share of equal values from which two texts count as nearly the same; standard error .07."""

TEXT_CHARS = 600
"""Characters looked at: templates differ at the start as well, and long texts cost time."""

MIN_WORDS = 5
"""Shorter texts ("leather bag") are alike without being copies; equal ones still count."""

_BANDS, _ROWS = 8, 4
_VALUES = _BANDS * _ROWS
_CHUNK = 50_000
_EAST_ASIAN = r"([\p{Han}\p{Hiragana}\p{Katakana}])"
_SEPARATORS = r"[^\p{L}\p{N}]+"


def clusters(texts: pl.Series) -> I64:
    """Return the cluster of each text, int64[n]; alone in it is -1, as is a null.

    Deterministic within one version of polars, whose string hash is used.

    Args:
        texts: Strings or nulls.
    """
    size = len(texts)
    signatures = np.empty((size, _VALUES), dtype=np.uint32)
    usable = np.zeros(size, dtype=np.bool_)
    for start in range(0, size, _CHUNK):
        part = slice(start, start + _CHUNK)
        signatures[part], usable[part] = _signatures(texts[part])
    rows = np.flatnonzero(usable)
    first, second = _similar_pairs(signatures[rows])
    found = np.full(size, -1, dtype=np.int64)
    found[rows] = _components(first, second, rows.size)
    return found


def _signatures(texts: pl.Series) -> tuple[U32, NDArray[np.bool_]]:
    """Return MinHash values, uint32[n, values], and which texts are long enough to have them."""
    words = _words(texts)
    counts = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    hashes = words.explode(empty_as_null=False).drop_nulls().hash(0).to_numpy()
    usable = counts >= MIN_WORDS
    signatures = np.zeros((len(texts), _VALUES), dtype=np.uint32)
    if usable.any():
        pairs, starts = _pairs(hashes, counts, usable)
        for at, (factor, shift) in enumerate(_FAMILY):
            # Multiply-shift hashing: the upper half of a product modulo 2^64.
            values = ((pairs * factor + shift) >> np.uint64(32)).astype(np.uint32)
            signatures[usable, at] = np.minimum.reduceat(values, starts)
    return signatures, usable


def _words(texts: pl.Series) -> pl.Series:
    plain = texts.fill_null("").str.slice(0, TEXT_CHARS)
    foreign = plain.str.len_bytes() != plain.str.len_chars()
    if foreign.any():
        # Compatibility forms: a full-width or ligature spelling is the same word.
        spaced = plain.filter(foreign).str.normalize("NFKC").str.replace_all(_EAST_ASIAN, " $1 ")
        plain = plain.scatter(foreign.arg_true(), spaced)
    return (
        plain.str.to_lowercase()
        .str.replace_all(_SEPARATORS, " ")
        .str.strip_chars(" ")
        .str.split(" ")
    )


def _pairs(hashes: U64, counts: I64, usable: NDArray[np.bool_]) -> tuple[U64, I64]:
    """Return hashes of neighbouring words of the usable texts, and where each text's begin."""
    kept = hashes[np.repeat(usable, counts)]
    lengths = counts[usable]
    mixed = (kept[:-1] * _PAIR) ^ (kept[1:] + (kept[1:] << np.uint64(7)))
    inside = np.ones(kept.size, dtype=np.bool_)
    inside[np.cumsum(lengths) - 1] = False
    starts = np.concatenate(([0], np.cumsum(lengths - 1)[:-1]))
    return mixed[inside[:-1]], starts


def _similar_pairs(signatures: U32) -> tuple[I64, I64]:
    """Return pairs of rows that share a band and enough values; each bucket as a chain and star.

    Comparing all pairs of a bucket would be quadratic in the size of a template's following.
    """
    first, second = [], []
    for band in range(_BANDS):
        keys = _band_keys(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: ordered.size]
        leader = order[np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))]
        follows = ~begins
        previous = np.roll(order, 1)
        for one in (leader[follows], previous[follows]):
            other = order[follows]
            agree = _agreement(signatures, one, other) >= SIMILAR
            first.append(one[agree])
            second.append(other[agree])
    return np.concatenate(first), np.concatenate(second)


def _agreement(signatures: U32, first: I64, second: I64) -> NDArray[np.float64]:
    shares = np.empty(first.size)
    for start in range(0, first.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        shares[part] = (signatures[first[part]] == signatures[second[part]]).mean(axis=1)
    return shares


def _band_keys(values: U32) -> U64:
    keys = np.zeros(values.shape[0], dtype=np.uint64)
    for column in values.T:
        keys = (keys ^ column.astype(np.uint64)) * _PAIR
        keys ^= keys >> np.uint64(29)
    return keys


def _components(first: I64, second: I64, size: int) -> I64:
    if size == 0:
        return np.empty(0, dtype=np.int64)
    edges = coo_matrix((np.ones(first.size, dtype=np.int8), (first, second)), shape=(size, size))
    _, names = connected_components(edges, directed=False)
    alone = np.bincount(names)[names] == 1
    return np.where(alone, -1, names).astype(np.int64)


_PAIR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, made odd: Knuth's multiplicative hashing."""


def _family() -> list[tuple[np.uint64, np.uint64]]:
    """Return fixed odd factors and shifts: every run must see the same duplicates."""
    drawn = np.random.Generator(np.random.Philox(1)).integers(
        0, 2**64, (_VALUES, 2), dtype=np.uint64
    )
    return [(factor | np.uint64(1), shift) for factor, shift in drawn]


_FAMILY = _family()
