"""Masks: AES-256-CTR keystreams added to or taken from a vector of u64 words, modulo 2^64.

NIST SP 800-38A, counter from 2, words little-endian. That is what AES-256-GCM under a nonce of
zeros encrypts with (SP 800-38D). For that mode OpenSSL uses vector instructions where there are
some, and is then faster, tag included, than in its counter mode; elsewhere it is far slower.

One pass over the vector with every cipher context open: the keystream of a chunk stays in cache
between the cipher and the addition. One thread: a second one halves the time but costs a tenth more
CPU, which is the members' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

CHUNK_BYTES = 128 * 1024
"""Keystream generated at a time: it, its input and its target fit a second-level cache."""

_BLOCK = 16
_WORD = 8
_FIRST = (2).to_bytes(_BLOCK, "big")
_NONCE = bytes(12)
_ZEROS = bytes(CHUNK_BYTES)


def apply_masks(
    vector: NDArray[np.uint64], add: Sequence[bytes], subtract: Sequence[bytes] = ()
) -> None:
    """Add the keystreams of ``add`` and take away those of ``subtract``, in place.

    Args:
        vector: contiguous uint64 words.
        add: 32-byte keys.
        subtract: 32-byte keys.
    """
    mode = modes.GCM(_NONCE) if _has_vector_aes() else modes.CTR(_FIRST)
    jobs = [
        (Cipher(algorithms.AES(key), mode).encryptor().update_into, operation)
        for keys, operation in ((add, np.add), (subtract, np.subtract))
        for key in keys
    ]
    buffer = bytearray(CHUNK_BYTES + _BLOCK - 1)
    step = CHUNK_BYTES // _WORD
    for start in range(0, vector.size, step):
        part = vector[start : start + step]
        zeros = memoryview(_ZEROS)[: part.nbytes]
        stream = np.frombuffer(buffer, "<u8", part.size)
        for update_into, operation in jobs:
            update_into(zeros, buffer)
            operation(part, stream, out=part)


@cache
def _has_vector_aes() -> bool:
    """Tell whether this processor has AES on 512-bit vectors, by the family that brought it."""
    found: Any = np.show_config(mode="dicts")
    return "AVX512_ICL" in found.get("SIMD Extensions", {}).get("found", ())


def keystream(key: bytes, words: int) -> NDArray[np.uint64]:
    """Return the first ``words`` words of one mask, for vectors and tests."""
    vector = np.zeros(words, dtype=np.uint64)
    apply_masks(vector, [key])
    return vector
