"""The study's gate in small: on real shops privacy at epsilon 8 costs less than joining brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.rounds.plan import RunSettings
from coordinator.rounds.private_plan import plan_private
from shared.model.metrics import pr_auc, roc_auc
from shared.privacy.keystream import Keystream
from shared.privacy.terms import full_rows
from simulations.studies.privacy_utility import (
    ALLOWED_COST,
    DELTA,
    SHOP_ROWS,
    Gate,
    Member,
    alone,
    federated,
    judged,
    planned,
    shop_members,
    world_members,
)

DATA = Path(__file__).parents[2] / "../shared/data/fraudulent_online_shops"

pytestmark = pytest.mark.slow
needs_shops = pytest.mark.skipif(not DATA.exists(), reason="the real data is not on this machine")


def mean_of_draws(members: list[Member], epsilon: float) -> float:
    """Return the score over six fixed streams of noise: one alone says more of the draw."""
    vectors = [
        federated(members, epsilon, SHOP_ROWS, Keystream(bytes([key]) * 32)) for key in range(6)
    ]
    return float(np.mean([judged(members, [v] * len(members), roc_auc) for v in vectors]))


@needs_shops
def test_epsilon_eight_is_within_the_gate_of_the_local_models_and_one_is_not() -> None:
    torch.set_num_threads(1)
    members = shop_members(31, DATA)
    bar = alone(members, roc_auc)
    assert mean_of_draws(members, 8.0) > bar - 0.02
    assert mean_of_draws(members, 1.0) < bar - 0.05


def test_epsilon_two_costs_little_where_members_are_large() -> None:
    """The second gate on one world: single worlds differ from their mean by some .01."""
    torch.set_num_threads(1)
    members = world_members(32, 550, 6, own=False)
    rows = full_rows(2.0, DELTA)
    private = [federated(members, 2.0, rows, Keystream(bytes([key]) * 32)) for key in range(2)]
    scored = [judged(members, [v] * len(members), pr_auc) for v in private]
    bare = federated(members, None, rows)
    without = judged(members, [bare] * len(members), pr_auc)
    assert without - ALLOWED_COST - 0.02 < np.mean(scored) < without


def test_the_study_adds_the_noise_that_a_run_is_planned_with() -> None:
    run = plan_private(RunSettings(rounds=10, dp_epsilon=2.0))
    assert run is not None
    assert run.terms == planned(2.0, run.terms.steps)


def test_a_gate_is_a_mean_over_worlds() -> None:
    assert Gate("", [0.04, 0.06], ALLOWED_COST).kept
    broken = Gate("cost", [0.05, 0.06], ALLOWED_COST)
    assert not broken.kept
    assert "BROKEN" in broken.line()
