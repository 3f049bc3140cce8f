"""The keyed, versioned token hash, on single tokens and on whole columns of code points.

All arithmetic is modulo 2**32. A token's hash is 32 bits; its row in a space of 2**k rows is the
upper k bits, so a smaller space is a coarsening of a larger one. The finaliser is MurmurHash3's
fmix32 (A. Appleby, public domain); keys of fields come from BLAKE2b (RFC 7693) under
:data:`~shared.model.features.space.HASH_KEY`. Test vectors: ``tests/vectors/features``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared.model.features.space import HASH_KEY

U32 = NDArray[np.uint32]

SPREAD = np.uint32(0x9E3779B1)
"""2**32 / golden ratio, odd: spreads neighbouring states over the word."""

WORD_BASE = 0x01000193
"""Base of the polynomial over a word's characters (the 32-bit FNV prime)."""

MAX_WORD = 64
"""Characters of a word that count; the rest of an endless word is ignored."""

_MIX_1, _MIX_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)

_POWERS = np.array([pow(WORD_BASE, k, 1 << 32) for k in range(MAX_WORD)], dtype=np.uint32)


@lru_cache(maxsize=65_536)
def token_hash(token: str) -> int:
    """Return the 32-bit keyed hash of a whole token, such as ``category=bags``."""
    data = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=4, key=HASH_KEY)
    return int.from_bytes(data.digest(), "little")


def finalise(state: U32) -> U32:
    """Return fmix32 of every state; works in place on ``state``."""
    state ^= state >> np.uint32(16)
    state *= _MIX_1
    state ^= state >> np.uint32(13)
    state *= _MIX_2
    state ^= state >> np.uint32(16)
    return state


def premix(codes: U32) -> U32:
    """Return code points spread over 32 bits, the input of :func:`extend`."""
    return codes * _MIX_1


def extend(state: U32, mixed: U32) -> U32:
    """Return n-gram states grown by one character each.

    Args:
        state: uint32[m], states of the n-grams that start at each of m positions.
        mixed: uint32[m], the premixed character that follows each.
    """
    grown = (state + mixed) * SPREAD
    grown ^= grown >> np.uint32(15)
    return grown


def word_hashes(codes: U32, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> U32:
    """Return one 32-bit state per word: a polynomial over its premixed characters.

    Args:
        codes: uint32[n], code points of a column.
        starts: int64[w], where each word starts; words do not overlap and are in order.
        lengths: int64[w], characters in each word, at least 1.

    Returns:
        uint32[w].
    """
    if starts.size == 0:
        return np.empty(0, dtype=np.uint32)
    lengths = np.minimum(lengths, MAX_WORD)
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(firsts, lengths)
    characters = premix(codes[np.repeat(starts, lengths) + within])
    characters ^= characters >> np.uint32(15)
    return np.add.reduceat(characters * _POWERS[within], firsts, dtype=np.uint32)


def to_rows(hashes: U32, bits: int) -> NDArray[np.int32]:
    """Return the row of each 32-bit hash in a space of ``2**bits`` rows, int32."""
    return (hashes >> np.uint32(32 - bits)).astype(np.int32)
