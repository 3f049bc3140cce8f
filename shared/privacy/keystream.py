"""Uniform 64-bit words that nobody can guess: AES-256-CTR under a fresh random key.

NIST SP 800-38A, counter from 0, words little-endian. A statistical generator (numpy's, torch's)
can be told apart from true randomness, and its whole stream follows from a short seed.
"""

from __future__ import annotations

import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 32


class Keystream:
    """An endless stream of uniform words.

    Args:
        key: 32 bytes; only tests and vectors give one.
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = secrets.token_bytes(KEY_BYTES) if key is None else key
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next ``count`` words, uint64[count]."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8").astype(np.uint64)

    def unit(self, count: int) -> NDArray[np.float64]:
        """Return float64[count], uniform multiples of 2^-53 in [0, 1)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
