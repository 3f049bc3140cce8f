"""Shamir's secret sharing over p = 2^256 - 189, at x = roster index (never 0).

Shamir, "How to share a secret" (1979). Coefficients at 0 are computed once per responder set and
used for every dealer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

PRIME = 2**256 - 189
"""The largest prime below 2^256: a uniform element is a key of 256 bits less 2^-248."""

ELEMENT_BYTES = 32
_UNREDUCED = 8
RandBelow = Callable[[int], int]


def encode_element(value: int) -> bytes:
    """Return a field element as 32 bytes, big-endian."""
    return value.to_bytes(ELEMENT_BYTES, "big")


def decode_element(data: bytes | bytearray | memoryview) -> int:
    """Read 32 bytes as a field element.

    Raises:
        ValueError: wrong length, or not below the prime (one element has one encoding).
    """
    value = int.from_bytes(data, "big")
    if len(data) != ELEMENT_BYTES or value >= PRIME:
        raise ValueError("not a canonical element of the field")
    return value


def random_element(randbelow: RandBelow = secrets.randbelow) -> int:
    """Return a uniform field element."""
    return randbelow(PRIME)


def deal(
    secret: int, points: Sequence[int], threshold: int, randbelow: RandBelow = secrets.randbelow
) -> list[int]:
    """Return one share of ``secret`` for each point, in order.

    Args:
        secret: an element of the field.
        points: distinct x coordinates, none of them 0.
        threshold: shares needed to reconstruct; the polynomial has degree ``threshold - 1``.
        randbelow: source of the coefficients; only vectors replace it.

    Raises:
        ValueError: a point is 0 or repeated, or the threshold is out of range.
    """
    if not 1 <= threshold <= len(points) or 0 in points or len(set(points)) != len(points):
        raise ValueError("points must be distinct, not 0 and at least as many as the threshold")
    high_first = [random_element(randbelow) for _ in range(threshold - 1)]
    return [_evaluate([*high_first, secret], x) for x in points]


def _evaluate(high_first: Sequence[int], x: int) -> int:
    """Return the polynomial's value at ``x`` (Horner), reduced once every few steps.

    An index is a small number, so a few products grow the value by little; a reduction costs more
    than the product it follows.
    """
    value = 0
    for start in range(0, len(high_first), _UNREDUCED):
        for coefficient in high_first[start : start + _UNREDUCED]:
            value = value * x + coefficient
        value %= PRIME
    return value


def lagrange_at_zero(points: Sequence[int]) -> list[int]:
    """Return the coefficients that weigh the points' shares into the value at 0.

    Raises:
        ValueError: a point is 0 or repeated.
    """
    if 0 in points or len(set(points)) != len(points):
        raise ValueError("points must be distinct and not 0")
    coefficients = []
    for i, x in enumerate(points):
        top = bottom = 1
        for j, other in enumerate(points):
            if i != j:
                top = top * other % PRIME
                bottom = bottom * (other - x) % PRIME
        coefficients.append(top * pow(bottom, -1, PRIME) % PRIME)
    return coefficients


def interpolate(coefficients: Sequence[int], shares: Sequence[int]) -> int:
    """Return the secret from shares and :func:`lagrange_at_zero` of their points."""
    return sum(c * s for c, s in zip(coefficients, shares, strict=True)) % PRIME
