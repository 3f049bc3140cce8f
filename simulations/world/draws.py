"""Named random streams: every part of the world draws from its own, so none disturbs another."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class Draws(random.Random):
    """A seeded stream with the distributions the world needs.

    Two streams of the same names and seed give the same values in every process; the names are
    hashed with SHA-512 by `random.Random`, not with the salted ``hash``.
    """

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return self.random() < probability

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return one key, with probability proportional to its weight."""
        return self.choices(list(weights), weights=list(weights.values()))[0]

    def around(self, median: float, sigma: float) -> float:
        """Return a log-normal value with ``median`` and log-scale ``sigma``."""
        return median * math.exp(self.gauss(0.0, sigma))

    def count(self, mean: float) -> int:
        """Return a Poisson count, by multiplication up to a mean of 30, else a rounded normal."""
        if mean > 30:
            return max(0, round(self.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self.random(), 0
        while product > limit:
            product *= self.random()
            count += 1
        return count

    def geometric(self, mean: float) -> int:
        """Return a geometric waiting time in 0, 1, 2, … with ``mean``."""
        return int(math.log(1.0 - self.random()) / math.log(mean / (1.0 + mean)))

    def some(self, items: tuple[T, ...] | list[T], count: int) -> list[T]:
        """Return ``count`` different items (fewer if there are fewer), in random order."""
        return self.sample(items, min(count, len(items)))

    def token(self, characters: int) -> str:
        """Return a random hexadecimal string; says nothing about what it names."""
        return f"{self.getrandbits(4 * characters):0{characters}x}"


def stream(seed: int, *names: str) -> Draws:
    """Return the stream of ``names`` under ``seed``."""
    return Draws("/".join((str(seed), *names)))
