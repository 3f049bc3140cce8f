"""The alliance's model, by plain FedAvg with the members' own trainer.

The secure sum returns the sum of the clipped updates exactly, but for their rounding to 16 bits,
so the study adds them up in the clear. Terms are the defaults of a run's manifest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from participant.training.local import TrainConfig, local_update
from shared.model.layout import ModelSpec, init_vector
from shared.trust.manifest import SecureSumTerms, TrainingTerms
from simulations.studies.member_size.member import StudyMember

F32 = npt.NDArray[np.float32]

ROUNDS = 10


def federate(
    spec: ModelSpec, members: list[StudyMember], *, seed: int, rounds: int = ROUNDS
) -> F32:
    """Return the model after ``rounds`` rounds, float32[spec.n_params].

    Args:
        spec: the model.
        members: all take part in every round, each with weight 1 (``weighting = uniform``).
        seed: of the first model and of the order of records.
        rounds: of the run.
    """
    terms = TrainingTerms()
    vector = init_vector(spec, seed)
    for number in range(rounds):
        config = TrainConfig(
            lr=terms.learning_rate_milli / 1000,
            batch=terms.batch_size,
            epochs=terms.local_epochs,
            seed=1000 * seed + number,
            threads=1,
        )
        total = np.zeros_like(vector)
        for member in members:
            total += _clipped(local_update(spec, vector, member.training, config))
        vector = (vector + total / np.float32(len(members))).astype(np.float32)
    return vector


def _clipped(delta: F32) -> F32:
    """Return an update as the secure sum takes it: within the L2 and the coordinate clip."""
    terms = SecureSumTerms(threshold=1, n_min=1, max_colluders=0)
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    shrunk = delta * np.float32(min(1.0, terms.clip_l2_milli / 1000 / max(norm, 1e-12)))
    bound = np.float32(terms.clip_coord_milli / 1000)
    return np.clip(shrunk, -bound, bound)
