"""Noise from the operating system's CSPRNG: exact discrete Laplace.

Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), algorithms 1
and 2: integers only, so no floating-point hole (Mironov 2012) and no seed to guess.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from fractions import Fraction

RandBelow = Callable[[int], int]
"""Uniform integer in [0, n), as :func:`secrets.randbelow`."""


def _bernoulli_exp(gamma: Fraction, randbelow: RandBelow) -> bool:
    """Return True with probability ``exp(-gamma)`` for 0 <= gamma <= 1 (algorithm 1)."""
    k = 1
    while randbelow(gamma.denominator * k) < gamma.numerator:
        k += 1
    return k % 2 == 1


def discrete_laplace(scale: Fraction, randbelow: RandBelow = secrets.randbelow) -> int:
    """Draw one integer x with probability proportional to ``exp(-|x| / scale)``.

    Adding it to an integer query of sensitivity D is ``D / scale``-differentially private.

    Args:
        scale: a positive rational, t / s.
        randbelow: the source of uniform integers; only tests replace it.

    Raises:
        ValueError: the scale is not positive.
    """
    if scale <= 0:
        raise ValueError("the scale of Laplace noise must be positive")
    t, s = scale.numerator, scale.denominator
    while True:
        u = randbelow(t)
        if not _bernoulli_exp(Fraction(u, t), randbelow):
            continue
        v = 0
        while _bernoulli_exp(Fraction(1), randbelow):
            v += 1
        magnitude = (u + t * v) // s
        negative = randbelow(2) == 1
        if not (negative and magnitude == 0):
            return -magnitude if negative else magnitude


def laplace_scale(sensitivity: int, epsilon: float) -> Fraction:
    """Return ``sensitivity / epsilon`` as a rational, rounded up (more noise, never less).

    Raises:
        ValueError: sensitivity or epsilon is not positive.
    """
    if sensitivity <= 0 or not epsilon > 0:
        raise ValueError("sensitivity and epsilon must be positive")
    spent = Fraction(int(epsilon * (1 << 20)), 1 << 20)
    if spent <= 0:
        raise ValueError("epsilon is too small to be drawn")
    return Fraction(sensitivity) / spent
