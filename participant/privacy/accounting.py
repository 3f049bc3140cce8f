"""Privacy spent, composed by privacy loss distributions (Google's dp-accounting).

Koskela, Jälkö, Honkela, "Computing Tight Differential Privacy Guarantees Using FFT" (AISTATS
2020); Doroshenko et al., "Connect the Dots" (PoPETs 2022). Neighbours differ by one record that is
there or not. Every figure is pessimistic: rounded towards more spent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from shared.errors import BadInput
from shared.privacy.gaussian_dp import gaussian_epsilon
from shared.secagg.tail import LOSS_CAP, LOSS_UNIT

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

Mechanism = Literal["gaussian", "laplace", "none"]
MECHANISMS: tuple[Mechanism, ...] = ("gaussian", "laplace", "none")

GRID = 1e-3
"""Width of a step of a privacy loss distribution. Finer ones move the fifth digit of epsilon."""

MAX_MU = 20.0
MAX_LAPLACE = 250.0
"""Total mu, and span of all Laplace losses, up to which distributions are composed. A distribution
has as many steps of the grid as its losses span, and a coordinator chooses the amounts: one round
with an evaluation epsilon of four million would ask for 60 GiB. More than this is above every
budget a policy can have (100), so a bound that takes no memory says as much."""

_TAIL = 35.0
"""Natural logarithm of one over the tails that a composed distribution is cut off at."""


@dataclass(frozen=True, order=True)
class Charge:
    """One use of the records whose result may leave the member.

    Attributes:
        mechanism: ``gaussian``; ``laplace``, the two discrete ones of an evaluation; or ``none``,
            an update without noise for records, which no epsilon bounds.
        amount: mu of a Gaussian (its sensitivity over its deviation), epsilon of an evaluation,
            0 without noise.
    """

    mechanism: Mechanism
    amount: float

    def __post_init__(self) -> None:
        """Refuse what no mechanism costs.

        Raises:
            BadInput: the amount is negative or not finite, or there is one without a mechanism.
        """
        if self.mechanism not in MECHANISMS:
            raise BadInput(f"the privacy mechanism {self.mechanism!r} is not known")
        if not 0 <= self.amount < math.inf or (self.mechanism == "none" and self.amount):
            raise BadInput("privacy is spent in finite amounts that are not negative")


def gaussian(multipliers: Iterable[float]) -> Charge:
    """Return the charge of Gaussian mechanisms one after another, by their noise multipliers."""
    return Charge("gaussian", math.sqrt(sum(multiplier**-2 for multiplier in multipliers)))


def epsilon_of(charges: Iterable[Charge], delta: float) -> float:
    """Return the epsilon that all charges together spend at ``delta``.

    Updates without noise are left out; say so wherever the figure is shown. Amounts beyond
    :data:`MAX_MU` or :data:`MAX_LAPLACE` are added up instead of composed: more, never less.

    Raises:
        BadInput: delta is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise BadInput("delta lies between 0 and 1")
    noisy = [charge for charge in charges if charge.amount > 0]
    # Gaussians compose exactly by the sum of squares, so one distribution stands for all of them.
    mu = math.sqrt(sum(c.amount**2 for c in noisy if c.mechanism == "gaussian"))
    others = Counter(charge.amount for charge in noisy if charge.mechanism == "laplace")
    if mu > MAX_MU or _span(others) > MAX_LAPLACE:
        return gaussian_epsilon(mu, delta) + sum(e * count for e, count in others.items())
    return _composed(mu, tuple(sorted(others.items())), delta)


def _span(laplace: Mapping[float, int]) -> float:
    """Return about how far losses reach: their sum, or less where many small ones even out.

    The second is by concentrated differential privacy (Bun and Steinke, TCC 2016).
    """
    rho = sum(count * epsilon**2 / 2 for epsilon, count in laplace.items())
    total = sum(count * epsilon for epsilon, count in laplace.items())
    return min(total, rho + 2 * math.sqrt(rho * _TAIL))


@cache
def _composed(mu: float, others: tuple[tuple[float, int], ...], delta: float) -> float:
    parts = [_evaluation(epsilon).self_compose(count) for epsilon, count in others]
    if mu > 0:
        parts.append(_gaussian(mu))
    if not parts:
        return 0.0
    total = parts[0]
    for part in parts[1:]:
        total = total.compose(part)
    return float(total.get_epsilon_for_delta(delta))


def _gaussian(mu: float) -> PrivacyLossDistribution:
    # Imported here: it takes seconds, and most commands account for nothing.
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_gaussian_mechanism(1 / mu, value_discretization_interval=GRID)


def _evaluation(epsilon: float) -> PrivacyLossDistribution:
    """Return the losses of one evaluation: a row is in one count, and in the sum of losses.

    Each has half of epsilon. One continuous Laplace mechanism of the whole epsilon would not do:
    from an epsilon of about 10 on, its delta is smaller than that of the two discrete ones.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    steps = LOSS_CAP * LOSS_UNIT
    count, loss = (
        pld.from_discrete_laplace_mechanism(
            epsilon / 2 / sensitivity, sensitivity, value_discretization_interval=GRID
        )
        for sensitivity in (1, steps)
    )
    return count.compose(loss)
