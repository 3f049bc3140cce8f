"""From a run's manifest to what it will cost this member, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from participant.privacy.accounting import Charge, epsilon_of, gaussian
from shared.privacy.gaussian_dp import PureUses
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
    charges = [training_charge(manifest)] * manifest.rounds
    rounds = range(1, manifest.rounds + 1)
    evaluations = sum(manifest.evaluates_in(number) for number in rounds)
    return charges + [evaluation_charge(manifest)] * evaluations


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


def project(manifest: RunManifest, elsewhere: Iterable[Charge], delta: float) -> Projection:
    """Return what a run costs by itself and on top of what other runs have cost.

    Args:
        manifest: the run's.
        elsewhere: the ledger's charges but those of this run, which is projected whole.
        delta: the policy's, for everything together.
    """
    return project_charges(
        run_charges(manifest), elsewhere, delta, manifest.privacy.delta if manifest.private else 0
    )


def project_charges(
    charges: list[Charge], elsewhere: Iterable[Charge], delta: float, run_delta: float
) -> Projection:
    """Return the projection of a run's charges; ``run_delta`` 0 stands for one without noise."""
    others = list(elsewhere)
    run = epsilon_of(charges, run_delta) if run_delta else math.inf
    return Projection(run, epsilon_of([*others, *charges], delta), epsilon_of(others, delta))
