"""Scores of the model, without torch: two sparse products and a small perceptron."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit

from participant.training.matrix import to_csr
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec
from shared.model.metrics import histogram
from shared.secagg.tail import LOSS_CAP

F32 = NDArray[np.float32]

LOGIT_LIMIT = 30.0
"""Logits are cut here in the loss, so that one absurd score cannot drown a summed metric."""


def bags(spec: ModelSpec, vector: F32, matrix: csr_matrix) -> tuple[F32, F32]:
    """Return the wide logits, float32[n], and the summed embeddings, float32[n, E]."""
    parts = spec.slices
    if spec.linear:
        return matrix @ vector[parts.wide], np.zeros((matrix.shape[0], 0), dtype=np.float32)
    embedding = vector[parts.embedding].reshape(spec.rows, spec.embed_dim)
    return matrix @ vector[parts.wide], matrix @ embedding


def logits_of(spec: ModelSpec, vector: F32, matrix: csr_matrix) -> F32:
    """Return float32[n] logits of float32 CSR [n, spec.rows] features."""
    parts = spec.slices
    wide, bag = bags(spec, vector, matrix)
    first = vector[parts.w1].reshape(spec.embed_dim, spec.hidden)
    hidden = np.maximum(bag @ first + vector[parts.b1], 0)
    logits: F32 = wide + hidden @ vector[parts.w2] + vector[parts.bias]
    return logits


def scores(spec: ModelSpec, vector: F32, batch: FeatureBatch | csr_matrix) -> F32:
    """Return float32[n], the model's uncalibrated probability of counterfeit."""
    matrix = to_csr(batch, spec.rows) if isinstance(batch, FeatureBatch) else batch
    probability: F32 = expit(logits_of(spec, vector, matrix)).astype(np.float32)
    return probability


def evaluate_histograms(
    spec: ModelSpec, vector: F32, holdout: tuple[csr_matrix, NDArray[np.int8]]
) -> tuple[float, NDArray[np.int64], NDArray[np.int64]]:
    """Return what a member adds to the secure metrics.

    Args:
        spec: the model.
        vector: float32[n_params], the incoming model.
        holdout: features and labels of the member's hold-out part.

    Returns:
        Summed log-loss in nats, and the score histograms of positives and negatives, int64[20].
    """
    matrix, labels = holdout
    logits = np.clip(logits_of(spec, vector, matrix).astype(np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
    signed = np.where(labels == 1, -logits, logits)
    # One row may move the sum by no more than the noise of the secure sum is made for.
    loss = float(np.minimum(np.logaddexp(0.0, signed), LOSS_CAP).sum())
    return loss, histogram(logits[labels == 1]), histogram(logits[labels == 0])
