"""In the demonstration's world the project's own model gains from other members' knowledge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from participant.training.baseline import fit_local
from participant.training.dataset import TrainingSet
from participant.training.inference import logits_of
from participant.training.local import TrainConfig, local_update
from participant.training.matrix import to_csr
from shared.model.features.build import build_features
from shared.model.features.history import History
from shared.model.layout import ModelSpec, init_vector
from shared.model.metrics import pr_auc
from simulations.world import World, WorldConfig, evaluation_listings, generate, training_records
from simulations.world.splits import new_tactic_mask, split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPEC = ModelSpec(hash_bits=16)
SEEDS = (7, 3)
ROUNDS = 8


@dataclass
class Member:
    """What one member trains on, and the later listings on which it is judged by the truth."""

    training: TrainingSet
    features: object
    truth: np.ndarray
    new_tactic: np.ndarray

    def logits(self, vector: np.ndarray) -> np.ndarray:
        return logits_of(SPEC, vector, self.features)


def member(world: World, name: str) -> Member:
    records, now = training_records(world, name), world.week_start(world.config.train_weeks)
    later, own = evaluation_listings(world, name), world.members[name]
    parts = split(world, name)
    batch = build_features(
        later,
        "listings",
        hash_bits=SPEC.hash_bits,
        as_of=later["updated_at"],
        history=History(own.listings, own.complaints),
    )
    return Member(
        TrainingSet.from_records(
            "listings",
            records["listings"],
            spec=SPEC,
            as_of=now,
            complaints=records["complaints"],
            verdicts=records["verdicts"],
        ),
        to_csr(batch, SPEC.rows),
        own.truth["counterfeit"].to_numpy()[parts.test],
        new_tactic_mask(world, name)[parts.test],
    )


def federated(members: list[Member]) -> np.ndarray:
    vector = init_vector(SPEC, 0)
    weights = np.array([m.training.train_rows for m in members], dtype=np.float64)
    for turn in range(ROUNDS):
        deltas = [local_update(SPEC, vector, m.training, TrainConfig(seed=turn)) for m in members]
        mean = sum(w * delta for w, delta in zip(weights / weights.sum(), deltas, strict=True))
        vector = (vector + mean).astype(np.float32)
    return vector


def caught(one: Member, logits: np.ndarray) -> list[bool]:
    """Tell which new-tactic cases score above the member's 2 % false-positive limit."""
    return list(logits[one.new_tactic] > np.quantile(logits[~one.truth], 0.98))


def test_federated_beats_local_and_catches_what_is_new() -> None:
    torch.set_num_threads(1)
    alone, together, cases = [], [], {"alone": [], "together": []}
    for seed in SEEDS:
        world = generate(WorldConfig(seed=seed))
        members = [member(world, name) for name in world.members]
        vector = federated(members)
        for one in members:
            own, shared = one.logits(fit_local(one.training).vector), one.logits(vector)
            alone.append(pr_auc(one.truth, own))
            together.append(pr_auc(one.truth, shared))
            cases["alone"] += caught(one, own)
            cases["together"] += caught(one, shared)
    assert np.mean(together) > np.mean(alone) + 0.05
    assert 0.35 < np.mean(alone) < 0.7
    assert 0.55 < np.mean(together) < 0.9
    assert len(cases["alone"]) >= 20
    assert np.mean(cases["together"]) > np.mean(cases["alone"])
