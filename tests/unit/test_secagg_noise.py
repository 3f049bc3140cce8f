"""Discrete Laplace from integers: the right distribution, from any source of integers."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest

from shared.privacy.noise import discrete_laplace, laplace_scale


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(2), Fraction(7, 3)])
def test_frequencies_are_those_of_the_distribution(scale: Fraction) -> None:
    """Chi-square against p(x) = (1 - q) / (1 + q) q^|x|, q = exp(-1 / scale)."""
    source, draws = random.Random(7), 20_000
    counts = Counter(discrete_laplace(scale, source.randrange) for _ in range(draws))
    q = math.exp(-1 / scale)
    statistic, cells, seen = 0.0, 0, 0
    for x in range(-60, 61):
        expected = draws * (1 - q) / (1 + q) * q ** abs(x)
        if expected < 10:
            continue
        statistic += (counts[x] - expected) ** 2 / expected
        cells, seen = cells + 1, seen + counts[x]
    assert seen > 0.99 * draws
    assert statistic < cells + 5 * math.sqrt(2 * cells)


def test_the_default_source_is_the_system_s_and_symmetric() -> None:
    values = [discrete_laplace(Fraction(3)) for _ in range(4000)]
    spread = math.sqrt(2) * 3 / math.sqrt(len(values))
    assert abs(sum(values) / len(values)) < 6 * spread
    assert len(set(values)) > 15


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1)])
def test_a_scale_that_is_not_positive_is_refused(scale: Fraction) -> None:
    with pytest.raises(ValueError):
        discrete_laplace(scale)


def test_the_scale_is_rounded_to_more_noise() -> None:
    for sensitivity, epsilon in ((1, 0.1), (128, 0.5), (3, 1 / 3)):
        scale = laplace_scale(sensitivity, epsilon)
        assert scale >= Fraction(sensitivity) / Fraction(epsilon)
        assert float(scale) == pytest.approx(sensitivity / epsilon, rel=1e-4)
    assert laplace_scale(1, 0.5) == 2


@pytest.mark.parametrize(
    ("sensitivity", "epsilon"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, math.nan), (1, 1e-9)]
)
def test_nonsense_is_refused(sensitivity: int, epsilon: float) -> None:
    with pytest.raises(ValueError):
        laplace_scale(sensitivity, epsilon)
