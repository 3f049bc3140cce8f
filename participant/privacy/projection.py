"""From a run's manifest to what it will cost this member, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from participant.privacy.accounting import Charge, epsilon_of, gaussian
from shared.privacy.gaussian_dp import PureUses, gaussian_epsilon
from shared.privacy.terms import evaluation_epsilon, plan_privacy
from shared.trust.manifest import RunManifest


def training_charge(manifest: RunManifest) -> Charge:
    """Return what one masked update of the run costs."""
    if not manifest.private:
        return Charge("none", 0.0)
    return gaussian(manifest.privacy.multipliers())


def evaluation_charge(manifest: RunManifest) -> Charge:
    """Return what the evaluation words of one vector cost.

    A hold-out row is in one of the counts, at half of the round's epsilon, and in the loss, at the
    other half; each is a discrete Laplace mechanism, and epsilon bounds the two together.
    """
    return Charge("laplace", manifest.evaluation.epsilon_milli / 1000)


def run_charges(manifest: RunManifest) -> list[Charge]:
    """Return every charge of a run in which no round has to be repeated."""
    return charges_left(manifest, 0)


def charges_left(manifest: RunManifest, begun: int) -> list[Charge]:
    """Return the charges of the rounds after round ``begun``, none of which has to be repeated."""
    rounds = range(begun + 1, manifest.rounds + 1)
    evaluations = sum(manifest.evaluates_in(number) for number in rounds)
    each = evaluation_charge(manifest)
    return [training_charge(manifest)] * len(rounds) + [each] * evaluations


def planned_charges(
    epsilon: float, delta: float, rounds: int, steps: int, evaluations: int
) -> list[Charge]:
    """Return the charges of a private run as a coordinator would plan it.

    Raises:
        BadInput: no such run can be planned.
    """
    each = evaluation_epsilon(math.inf, epsilon, evaluations) if evaluations else 0.0
    uses = PureUses(evaluations, each)
    terms = plan_privacy(epsilon, delta, rounds=rounds, steps=steps, evaluations=uses)
    return [gaussian(terms.multipliers())] * rounds + [Charge("laplace", each)] * evaluations


@dataclass(frozen=True)
class Spent:
    """What the ledger holds against one run.

    Attributes:
        elsewhere: charges of other runs.
        here: charges of this run so far, repeated rounds included.
        begun: the latest round of this run that was charged, 0 for none.
    """

    elsewhere: tuple[Charge, ...] = ()
    here: tuple[Charge, ...] = ()
    begun: int = 0


NOTHING_SPENT = Spent()


@dataclass(frozen=True)
class Projection:
    """What a run would cost; stays at the member.

    Attributes:
        run: epsilon of the run alone, at the run's own delta; infinite without noise.
        total: epsilon of everything noisy in the ledger, that run included, at the policy's delta.
        spent: the same without the run.
    """

    run: float
    total: float
    spent: float


def project(manifest: RunManifest, spent: Spent, delta: float) -> Projection:
    """Return what a run costs by itself and on top of what other runs have cost.

    A run that repeated rounds costs more than it was planned to: in the total it counts whole, or
    as what it was charged so far and what is left of it, whichever is more.

    Args:
        manifest: the run's.
        spent: what the ledger holds.
        delta: the policy's, for everything together.
    """
    whole = project_charges(
        run_charges(manifest),
        spent.elsewhere,
        delta,
        manifest.privacy.delta if manifest.private else 0,
    )
    if not spent.here:
        return whole
    # After the last round, all that can still be asked for is that round once more.
    begun = min(spent.begun, manifest.rounds - 1)
    going_on = [*spent.elsewhere, *spent.here, *charges_left(manifest, begun)]
    return replace(whole, total=max(whole.total, epsilon_of(going_on, delta)))


def run_epsilon(manifest: RunManifest) -> float:
    """Return the epsilon of a run by itself, at its own delta; infinite without noise."""
    if not manifest.private:
        return math.inf
    return epsilon_of(run_charges(manifest), manifest.privacy.delta)


def surely_above(manifest: RunManifest, epsilon: float, delta: float) -> bool:
    """Tell whether the run's record noise alone spends more than ``epsilon`` at ``delta``.

    In closed form and so at once; evaluations and other runs only ever add to it.
    """
    mu = training_charge(manifest).amount * math.sqrt(manifest.rounds)
    return gaussian_epsilon(mu, delta) > epsilon


def project_charges(
    charges: list[Charge], elsewhere: Iterable[Charge], delta: float, run_delta: float
) -> Projection:
    """Return the projection of a run's charges; ``run_delta`` 0 stands for one without noise."""
    others = list(elsewhere)
    run = epsilon_of(charges, run_delta) if run_delta else math.inf
    return Projection(run, epsilon_of([*others, *charges], delta), epsilon_of(others, delta))
