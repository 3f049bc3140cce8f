"""Masks: AES-256-CTR keystreams added to or taken from a vector of u64 words, modulo 2^64.

NIST SP 800-38A, counter from 0, words little-endian. One pass over the vector with every cipher
context open; the keystream of a chunk stays in cache between the cipher and the addition. Two
threads split a large vector by counter offset (OpenSSL and numpy release the GIL).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

CHUNK_BYTES = 128 * 1024
"""Keystream generated at a time: it, its input and its target fit a second-level cache."""

_BLOCK = 16
_WORD = 8
_THREADED_BYTES = 4 * 1024 * 1024
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
    if vector.nbytes < _THREADED_BYTES:
        _run(vector, 0, add, subtract)
        return
    middle = (vector.size // 2) & ~1
    with ThreadPoolExecutor(max_workers=1) as helper:
        upper = helper.submit(_run, vector[middle:], middle * _WORD, add, subtract)
        _run(vector[:middle], 0, add, subtract)
        # A failure there must surface: a half-masked vector must never leave.
        upper.result()


def _run(
    vector: NDArray[np.uint64], offset: int, add: Sequence[bytes], subtract: Sequence[bytes]
) -> None:
    counter = (offset // _BLOCK).to_bytes(_BLOCK, "big")
    jobs = [
        (Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update_into, operation)
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


def keystream(key: bytes, words: int) -> NDArray[np.uint64]:
    """Return the first ``words`` words of one mask, for vectors and tests."""
    vector = np.zeros(words, dtype=np.uint64)
    apply_masks(vector, [key])
    return vector
