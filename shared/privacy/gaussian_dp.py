"""The exact privacy curve of Gaussian mechanisms, in closed form and with the standard library.

A vector of L2 sensitivity 1 with noise of deviation s costs ``mu = 1 / s``; mechanisms one after
another cost ``sqrt(sum of mu^2)``, exactly (Dong, Roth, Su, "Gaussian Differential Privacy",
JRSS-B 2022, corollary 3.3). The curve is theorem 8 of Balle and Wang, "Improving the Gaussian
Mechanism for Differential Privacy" (ICML 2018). The coordinator plans a run with it, without a
member's tools; members account by privacy loss distributions, and a test holds the two together.

Beside the Gaussians a run has evaluations, each private with an epsilon and no delta. Every such
mechanism is dominated by randomised response of the same epsilon (Kairouz, Oh, Viswanath, "The
Composition Theorem for Differential Privacy", ICML 2015, theorem 3.3), whose privacy loss is plus
or minus epsilon: the losses of ``count`` of them are binomial, and the curve stays a finite sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_LARGEST_MU = 1e3
_HALVINGS = 200


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Return the delta of a Gaussian mechanism of total cost ``mu`` > 0 at any real ``epsilon``."""
    low, high = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    # erfc underflows long before exp(epsilon) overflows: the product of the two is tiny then.
    tail = _normal_tail(high)
    scaled = math.exp(epsilon + math.log(tail)) if tail > 0 else 0.0
    return max(_normal_tail(low) - scaled, 0.0)


@dataclass(frozen=True)
class PureUses:
    """Mechanisms without a delta, beside the Gaussian ones.

    Attributes:
        count: how many.
        epsilon: of each.
    """

    count: int = 0
    epsilon: float = 0.0

    def losses(self) -> list[tuple[float, float]]:
        """Return the values of their joint privacy loss, each with its probability."""
        up = 1 / (1 + math.exp(-self.epsilon))
        return [
            (
                self.epsilon * (2 * ups - self.count),
                math.comb(self.count, ups) * up**ups * (1 - up) ** (self.count - ups),
            )
            for ups in range(self.count + 1)
        ]


NO_USES = PureUses()


def composed_delta(epsilon: float, mu: float, uses: PureUses) -> float:
    """Return the delta of Gaussians of total cost ``mu`` > 0 together with ``uses``."""
    return math.fsum(chance * gaussian_delta(epsilon - loss, mu) for loss, chance in uses.losses())


def gaussian_mu(epsilon: float, delta: float, uses: PureUses = NO_USES) -> float:
    """Return the largest total cost mu that is still (epsilon, delta)-private, rounded down.

    Args:
        epsilon: of everything together.
        delta: likewise.
        uses: other mechanisms of the same run; 0 is returned where they leave nothing.

    Raises:
        ValueError: epsilon is not positive, or delta not between 0 and 1.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ValueError("epsilon must be positive and delta between 0 and 1")
    low, high = 0.0, _LARGEST_MU
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle > 0 and composed_delta(epsilon, middle, uses) <= delta:
            low = middle
        else:
            high = middle
    return low


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon at which total cost ``mu`` >= 0 is private with ``delta``, rounded up.

    Raises:
        ValueError: mu is negative or not finite, or delta not between 0 and 1.
    """
    if not (0 <= mu < math.inf and 0 < delta < 1):
        raise ValueError("mu must be finite and not negative, and delta between 0 and 1")
    if mu == 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, mu
    while gaussian_delta(high, mu) > delta:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if gaussian_delta(middle, mu) > delta:
            low = middle
        else:
            high = middle
    return high


def _normal_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))
