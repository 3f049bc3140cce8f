"""What a run with record-level differential privacy states about its noise, and how it is planned.

Every member adds noise enough for itself: nothing here is divided by the number of members, and no
one has to trust another's noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.errors import BadInput, MalformedMessage
from shared.privacy.gaussian_dp import NO_USES, PureUses, gaussian_mu

CLIP = 1.0
"""L2 norm to which the gradient of one record is cut."""

COUNT_SHARE = 0.02
"""Share of the Gaussian cost (of mu squared) that tells each round how many records there are.

The number only divides a step, and never by less than ``full_rows``, which grows as the noise
does: in a run of 10 rounds its deviation is 1.4 % of that, at every epsilon."""

EVALUATION_SHARE = 0.1
"""Largest share of a private run's epsilon that its evaluations may have together."""

STEPS = 3
RATE = 18.75
FULL_ROWS = 1000
"""Steps a round, learning rate, and records from which a member counts in full, at epsilon 8. With
less epsilon a step is as sure only with more records, so the number grows as the noise does
(docs: differential privacy, Choosing the settings)."""

USUAL_ROWS = 2000
USUAL_EPSILON = 4.0
"""Below these a private model is seldom worth running (docs: differential privacy)."""

_REFERENCE = 8.0
DELTA_UNIT = 1e-9
MAX_DELTA = 1e-3
MAX_EPSILON = 100.0
MAX_STEPS = 1000
MIN_NOISE = 0.01
"""Smallest noise multiplier: with less, squares of whole numbers would not fit 64 bits."""

_NOISE_UNIT = 1000
_LEAST_MU = 1e-6


@dataclass(frozen=True)
class PrivacyTerms:
    """The noise of one round; all zero in a run without it. Part of the signed manifest.

    Attributes:
        delta_e9: delta in billionths, for the whole run.
        steps: noisy full-batch gradient steps a round.
        noise_milli: deviation of each step's noise in thousandths of the clip.
        count_noise_milli: deviation of the noisy number of records, in thousandths of a record.
    """

    delta_e9: int = 0
    steps: int = 0
    noise_milli: int = 0
    count_noise_milli: int = 0

    @property
    def delta(self) -> float:
        """Delta of the whole run."""
        return self.delta_e9 * DELTA_UNIT

    @property
    def noise(self) -> float:
        """Noise multiplier of a step."""
        return self.noise_milli / _NOISE_UNIT

    @property
    def count_noise(self) -> float:
        """Deviation of the noisy number of records."""
        return self.count_noise_milli / _NOISE_UNIT

    def multipliers(self) -> tuple[float, ...]:
        """Return the noise multiplier of every Gaussian mechanism of one round."""
        return (self.count_noise, *[self.noise] * self.steps)

    def check(self, *, private: bool) -> None:
        """Refuse terms that contradict themselves or the rest of the manifest.

        Raises:
            MalformedMessage: the run is private and a term is missing or absurd, or is not and
                one is stated.
        """
        values = (self.delta_e9, self.steps, self.noise_milli, self.count_noise_milli)
        if private != all(values) or private != any(values):
            raise MalformedMessage("a private run states all of its noise, any other none")
        if self.delta > MAX_DELTA or self.steps > MAX_STEPS:
            raise MalformedMessage("the run's delta or number of steps is out of range")
        if private and min(self.multipliers()) < MIN_NOISE:
            raise MalformedMessage("the run's noise is none")

    def write(self, writer: Writer) -> Writer:
        """Append the canonical encoding."""
        writer.u32(self.delta_e9).u32(self.steps)
        return writer.u32(self.noise_milli).u32(self.count_noise_milli)

    @classmethod
    def read(cls, reader: Reader) -> PrivacyTerms:
        """Read what :meth:`write` appended; raises :class:`MalformedMessage`."""
        return cls(*(reader.u32() for _ in range(4)))


def full_rows(epsilon: float, delta: float) -> int:
    """Return the number of records from which a member counts in full at ``epsilon``."""
    return math.ceil(FULL_ROWS * gaussian_mu(_REFERENCE, delta) / gaussian_mu(epsilon, delta))


def evaluation_epsilon(asked: float, epsilon: float, evaluations: int) -> float:
    """Return the epsilon of one evaluation in a private run, in whole thousandths.

    Args:
        asked: what the operator asked for.
        epsilon: of the whole run.
        evaluations: how many the run has.

    Raises:
        BadInput: less than a thousandth would be left for each.
    """
    found = min(asked, EVALUATION_SHARE * epsilon / evaluations)
    if found < 1 / _NOISE_UNIT:
        raise BadInput("so little epsilon does not last for so many evaluations")
    return math.floor(found * _NOISE_UNIT) / _NOISE_UNIT


NOT_PRIVATE = PrivacyTerms()


def plan_privacy(
    epsilon: float, delta: float, *, rounds: int, steps: int, evaluations: PureUses = NO_USES
) -> PrivacyTerms:
    """Return the least noise that keeps a whole run within (epsilon, delta).

    Training and evaluations are composed exactly for evaluations as revealing as their epsilon
    allows. Members know theirs to be Laplace mechanisms and find a little less than ``epsilon``.

    Args:
        epsilon: of the whole run, training and evaluations.
        delta: of the whole run.
        rounds: training rounds.
        steps: gradient steps a round.
        evaluations: what the run's evaluations cost.

    Raises:
        BadInput: nothing is left for training, or an amount is out of range.
    """
    if not (0 < delta <= MAX_DELTA and rounds > 0 and 0 < steps <= MAX_STEPS):
        raise BadInput(f"delta lies above 0 and up to {MAX_DELTA}, steps from 1 to {MAX_STEPS}")
    if not 0 < epsilon < math.inf:
        raise BadInput("the epsilon of a run is positive and finite")
    mu = gaussian_mu(epsilon, delta, evaluations)
    if mu < _LEAST_MU:
        raise BadInput("the evaluations leave no privacy for training")
    noise = math.sqrt(rounds * steps / (1 - COUNT_SHARE)) / mu
    count_noise = math.sqrt(rounds / COUNT_SHARE) / mu
    return PrivacyTerms(
        round(delta / DELTA_UNIT),
        steps,
        math.ceil(noise * _NOISE_UNIT),
        math.ceil(count_noise * _NOISE_UNIT),
    )


def evaluations_of(rounds: int, every: int) -> int:
    """Return how often a run evaluates: every ``every`` rounds and in the last one."""
    return rounds // every + (rounds % every > 0)
