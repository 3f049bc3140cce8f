"""What a private run's manifest states: noise, steps, evaluations, clips that let noise pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.errors import BadInput
from shared.model.layout import ModelSpec
from shared.privacy.gaussian_dp import PureUses
from shared.privacy.terms import (
    USUAL_EPSILON,
    USUAL_ROWS,
    PrivacyTerms,
    evaluation_epsilon,
    evaluations_of,
    full_rows,
    plan_privacy,
)
from shared.trust.manifest import EvaluationTerms, RunManifest, SecureSumTerms, TrainingTerms

if TYPE_CHECKING:
    from coordinator.rounds.plan import RunSettings

NOISE_DEVIATIONS = 6
"""Deviations of a member's noise that pass the coordinate clip: the sum's range is made for honest
updates, which are mostly noise here."""


@dataclass(frozen=True)
class PrivatePlan:
    """The parts of a manifest that differ in a private run."""

    terms: PrivacyTerms
    training: TrainingTerms
    evaluation: EvaluationTerms

    def clips(self, spec: ModelSpec, sums: SecureSumTerms) -> SecureSumTerms:
        """Return ``sums`` with clips that a member's noise passes."""
        rate = self.training.learning_rate_milli / 1000 / self.training.full_weight_rows
        deviation = rate * self.terms.noise * math.sqrt(self.terms.steps)
        coordinate = sums.clip_coord_milli / 1000 + NOISE_DEVIATIONS * deviation
        length = sums.clip_l2_milli / 1000 + 1.5 * deviation * math.sqrt(spec.n_params)
        return replace(
            sums,
            clip_coord_milli=math.ceil(coordinate * 1000),
            clip_l2_milli=math.ceil(length * 1000),
        )


def plan_private(settings: RunSettings) -> PrivatePlan | None:
    """Return the plan of a private run, or None for any other.

    Raises:
        BadInput: the settings contradict each other.
    """
    epsilon = settings.dp_epsilon
    if epsilon is None:
        return None
    if settings.weighting != "uniform":
        raise BadInput("a private run weighs members uniformly: a weight would tell their size")
    rounds, every = settings.rounds, settings.evaluate_every
    evaluations = evaluations_of(rounds, every)
    each = evaluation_epsilon(settings.evaluation_epsilon, epsilon, evaluations)
    terms = plan_privacy(
        epsilon,
        settings.dp_delta,
        rounds=rounds,
        steps=settings.dp_steps,
        evaluations=PureUses(evaluations, each),
    )
    rows = settings.dp_rows or full_rows(epsilon, settings.dp_delta)
    training = TrainingTerms(
        local_epochs=settings.dp_steps,
        learning_rate_milli=round(settings.dp_rate * 1000),
        batch_size=0,
        full_weight_rows=rows,
    )
    evaluation = EvaluationTerms(every, round(each * 1000), settings.min_holdout)
    return PrivatePlan(terms, training, evaluation)


def stated_epsilon(manifest: RunManifest) -> str:
    """Return what a release says of its run: epsilon in decimal, empty if it was not private."""
    return f"{manifest.epsilon_floor_milli / 1000:.3f}" if manifest.private else ""


def warnings(settings: RunSettings) -> list[str]:
    """Return what an operator should know before starting a private run."""
    if settings.dp_epsilon is None:
        return []
    found = [
        f"members with fewer than {USUAL_ROWS:,} training rows each will seldom gain from a "
        "private run; their own logs say so"
    ]
    if settings.dp_epsilon < USUAL_EPSILON:
        found.append(f"below epsilon {USUAL_EPSILON:g} a model needs many rows to be usable")
    return found
