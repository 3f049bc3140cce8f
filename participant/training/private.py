"""One member's part of a private round: full-batch gradient steps with noise for every record.

DP-SGD without sampling (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016) on a
linear model. The gradient of one record is its residual times its features, so it is cut to norm
``CLIP`` in closed form. Everything noise is added to is a vector of whole numbers: features are
rounded to a grid, a residual is rounded at random to one that keeps residual times norm within the
sensitivity, and sums of whole numbers are exact. So the bound holds to the last bit, and the noise
is whole numbers too (:mod:`shared.privacy.gaussian`).

Nothing else about the records reaches the result. A step is divided by a noisy count of them; no
loss is looked at, no rate is halved, no step is the best one. A run's time does grow with the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit

from participant.training.dataset import TrainingSet
from shared.model.layout import ModelSpec, UnknownModel, check_vector
from shared.privacy.gaussian import UNIT, rounded_gaussian
from shared.privacy.keystream import Keystream
from shared.privacy.terms import CLIP, PrivacyTerms

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FEATURE_UNIT = 1 << 8
"""Whole numbers in a feature of 1: a record has some 400 features and length 8."""

CONSTANT = 1.6
"""The feature that every record has and whose weight is the bias. Small, because what it adds to a
record's length is taken from what tells records apart."""

_CONSTANT_UNITS = round(CONSTANT * FEATURE_UNIT)


@dataclass(frozen=True, slots=True)
class PrivateConfig:
    """How a member trains in one private round.

    Attributes:
        terms: the noise, from the run's manifest.
        rate: learning rate.
        full_weight_rows: a member with fewer records takes steps that much smaller, so that its
            noise counts no more in the alliance's mean than that of a member with so many.
    """

    terms: PrivacyTerms
    rate: float
    full_weight_rows: int


@dataclass(frozen=True)
class WholeRecords:
    """Training records as whole numbers.

    Attributes:
        matrix: float64 CSR [n, rows of the hashed space], exact; a product of whole numbers with
            weights would be converted at each step, which takes ten times as long.
        transposed: int64, its transpose, whose sums must be exact.
        labels: int8[n].
        confidence: float64[n], weight of each record in (0, 1].
        squares: int64[n], squared L2 length of each record with its constant.
    """

    matrix: csr_matrix
    transposed: csr_matrix
    labels: NDArray[np.int8]
    confidence: F64
    squares: I64

    @classmethod
    def of(cls, training_set: TrainingSet) -> WholeRecords:
        """Round the training part to the grid."""
        index = training_set.split.train
        matrix = training_set.matrix[index].astype(np.float64)
        matrix.data = np.rint(matrix.data * FEATURE_UNIT)
        whole: csr_matrix = matrix.astype(np.int64)
        squares = np.asarray(whole.multiply(whole).sum(axis=1)).ravel()
        return cls(
            matrix,
            whole.T.tocsr(),
            training_set.labels[index],
            training_set.confidence[index].astype(np.float64),
            squares + _CONSTANT_UNITS**2,
        )


def sensitivity(noise: float) -> int:
    """Return the sensitivity, in whole numbers, that makes ``UNIT`` the noise multiplier given."""
    return int(UNIT / noise)


def residuals(records: WholeRecords, weights: F64, bound: int, stream: Keystream) -> I64:
    """Return int64[n], so that residual times a record's features is its cut gradient.

    Args:
        records: the training records.
        weights: float64[rows + 1], the model; last the constant's weight.
        bound: the sensitivity; the square of it bounds that of every cut gradient, exactly.
        stream: decides which way a residual is rounded.
    """
    logits = (records.matrix @ weights[:-1] + _CONSTANT_UNITS * weights[-1]) / FEATURE_UNIT
    exact = records.confidence * (expit(logits) - records.labels)
    scaled = exact * (bound / (CLIP * FEATURE_UNIT))
    rounded = np.floor(scaled + stream.unit(scaled.size))
    most = np.sqrt(bound * bound / records.squares).astype(np.int64)
    most -= most * most * records.squares > bound * bound
    cut: I64 = np.clip(rounded, -most, most).astype(np.int64)
    return cut


def noisy_gradient(records: WholeRecords, weights: F64, noise: float, stream: Keystream) -> F64:
    """Return float64[rows + 1], the sum of cut gradients with noise of ``noise * CLIP``."""
    bound = sensitivity(noise)
    residual = residuals(records, weights, bound, stream)
    total = np.append(records.transposed @ residual, _CONSTANT_UNITS * residual.sum())
    noisy = total + rounded_gaussian(total.size, stream)
    return noisy.astype(np.float64) * (CLIP / bound)


def noisy_count(rows: int, noise: float, stream: Keystream) -> float:
    """Return the number of records with noise of deviation ``noise``, at least 1."""
    unit = sensitivity(noise)
    return max(float(rows * unit + int(rounded_gaussian(1, stream)[0])) / unit, 1.0)


def private_update(
    spec: ModelSpec,
    vector: F32,
    training_set: TrainingSet,
    config: PrivateConfig,
    stream: Keystream | None = None,
    *,
    records: WholeRecords | None = None,
) -> F32:
    """Train from ``vector`` and return the difference; it is private whatever is done with it.

    A member without a single record answers all the same, with noise.

    Args:
        spec: a linear model.
        vector: float32[spec.n_params], the incoming model.
        training_set: the member's records, split by seller alone.
        config: the manifest's noise and rate.
        stream: only tests give one.
        records: ``training_set`` rounded before: rounding takes longer than a round's steps.

    Returns:
        float32[spec.n_params], trained model minus ``vector``.

    Raises:
        UnknownModel: ``vector`` does not fit ``spec``, or that is not linear.
    """
    if not spec.linear:
        raise UnknownModel("record-level privacy needs the compact linear model")
    check_vector(spec, vector)
    whole = records or WholeRecords.of(training_set)
    return _noisy_steps(vector, whole, config, stream or Keystream())


def _noisy_steps(
    vector: F32, records: WholeRecords, config: PrivateConfig, stream: Keystream
) -> F32:
    terms = config.terms
    count = noisy_count(records.labels.size, terms.count_noise, stream)
    rate = config.rate / max(count, float(config.full_weight_rows))
    start = _split_constant(vector)
    weights = start.copy()
    for _ in range(terms.steps):
        weights -= rate * noisy_gradient(records, weights, terms.noise, stream)
    moved = weights - start
    moved[-1] *= CONSTANT
    return moved.astype(np.float32)


def noise_update(spec: ModelSpec, vector: F32, config: PrivateConfig) -> F32:
    """Return the update of a member without a single record: noise, as all others add it.

    Stands in for an update that could not be made; it tells nothing of any record.
    """
    nothing = WholeRecords(
        csr_matrix((0, spec.rows), dtype=np.float64),
        csr_matrix((spec.rows, 0), dtype=np.int64),
        np.zeros(0, dtype=np.int8),
        np.zeros(0, dtype=np.float64),
        np.zeros(0, dtype=np.int64),
    )
    return _noisy_steps(vector, nothing, config, Keystream())


def _split_constant(vector: F32) -> F64:
    """Return the model with the constant's weight in place of the bias."""
    weights = vector.astype(np.float64)
    weights[-1] /= CONSTANT
    return weights
