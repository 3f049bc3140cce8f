"""Quality of a ranking and of its probabilities, exactly and from summed histograms.

numpy alone, because the coordinator computes alliance-level figures from secure sums with it.
Curves follow T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27
(2006): tied scores are one step of the curve. Figures that a sample cannot give are NaN, not 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
Metric = Callable[[NDArray[np.int8], F64], float]

HISTOGRAM_BINS = 20
HISTOGRAM_EDGES: F64 = np.linspace(-6.0, 6.0, HISTOGRAM_BINS + 1)[1:-1]
"""Inner edges of the score histogram, in logits: counterfeits are rare, so equal steps in
probability would put most records into the first bin."""

_Z95 = 1.959963984540054


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int8], F64]:
    y = np.asarray(labels, dtype=np.int8)
    s = np.asarray(scores, dtype=np.float64)
    if y.shape != s.shape or y.ndim != 1:
        raise ValueError("labels and scores must be two lists of one length")
    return y, s


def _steps(labels: NDArray[np.int8], scores: F64) -> tuple[F64, F64]:
    """Return true and false positives at each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, ordered.size > 0))
    hits = np.cumsum(labels[order], dtype=np.float64)[last]
    return hits, last + 1 - hits


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve; NaN if only one class is present."""
    y, s = _checked(labels, scores)
    hits, misses = _steps(y, s)
    if hits.size == 0 or hits[-1] == 0 or misses[-1] == 0:
        return float("nan")
    tpr = np.concatenate(([0.0], hits / hits[-1]))
    fpr = np.concatenate(([0.0], misses / misses[-1]))
    return float(np.trapezoid(tpr, fpr))


def pr_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return average precision (area under precision-recall by steps); NaN without positives."""
    y, s = _checked(labels, scores)
    hits, misses = _steps(y, s)
    if hits.size == 0 or hits[-1] == 0:
        return float("nan")
    gained = np.diff(np.concatenate(([0.0], hits))) / hits[-1]
    return float(np.sum(gained * hits / (hits + misses)))


def precision_at_k(labels: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Return the share of positives among the ``k`` highest scores.

    Ties at the edge count by their own share of positives, so the order of the input does not
    matter. With fewer than ``k`` records all of them are taken; NaN if there are none.
    """
    y, s = _checked(labels, scores)
    k = min(k, y.size)
    if k <= 0:
        return float("nan")
    edge = np.partition(s, y.size - k)[y.size - k]
    above, tied = s > edge, s == edge
    free = k - int(above.sum())
    return float((y[above].sum() + free * y[tied].mean()) / k)


def recall_at_precision(labels: ArrayLike, scores: ArrayLike, precision: float) -> float:
    """Return the highest recall at a threshold with at least ``precision``; NaN if no positives."""
    y, s = _checked(labels, scores)
    hits, misses = _steps(y, s)
    if hits.size == 0 or hits[-1] == 0:
        return float("nan")
    good = hits / (hits + misses) >= precision
    return float(hits[good].max() / hits[-1]) if good.any() else 0.0


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats, with probabilities kept off 0 and 1."""
    y, p = _checked(labels, probabilities)
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p)))) if y.size else float("nan")


def ece(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal count.

    Equal counts, not equal widths: with few positives nearly all probabilities are small
    (Nixon et al., "Measuring calibration in deep learning", 2019, adaptive calibration error).
    """
    y, p = _checked(labels, probabilities)
    if y.size == 0:
        return float("nan")
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, y.size))
    gaps = [abs(float(y[part].mean()) - float(p[part].mean())) * part.size for part in parts]
    return float(sum(gaps) / y.size)


def wilson_interval(successes: int, trials: int, z: float = _Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, 1927); (0, 1) of no trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap_difference(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    metric: Metric,
    *,
    seed: int,
    samples: int = 400,
) -> F64:
    """Return paired bootstrap differences ``metric(first) - metric(second)``.

    Each sample draws the same records for both. Samples in which the metric is undefined (one
    class only) are left out, so the result may be shorter than ``samples``, even empty.
    """
    y, a = _checked(labels, first)
    _, b = _checked(labels, second)
    generator = np.random.Generator(np.random.Philox(seed))
    found = np.empty(samples)
    for k in range(samples):
        pick = generator.integers(0, y.size, y.size)
        found[k] = metric(y[pick], a[pick]) - metric(y[pick], b[pick])
    return found[np.isfinite(found)]


def bootstrap_interval(
    labels: ArrayLike, scores: ArrayLike, metric: Metric, *, seed: int, samples: int = 400
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % percentiles of a metric; (NaN, NaN) if it is undefined."""
    y, s = _checked(labels, scores)
    generator = np.random.Generator(np.random.Philox(seed))
    values = np.empty(samples)
    for k in range(samples):
        pick = generator.integers(0, y.size, y.size) if y.size else np.empty(0, dtype=np.int64)
        values[k] = metric(y[pick], s[pick])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class HistogramMetrics:
    """What summed histograms tell; figures that one class cannot give are NaN."""

    rows: int
    positives: int
    loss: float
    roc_auc: float
    pr_auc: float
    ece: float


def histogram(logits: ArrayLike) -> NDArray[np.int64]:
    """Return int64[20], the number of logits in each bin of :data:`HISTOGRAM_EDGES`."""
    bins = np.searchsorted(HISTOGRAM_EDGES, np.asarray(logits, dtype=np.float64), side="right")
    return np.bincount(bins, minlength=HISTOGRAM_BINS).astype(np.int64)


def metrics_from_histograms(
    pos: ArrayLike, neg: ArrayLike, loss_sum: float = float("nan")
) -> HistogramMetrics:
    """Return metrics of summed score histograms.

    Positives and negatives of one bin are taken as evenly mixed, for the precision-recall curve
    too (Davis & Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006);
    the probability of a bin is taken at its middle.

    Args:
        pos: counts of positives in each of the 20 bins, ascending score.
        neg: counts of negatives.
        loss_sum: summed log-loss over the same records, in nats.

    Raises:
        ValueError: the histograms do not have 20 bins or have negative counts.
    """
    p = np.asarray(pos, dtype=np.float64)
    n = np.asarray(neg, dtype=np.float64)
    if p.shape != (HISTOGRAM_BINS,) or n.shape != p.shape or min(p.min(), n.min()) < 0:
        raise ValueError(f"a score histogram has {HISTOGRAM_BINS} counts of at least 0")
    positives, negatives = float(p.sum()), float(n.sum())
    total = positives + negatives
    hits, misses = np.cumsum(p[::-1]), np.cumsum(n[::-1])
    nan = float("nan")
    both = positives > 0 and negatives > 0
    tpr, fpr = np.append(0.0, hits / max(positives, 1)), np.append(0.0, misses / max(negatives, 1))
    centres = np.linspace(-6.0, 6.0, HISTOGRAM_BINS + 1)[:-1] + 6.0 / HISTOGRAM_BINS
    gaps = np.abs(p - (p + n) / (1.0 + np.exp(-centres)))
    return HistogramMetrics(
        rows=round(total),
        positives=round(positives),
        loss=loss_sum / total if total else nan,
        roc_auc=float(np.trapezoid(tpr, fpr)) if both else nan,
        pr_auc=_binned_pr_auc(p[::-1], n[::-1]) if positives else nan,
        ece=float(gaps.sum() / total) if total else nan,
    )


_STEPS_IN_BIN = 64


def _binned_pr_auc(pos: F64, neg: F64) -> float:
    """Return the area under precision-recall of bins from the highest score down."""
    inside = (np.arange(_STEPS_IN_BIN) + 0.5) / _STEPS_IN_BIN
    hits = (np.cumsum(pos) - pos)[:, None] + pos[:, None] * inside
    misses = (np.cumsum(neg) - neg)[:, None] + neg[:, None] * inside
    precision = np.divide(hits, hits + misses, out=np.zeros_like(hits), where=hits > 0)
    return float(np.sum(precision.mean(axis=1) * pos) / pos.sum())
