"""The study's gate in small: on real shops privacy at epsilon 8 costs less than joining brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.model.metrics import roc_auc
from shared.privacy.keystream import Keystream
from simulations.studies.privacy_utility import (
    SHOP_ROWS,
    Member,
    alone,
    federated,
    judged,
    shop_members,
)

DATA = Path(__file__).parents[2] / "../shared/data/fraudulent_online_shops"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="the real data is not on this machine"),
]


def mean_of_draws(members: list[Member], epsilon: float) -> float:
    """Return the score over six fixed streams of noise: one alone says more of the draw."""
    vectors = [
        federated(members, epsilon, SHOP_ROWS, Keystream(bytes([key]) * 32)) for key in range(6)
    ]
    return float(np.mean([judged(members, [v] * len(members), roc_auc) for v in vectors]))


def test_epsilon_eight_is_within_the_gate_of_the_local_models_and_one_is_not() -> None:
    torch.set_num_threads(1)
    members = shop_members(31, DATA)
    bar = alone(members, roc_auc)
    assert mean_of_draws(members, 8.0) > bar - 0.02
    assert mean_of_draws(members, 1.0) < bar - 0.05
