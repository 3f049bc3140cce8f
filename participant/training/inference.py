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
from shared.privacy.keystream import Keystream
from shared.secagg.tail import LOSS_CAP, LOSS_UNIT

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

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


def steady_logits(spec: ModelSpec, vector: F32, matrix: csr_matrix) -> F64:
    """Return float64[n] logits, finite and cut at ``LOGIT_LIMIT``, each of its own row alone.

    The noise of an evaluation hides one row, so no row may move another's score, not even in the
    last bit. A product of matrices may: how it rounds depends on how many rows there are. Here
    everything is done element by element, and scipy sums each row by itself.

    A sum that overflows both ways is no number. It counts as a logit of 0, so that whether there
    is such a row shows in nothing but its own counts.
    """
    parts = spec.slices
    with np.errstate(over="ignore", invalid="ignore"):
        wide, bag = bags(spec, vector, matrix)
        logits: F64 = wide.astype(np.float64) + np.float64(vector[parts.bias][0])
        if not spec.linear:
            logits += _hidden_part(spec, vector, bag.astype(np.float64))
        steady = np.nan_to_num(logits, nan=0.0, posinf=LOGIT_LIMIT, neginf=-LOGIT_LIMIT)
    return np.clip(steady, -LOGIT_LIMIT, LOGIT_LIMIT)


def _hidden_part(spec: ModelSpec, vector: F32, bag: F64) -> F64:
    parts = spec.slices
    first = vector[parts.w1].reshape(spec.embed_dim, spec.hidden).astype(np.float64)
    biases, last = vector[parts.b1].astype(np.float64), vector[parts.w2].astype(np.float64)
    columns, total = np.ascontiguousarray(bag.T), np.zeros(bag.shape[0])
    for unit in range(spec.hidden):
        drive = np.full(bag.shape[0], biases[unit])
        for dim in range(spec.embed_dim):
            drive += columns[dim] * first[dim, unit]
        total += np.maximum(drive, 0) * last[unit]
    return total


def evaluate_histograms(
    spec: ModelSpec,
    vector: F32,
    holdout: tuple[csr_matrix, NDArray[np.int8]],
    stream: Keystream | None = None,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return what a member adds to the secure metrics; it never fails on a record.

    Each row's loss is rounded to whole steps, up or down at random so that a sum of small losses is
    not lost, and the steps are added: one row moves the sum by at most ``LOSS_CAP * LOSS_UNIT``,
    exactly, which a sum of floating-point numbers does not promise.

    Args:
        spec: the model.
        vector: float32[n_params], the incoming model.
        holdout: features and labels of the member's hold-out part.
        stream: decides which way a loss is rounded; only tests give one.

    Returns:
        Summed log-loss in steps of 1 / ``LOSS_UNIT`` nats, and the score histograms of positives
        and negatives, int64[20].
    """
    matrix, labels = holdout
    logits = steady_logits(spec, vector, matrix)
    signed = np.where(labels == 1, -logits, logits)
    capped = np.minimum(np.logaddexp(0.0, signed), LOSS_CAP)
    steps = np.floor(capped * LOSS_UNIT + (stream or Keystream()).unit(labels.size))
    loss = int(steps.astype(np.int64).sum())
    return loss, histogram(logits[labels == 1]), histogram(logits[labels == 0])
