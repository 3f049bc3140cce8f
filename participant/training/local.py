"""One member's part of a round: local stochastic gradient descent from the incoming model.

FedAvg as in McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data" (AISTATS 2017): what leaves is the difference of the models. No momentum: its
state would not survive averaging.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch.nn.functional import binary_cross_entropy_with_logits

from participant.training.dataset import TrainingSet
from participant.training.network import HashedNet
from shared.errors import StateError
from shared.model.layout import ModelSpec, check_vector

F32 = NDArray[np.float32]

MAX_HALVINGS = 8
"""Tries with half the rate before giving up: lr .3 becomes .001, which has never diverged."""


class NothingToTrain(StateError):
    """The member has no labelled record that may train."""

    code = "nothing_to_train"


class TrainingDiverged(StateError):
    """The loss is not finite even at a tiny learning rate."""

    code = "training_diverged"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a member trains in one round.

    Attributes:
        lr: learning rate.
        batch: records in one step.
        epochs: passes over the training records.
        seed: of the order of records; give each round its own.
        threads: processor threads for torch; 0 leaves torch's setting alone.
    """

    lr: float = 0.3
    batch: int = 32
    epochs: int = 3
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        """Refuse values that would train nothing."""
        if not (self.lr > 0 and self.batch > 0 and self.epochs > 0 and self.threads >= 0):
            raise ValueError("lr, batch and epochs must be above 0")


def local_update(
    spec: ModelSpec, vector: F32, training_set: TrainingSet, config: TrainConfig | None = None
) -> F32:
    """Train from ``vector`` on the member's training part and return the difference.

    A non-finite loss halves the rate and starts over. One class alone is enough to train.

    Args:
        spec: the model.
        vector: float32[spec.n_params], the incoming model; left as it is.
        training_set: the member's records.
        config: rate, batch, epochs, seed.

    Returns:
        float32[spec.n_params], trained model minus ``vector``; zero in rows the member's
        records do not touch.

    Raises:
        NothingToTrain: the training part is empty.
        TrainingDiverged: no rate gives a finite loss.
        UnknownModel: ``vector`` does not fit ``spec``.
    """
    check_vector(spec, vector)
    config = config or TrainConfig()
    if training_set.train_rows == 0:
        raise NothingToTrain(
            "there is no labelled record to train on", hint="import verdicts first"
        )
    for _ in range(MAX_HALVINGS + 1):
        with _threads(config.threads):
            trained = _train(spec, vector, training_set, config)
        if trained is not None:
            return trained - vector
        config = replace(config, lr=config.lr / 2)
    raise TrainingDiverged(
        "the training loss is not finite", hint="the incoming model may be broken; leave the run"
    )


def _train(
    spec: ModelSpec, vector: F32, training_set: TrainingSet, config: TrainConfig
) -> F32 | None:
    trained = vector
    for _, after_epoch in training_path(spec, vector, training_set, config):
        trained = after_epoch
    return trained if np.isfinite(trained).all() else None


def training_path(
    spec: ModelSpec, vector: F32, training_set: TrainingSet, config: TrainConfig
) -> Iterator[tuple[int, F32]]:
    """Yield the model after each epoch, as (epoch from 1, float32[n_params]).

    Stops after the first epoch with a non-finite value, which it still yields.
    """
    part = training_set.train_part
    index = training_set.split.train
    labels = torch.from_numpy(training_set.labels[index].astype(np.float32))
    weights = torch.from_numpy(training_set.confidence[index])
    network = HashedNet(spec, vector, part.touched)
    optimiser = torch.optim.SGD(network.parameters(), lr=config.lr)
    generator = np.random.Generator(np.random.Philox(config.seed))
    for epoch in range(1, config.epochs + 1):
        order = generator.permutation(index.size)
        finite = True
        shuffled = part.matrix[order]
        for start in range(0, index.size, config.batch):
            pick = torch.from_numpy(order[start : start + config.batch])
            batch: csr_matrix = shuffled[start : start + config.batch]
            optimiser.zero_grad()
            loss = binary_cross_entropy_with_logits(network(batch), labels[pick], weights[pick])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            finite = bool(torch.isfinite(loss))
            if not finite:
                break
        trained = network.flat(vector)
        if not finite:
            trained[-1] = np.nan
        yield epoch, trained
        if not np.isfinite(trained).all():
            return


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
