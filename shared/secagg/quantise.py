"""Real-valued updates to lanes of ring elements and back.

A lane value is ``q = clip(floor(w * x * s + dither), +-(2^(b-1) - 1)) + 2^(b-1)`` with
``s = (2^(b-1) - 1) / c``; three lanes of 21 bits share one u64 word, lane j of word i holding
coordinate ``j * ceil(P / 3) + i``. Dither is uniform in [0, 1) from AES-CTR under a fresh key,
so that rounding is unbiased and not predictable. Padding lanes hold 0.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from shared.encoding import Reader, Writer
from shared.limits import MAX_MODEL_VALUES
from shared.secagg.errors import BadVector, SumRejected, TermsRefused

LANES = 3
LANE_BITS = 21
WEIGHT_UNIT = 8
"""Weights travel as eighths: 2^-k for k in 0..3 is 8, 4, 2 or 1."""

_CHUNK = 1 << 16
"""Coordinates quantised at a time: the temporaries stay in the second-level cache."""


def default_value_bits(listed: int) -> int:
    """Return b for ``listed`` members: 16 while ``n (2^b - 1) < 2^21``, else 15."""
    return 16 if listed * ((1 << 16) - 1) < 1 << LANE_BITS else 15


@dataclass(frozen=True)
class Quantiser:
    """How values become lanes; part of the signed terms.

    Attributes:
        value_bits: bits of one member's lane value, b.
        clip_coord: largest absolute coordinate that survives, c.
        clip_l2: L2 bound of one member's vector, or 0 for none.
        bucketed: weights 2^-k instead of 1.
        lane_bits: bits of a lane, 21.
    """

    value_bits: int
    clip_coord: float
    clip_l2: float = 0.0
    bucketed: bool = False
    lane_bits: int = LANE_BITS

    @property
    def half(self) -> int:
        """Offset that makes lane values positive, ``2^(b-1)``."""
        return 1 << (self.value_bits - 1)

    @property
    def scale(self) -> float:
        """Quanta per unit, s."""
        return (self.half - 1) / self.clip_coord

    def validate(self, members: int) -> None:
        """Check that ``members`` values add up without carrying into the next lane.

        Raises:
            TermsRefused: lanes, bits or clips are impossible.
        """
        if self.lane_bits != LANE_BITS or not 8 <= self.value_bits <= 16:
            raise TermsRefused("lanes are 21 bits wide and carry values of 8 to 16 bits")
        if members * ((1 << self.value_bits) - 1) >= 1 << self.lane_bits:
            raise TermsRefused(
                f"{members} values of {self.value_bits} bits overflow a lane",
                hint="use 15 bits above 32 members",
            )
        if not (math.isfinite(self.clip_coord) and self.clip_coord > 0):
            raise TermsRefused("the coordinate clip must be a positive number")
        if not (math.isfinite(self.clip_l2) and self.clip_l2 >= 0):
            raise TermsRefused("the L2 clip must be zero or a positive number")

    def encode(self) -> bytes:
        """Return the canonical encoding that T1 and T2 hash."""
        writer = Writer().u32(self.value_bits).u32(self.lane_bits)
        writer.fixed(struct.pack(">dd", self.clip_coord, self.clip_l2), 16)
        return writer.u8(int(self.bucketed)).done()

    @classmethod
    def decode(cls, data: bytes) -> Quantiser:
        """Read :meth:`encode`'s bytes.

        Raises:
            MalformedMessage: wrong length.
            TermsRefused: a flag is neither 0 nor 1.
        """
        reader = Reader(data)
        value_bits, lane_bits = reader.u32(), reader.u32()
        clip_coord, clip_l2 = struct.unpack(">dd", reader.fixed(16))
        bucketed = reader.u8()
        reader.end()
        if bucketed > 1:
            raise TermsRefused("the weighting flag is neither 0 nor 1")
        return cls(value_bits, clip_coord, clip_l2, bool(bucketed), lane_bits)

    def allowed_weights(self) -> tuple[float, ...]:
        """Return the weights a member may carry."""
        return (1.0, 0.5, 0.25, 0.125) if self.bucketed else (1.0,)


def packed_words(n_params: int) -> int:
    """Return the u64 words that ``n_params`` coordinates take."""
    return -(-n_params // LANES)


def _dither_source(key: bytes) -> Callable[[int], NDArray[np.uint16]]:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(2 * _CHUNK)
    buffer = bytearray(2 * _CHUNK + 15)

    def draw(count: int) -> NDArray[np.uint16]:
        stream.update_into(memoryview(zeros)[: 2 * count], buffer)
        return np.frombuffer(buffer, "<u2", count)

    return draw


def pack(
    delta: NDArray[np.float32],
    weight: float,
    quantiser: Quantiser,
    *,
    out: NDArray[np.uint64] | None = None,
    dither_key: bytes | None = None,
) -> NDArray[np.uint64]:
    """Clip, weigh, round and pack one member's update.

    Args:
        delta: local minus global model, float32[P].
        weight: one of ``quantiser.allowed_weights()``.
        quantiser: from the terms.
        out: uint64[ceil(P / 3)] to write into, so that no copy is made.
        dither_key: 32 bytes for reproducible vectors; a fresh random key when left out.

    Returns:
        uint64[ceil(P / 3)], bit 63 always 0.

    Raises:
        BadVector: wrong shape or type, NaN, infinity, or a weight outside the terms.
    """
    if delta.ndim != 1 or delta.dtype != np.float32 or not 0 < delta.size <= MAX_MODEL_VALUES:
        raise BadVector("an update is a flat float32 vector that is not empty")
    if weight not in quantiser.allowed_weights():
        raise BadVector(f"a weight of {weight} is not one of {quantiser.allowed_weights()}")
    words = packed_words(delta.size)
    target = np.empty(words, dtype=np.uint64) if out is None else out
    if target.shape != (words,) or target.dtype != np.uint64:
        raise BadVector(f"the packed part has {words} words")
    factor = np.float32(weight * quantiser.scale * _shrink(delta, quantiser.clip_l2))
    draw = _dither_source(dither_key or secrets.token_bytes(32))
    bound, half = np.float32(quantiser.half - 1), np.float32(quantiser.half)
    lane = np.empty(_CHUNK, dtype=np.float32)
    for start in range(0, words, _CHUNK):
        stop = min(start + _CHUNK, words)
        word = target[start:stop]
        for j in reversed(range(LANES)):
            part = delta[j * words + start : min(j * words + stop, delta.size)]
            value = lane[: part.size]
            with np.errstate(over="ignore"):  # infinity is clipped like any large value
                np.multiply(part, factor, out=value)
            value += draw(part.size) * np.float32(2.0**-16)
            np.floor(value, out=value)
            np.clip(value, -bound, bound, out=value)
            value += half
            if j == LANES - 1:
                word[part.size :] = 0
                word[: part.size] = value
            else:
                word <<= np.uint64(LANE_BITS)
                word[: part.size] |= value.astype(np.uint64)
    return target


def _shrink(delta: NDArray[np.float32], bound: float) -> float:
    """Return the factor that brings the L2 norm to at most ``bound``; refuse NaN and infinity."""
    total = 0.0
    with np.errstate(over="ignore"):  # an overflow here is looked at again in float64
        for start in range(0, delta.size, _CHUNK):
            part = delta[start : start + _CHUNK]
            total += float(np.dot(part, part))
    if not math.isfinite(total):
        wide = delta.astype(np.float64)
        total = float(np.dot(wide, wide))
    if not math.isfinite(total):
        raise BadVector("the update holds NaN or infinity", hint="training diverged")
    norm = math.sqrt(total)
    return bound / norm if bound and norm > bound else 1.0


def unpack_lanes(packed: NDArray[np.uint64], n_params: int) -> NDArray[np.uint32]:
    """Return the integer lane sums in coordinate order, uint32[P].

    Raises:
        SumRejected: a padding lane or bit 63 is not 0.
    """
    lanes = np.empty(n_params, dtype=np.uint32)
    for place, part in _lanes_of(packed, n_params):
        lanes[place] = part
    return lanes


def _lanes_of(
    packed: NDArray[np.uint64], n_params: int
) -> Iterator[tuple[slice, NDArray[np.uint32]]]:
    """Yield integer lane sums a chunk at a time, each with its place among the coordinates.

    The next lanes overwrite the former ones. Half words are what processors have the widest
    instructions for: lane 0 is the low half's lower 21 bits, lane 2 the high half's upper 22.

    Raises:
        SumRejected: a padding lane or bit 63 is not 0.
    """
    words = packed_words(n_params)
    if packed.shape != (words,):
        raise BadVector(f"the packed part has {words} words")
    mask, spilt = np.uint32((1 << LANE_BITS) - 1), np.uint32(32 - LANE_BITS)
    halves = np.ascontiguousarray(packed).view("<u4").reshape(words, 2)
    buffers = [np.empty(min(words, _CHUNK), dtype=np.uint32) for _ in range(3)]
    for start in range(0, words, _CHUNK):
        count = min(_CHUNK, words - start)
        low, high, lane = (buffer[:count] for buffer in buffers)
        np.copyto(low, halves[start : start + count, 0])
        np.copyto(high, halves[start : start + count, 1])
        if int(high.max()) >> 31:
            raise SumRejected("padding bits of the packed part are not zero")
        for j in range(LANES):
            if j == 0:
                np.bitwise_and(low, mask, out=lane)
            elif j == 1:
                np.left_shift(high, spilt, out=lane)
                lane |= low >> np.uint32(LANE_BITS)
                lane &= mask
            else:
                np.right_shift(high, np.uint32(2 * LANE_BITS - 32), out=lane)
            first = j * words + start
            used = max(0, min(count, n_params - first))
            if lane[used:].any():
                raise SumRejected("padding bits of the packed part are not zero")
            if used:
                yield slice(first, first + used), lane[:used]


def unpack_mean(
    packed: NDArray[np.uint64],
    n_params: int,
    survivors: int,
    weight_sum: float,
    quantiser: Quantiser,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the weighted mean update, float32[P].

    A coordinate's sum, a whole number, is divided in float32: off by at most 2^-23 of itself, where
    a lane's step is 2^-15 of the clip. Twice as wide it would be the largest array in a round.

    Args:
        packed: the packed part of an unmasked sum, uint64[ceil(P / 3)].
        n_params: P.
        survivors: |U3|.
        weight_sum: the sum of the survivors' weights, in [survivors / 8, survivors].
        quantiser: from the terms.
        out: float32[P] to write into and return; fresh memory costs as much as the arithmetic.

    Raises:
        SumRejected: padding is not zero, or a lane is out of range.
    """
    top = survivors * ((1 << quantiser.value_bits) - 1)
    mean = np.empty(n_params, dtype=np.float32) if out is None else out
    if mean.shape != (n_params,) or mean.dtype != np.float32:
        raise BadVector(f"the mean has {n_params} coordinates")
    divisor = np.float32(quantiser.scale * weight_sum)
    for place, lanes in _lanes_of(packed, n_params):
        if int(lanes.min()) < survivors or int(lanes.max()) > top:
            raise SumRejected("a lane of the sum is outside the range that the survivors can reach")
        whole = lanes.view(np.int32)
        whole -= np.int32(survivors * quantiser.half)
        part = mean[place]
        np.copyto(part, whole, casting="unsafe")  # below 2^21, so exactly
        part /= divisor
    return mean
