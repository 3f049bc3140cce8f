"""Gaussian noise rounded to whole numbers, without the hole that floating point tears.

Noise computed in floating point has gaps, and which values can occur depends on the value it is
added to (Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS
2012). Here the protected query is a vector of whole numbers and so is the noise: the round of a
normal variable of standard deviation ``UNIT``. Rounding commutes with adding whole numbers, so
what leaves is the rounded output of the *continuous* Gaussian mechanism: post-processing, to
which that mechanism's exact privacy curve applies.

A magnitude is drawn as ``(j + 1/2) * 2^-56`` by rejection from exponential steps: the largest
whole number v below it has probability ``exp(-v)``, the rest is uniform, and ``exp(-(y^2 / 2 - v +
1/2))`` of the candidates stay. A comparison that double precision cannot decide for certain is
decided with 60 digits. Taken together a sample is within 2^-110 of the rounded normal in total
variation: the midpoint rule at 2^-56 errs by 2^-116, magnitudes from 32 on are left out (below
2^-700), and ties in 128 bits do the rest. Over 2^40 samples that adds 2^-70 to delta.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from shared.privacy.keystream import Keystream

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

UNIT_BITS = 24
UNIT = 1 << UNIT_BITS
"""Standard deviation of the noise, in whole numbers. A query is scaled so that its sensitivity is
UNIT over the noise multiplier."""

FRACTION_BITS = 56
MAX_STEPS = 32
"""Standard deviations from which on nothing is drawn."""

MARGIN = 2.0**-40
"""Far above the error of a double precision exponential here, which is below 2^-48."""

_DIGITS = Context(prec=60)
_STEP_LIMITS = np.exp(-np.arange(1.0, MAX_STEPS + 1))
_BATCH_SPARE = 64


def rounded_gaussian(count: int, stream: Keystream) -> I64:
    """Return int64[count], independent normal variables of deviation ``UNIT``, rounded.

    Args:
        count: how many.
        stream: a fresh one; the same stream gives the same noise.
    """
    fine = _fine_normal(count, stream)
    shift = FRACTION_BITS - UNIT_BITS
    return (fine + (1 << (shift - 1))) >> shift


def _fine_normal(count: int, stream: Keystream) -> I64:
    """Return int64[count] Z, so that ``(Z + 1/2) * 2^-56`` is a standard normal variable."""
    found: list[I64] = []
    missing = count
    while missing > 0:
        batch = _candidates(2 * missing + missing // 4 + _BATCH_SPARE, stream)
        found.append(batch[:missing])
        missing -= found[-1].size
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _candidates(count: int, stream: Keystream) -> I64:
    words = stream.words(count)
    steps = _geometric(count, stream)
    place = (words >> np.uint64(64 - FRACTION_BITS)).astype(np.int64)
    place += np.minimum(steps, MAX_STEPS) << FRACTION_BITS
    magnitude = (place + 0.5) * 2.0**-FRACTION_BITS
    exponent = magnitude * magnitude / 2 - steps + 0.5

    def exact(index: int) -> Fraction:
        y = Fraction(2 * int(place[index]) + 1, 1 << (FRACTION_BITS + 1))
        return y * y / 2 - int(steps[index]) + Fraction(1, 2)

    kept = _below_exp(stream.words(count), exponent, exact, stream) & (steps < MAX_STEPS)
    negative = (words & np.uint64(1)).astype(np.bool_)
    return np.where(negative, -place - 1, place)[kept]


def _geometric(count: int, stream: Keystream) -> I64:
    """Return int64[count] v with ``P(v >= k) = exp(-k)``, at most ``MAX_STEPS``."""
    words = stream.words(count)
    unit = (words >> np.uint64(11)) * 2.0**-53
    steps = np.searchsorted(-_STEP_LIMITS, -unit, side="left")
    near = np.searchsorted(-_STEP_LIMITS, -(unit + MARGIN), side="left")
    far = np.searchsorted(-_STEP_LIMITS, -(unit - MARGIN), side="right")
    for index in np.flatnonzero(near != far).tolist():
        value = _wide(int(words[index]), stream)
        steps[index] = sum(value < _exp(Fraction(k)) for k in range(1, MAX_STEPS + 1))
    return steps.astype(np.int64)


def _below_exp(
    words: NDArray[np.uint64],
    exponent: F64,
    exact: Callable[[int], Fraction],
    stream: Keystream,
) -> NDArray[np.bool_]:
    """Return bool[n], true with probability ``exp(-exponent)``, decided exactly where it is close.

    Args:
        words: uint64[n], the first 64 bits of each uniform number.
        exponent: float64[n] not below 0, to double precision.
        exact: the exponent at a position, exactly.
        stream: 64 further bits of the uniform number, where they are needed.
    """
    unit = (words >> np.uint64(11)) * 2.0**-53
    limit = np.exp(-exponent)
    below = unit < limit
    for index in np.flatnonzero(np.abs(unit - limit) <= MARGIN).tolist():
        below[index] = _wide(int(words[index]), stream) < _exp(exact(index))
    return below


def _wide(word: int, stream: Keystream) -> Decimal:
    """Return a uniform number in [0, 1) of 128 bits, the first 64 of which are known."""
    bits = (word << 64) | int(stream.words(1)[0])
    return _DIGITS.divide(Decimal(bits), Decimal(1 << 128))


def _exp(exponent: Fraction) -> Decimal:
    ratio = _DIGITS.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    return _DIGITS.exp(-ratio)
