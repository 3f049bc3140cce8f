"""Looks for many byte strings in files at once: the proof that something is nowhere.

Four bytes of every needle go into a table of 2^20 marks; only positions whose four bytes are
marked are compared in full. A needle shorter than four bytes would be found by chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

SHORTEST = 8
"""Needles below this length say nothing when found."""

_BITS = 20
_FACTOR = np.uint32(2654435761)  # Knuth's multiplicative hash
_CHUNK = 1 << 24


class Needles:
    """Byte strings to be looked for.

    Args:
        needles: those shorter than :data:`SHORTEST` bytes are left out.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._by_head: dict[bytes, list[bytes]] = defaultdict(list)
        for needle in {needle for needle in needles if len(needle) >= SHORTEST}:
            self._by_head[needle[:4]].append(needle)
        self._marks = np.zeros(1 << _BITS, dtype=np.bool_)
        for head in self._by_head:
            self._marks[_slots(head)] = True

    def __len__(self) -> int:
        return sum(len(group) for group in self._by_head.values())

    def found_in(self, data: bytes) -> set[bytes]:
        """Return the needles that occur in ``data``."""
        found: set[bytes] = set()
        for start in range(0, max(len(data) - 3, 0), _CHUNK):
            # Three bytes more, so that no position is lost between two chunks.
            marked = self._marks[_slots(data[start : start + _CHUNK + 3])]
            for at in (np.flatnonzero(marked) + start).tolist():
                for needle in self._by_head.get(data[at : at + 4], ()):
                    if data.startswith(needle, at):
                        found.add(needle)
        return found


def _slots(data: bytes) -> npt.NDArray[np.uint32]:
    """Return the hash, 0 … 2^20 - 1, of the four bytes at every position, uint32[len - 3]."""
    octets = np.frombuffer(data, dtype=np.uint8).astype(np.uint32)
    words = octets[:-3] | octets[1:-2] << 8 | octets[2:-1] << 16 | octets[3:] << 24
    return (words * _FACTOR) >> np.uint32(32 - _BITS)
