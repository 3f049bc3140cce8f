"""The sum's frame: canaries, weight and the evaluation histograms beside the packed update.

Vector of ``ceil(P / 3) + 3`` words, or 41 more in an evaluating round::

    1 | packed lanes ... | weight in eighths | [loss, 20 positives, 20 negatives] | 1

Every word outside the packed part is one value below 2^40, so that 64 members cannot reach bit
46. Evaluation words carry the member's own discrete-Laplace noise and an offset of 2^20.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.privacy.noise import RandBelow, discrete_laplace, laplace_scale
from shared.secagg.errors import BadVector, SumRejected
from shared.secagg.quantise import WEIGHT_UNIT, Quantiser, pack, packed_words, unpack_mean

CANARY = 1
BINS = 20
METRIC_WORDS = 1 + 2 * BINS
NOISE_OFFSET = 1 << 20
"""Keeps noisy counts positive; far above any noise a sane epsilon draws."""

VALUE_LIMIT = 1 << 40
SUM_BITS = 46
"""64 members x 2^40: a sum's word has nothing above this bit."""

LOSS_CAP = 8
"""Nats one row may add to the loss sum; bounds its sensitivity."""

LOSS_UNIT = 16
"""Steps per nat in which the loss travels."""


@dataclass(frozen=True)
class Evaluation:
    """How the incoming model did on one member's hold-out, before noise.

    Attributes:
        loss_steps: sum over rows of the log loss in steps of 1 / ``LOSS_UNIT`` nats, each row's a
            whole number of them and capped at ``LOSS_CAP`` nats.
        positives: counts of positive rows by score in 20 equal bins of [0, 1], int64[20].
        negatives: the same for negative rows.
    """

    loss_steps: int
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def nothing(cls) -> Evaluation:
        """Return the evaluation of no row at all: with its noise, noise alone."""
        return cls(0, np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64))

    @property
    def usable(self) -> bool:
        """Whether there are ``BINS`` counts of either class and none is negative."""
        return all(
            part.shape == (BINS,) and part.dtype.kind == "i" and not bool((part < 0).any())
            for part in (self.positives, self.negatives)
        )

    @property
    def rows(self) -> int:
        """Rows in the hold-out."""
        return int(self.positives.sum() + self.negatives.sum())


@dataclass(frozen=True)
class Layout:
    """Where things lie in a vector.

    Attributes:
        n_params: coordinates of the model, P.
        evaluates: whether the evaluation words are there.
    """

    n_params: int
    evaluates: bool

    @property
    def words(self) -> int:
        """Length of the whole vector in u64 words."""
        return packed_words(self.n_params) + 3 + (METRIC_WORDS if self.evaluates else 0)

    @property
    def packed(self) -> slice:
        """The lanes."""
        return slice(1, 1 + packed_words(self.n_params))

    @property
    def tail(self) -> slice:
        """Weight and evaluation, without the canaries."""
        return slice(1 + packed_words(self.n_params), self.words - 1)


@dataclass(frozen=True)
class NoiseTerms:
    """The evaluation's privacy: epsilon a round and the smallest hold-out that is told."""

    epsilon: float
    min_rows: int = 200


@dataclass(frozen=True)
class OpenedSum:
    """What a round's sum says.

    Attributes:
        mean: weighted mean update, float32[P].
        weight_sum: sum of the survivors' weights.
        survivors: |U3|.
        loss_sum: noisy sum of log losses in nats, or None in a round without evaluation.
        positives: noisy counts by bin, int64[20], may be negative; None without evaluation.
        negatives: likewise.
    """

    mean: NDArray[np.float32]
    weight_sum: float
    survivors: int
    loss_sum: float | None
    positives: NDArray[np.int64] | None
    negatives: NDArray[np.int64] | None


def build_vector(
    delta: NDArray[np.float32],
    weight: float,
    quantiser: Quantiser,
    evaluation: Evaluation | None = None,
    noise: NoiseTerms | None = None,
    *,
    dither_key: bytes | None = None,
    randbelow: RandBelow = secrets.randbelow,
) -> NDArray[np.uint64]:
    """Return one member's plain vector, uint64[Layout.words], ready to be masked.

    Args:
        delta: float32[P], local minus global model.
        weight: one of the quantiser's allowed weights.
        quantiser: from the terms.
        evaluation: in rounds that evaluate; a hold-out below ``noise.min_rows`` sends pure noise.
        noise: required with ``evaluation``.
        dither_key: see :func:`~shared.secagg.quantise.pack`.
        randbelow: source of the Laplace noise; only tests replace it.

    Raises:
        BadVector: NaN, infinity, wrong shapes, or a value that does not fit.
    """
    if (evaluation is None) != (noise is None):
        raise BadVector("an evaluation needs its noise terms, and they need an evaluation")
    layout = Layout(delta.size, evaluation is not None)
    vector = np.empty(layout.words, dtype=np.uint64)
    pack(delta, weight, quantiser, out=vector[layout.packed], dither_key=dither_key)
    vector[0] = vector[-1] = CANARY
    tail = [int(weight * WEIGHT_UNIT)]
    if evaluation is not None and noise is not None:
        tail += _noisy(evaluation, noise, randbelow)
    if any(not 0 <= value < VALUE_LIMIT for value in tail):
        raise BadVector("a value of the tail does not fit in 40 bits")
    vector[layout.tail] = tail
    return vector


def _noisy(evaluation: Evaluation, noise: NoiseTerms, randbelow: RandBelow) -> list[int]:
    """Return the 41 evaluation words; half of epsilon goes to the counts, half to the loss.

    Raises only for an evaluation that is none, whatever the records: values are cut, not refused.
    """
    if not evaluation.usable:
        raise BadVector(f"an evaluation has {BINS} counts that are not negative")
    counts = [evaluation.positives, evaluation.negatives]
    told = evaluation.rows >= noise.min_rows
    loss = min(max(evaluation.loss_steps, 0), LOSS_CAP * LOSS_UNIT * evaluation.rows)
    values = [loss, *(int(count) for part in counts for count in part)]
    scales = [laplace_scale(LOSS_CAP * LOSS_UNIT, noise.epsilon / 2)]
    scales += [laplace_scale(1, noise.epsilon / 2)] * (2 * BINS)
    noisy = (
        (value if told else 0) + discrete_laplace(scale, randbelow) + NOISE_OFFSET
        for value, scale in zip(values, scales, strict=True)
    )
    return [min(max(value, 0), VALUE_LIMIT - 1) for value in noisy]


def check_sum(
    vector: NDArray[np.uint64],
    layout: Layout,
    survivors: int,
    quantiser: Quantiser,
    *,
    out: NDArray[np.float32] | None = None,
) -> OpenedSum:
    """Check an unmasked sum in every way it can be checked, and open it.

    The range checks bound the sum, not a member: one hostile member can still move a coordinate
    by as much as all survivors together.

    Args:
        vector: uint64[layout.words], the ring sum over the survivors.
        layout: the round's layout.
        survivors: |U3|.
        quantiser: from the terms.
        out: float32[P] for the mean, of an earlier round that nobody looks at any more.

    Raises:
        SumRejected: a canary, a range, padding or the weight is impossible.
    """
    if vector.shape != (layout.words,):
        raise SumRejected(f"the sum has {vector.size} words, {layout.words} were agreed")
    check_canaries(vector, survivors)
    tail = vector[layout.tail]
    if bool((tail >> np.uint64(SUM_BITS)).any()):
        raise SumRejected("a word of the tail is larger than the survivors can reach")
    eighths = int(tail[0])
    floor = survivors if quantiser.bucketed else survivors * WEIGHT_UNIT
    if not floor <= eighths <= survivors * WEIGHT_UNIT:
        raise SumRejected("the sum of weights is outside the range that the survivors can reach")
    weight_sum = eighths / WEIGHT_UNIT
    mean = unpack_mean(
        vector[layout.packed], layout.n_params, survivors, weight_sum, quantiser, out=out
    )
    if not layout.evaluates:
        return OpenedSum(mean, weight_sum, survivors, None, None, None)
    counts = tail[1:].astype(np.int64) - survivors * NOISE_OFFSET
    loss = float(counts[0]) / LOSS_UNIT
    return OpenedSum(
        mean, weight_sum, survivors, loss, counts[1 : 1 + BINS].copy(), counts[1 + BINS :].copy()
    )


def next_model(model: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model that a round makes: added in float64, rounded once to float32[P].

    Args:
        model: float32[P], the one that was sent out.
        mean: float32[P], the mean update of the round.
    """
    following = np.empty_like(model)
    np.add(model, mean, out=following, dtype=np.float64, casting="same_kind")
    return following


def check_canaries(vector: NDArray[np.uint64], survivors: int) -> None:
    """Check that both ends of a sum count the survivors.

    Masks of members that saw different models, sets or configs do not cancel, and what is left
    is uniform: it passes with probability 2^-128.

    Raises:
        SumRejected: a canary is not the number of survivors.
    """
    if vector.size < 2 or int(vector[0]) != survivors or int(vector[-1]) != survivors:
        raise SumRejected(
            "the canaries do not count the survivors: members masked under different views",
            hint="the round is burnt; run it again, by halves if it happens twice",
        )
