"""From the model's score to a risk of 0 to 100 that means what it says, and to action bands.

Platt scaling with his smoothed targets (J. Platt, "Probabilistic outputs for support vector
machines", 1999) by default; isotonic regression, joined by straight lines so that it still
ranks, where there are enough records for it (Niculescu-Mizil & Caruana, ICML 2005: about 1,000).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from shared.model.metrics import wilson_interval

F64 = NDArray[np.float64]
Band = Literal["auto", "notice", "triage"]

AUTO_PRECISION = 0.99
"""Self-service removal keeps to this."""

NOTICE_PRECISION = 0.90
"""Share of notices that a privileged reporter must see accepted."""

ISOTONIC_ROWS, ISOTONIC_POSITIVES = 1000, 100

MIN_ROWS, MIN_CLASS = 20, 3
"""Below these a fitted slope says more about the draw than about the model."""

_SMALLEST = 1e-7
"""Scores are float32: nearer to 0 or 1 they are only rounding."""


@dataclass(frozen=True, slots=True)
class BandLimit:
    """From which risk on a band begins, and what the calibration records say about it.

    Attributes:
        risk: lowest risk of the band, 0 to 100.
        precision: share of positives at or above it, on the calibration records.
        precision_low: lower end of its 95 % Wilson interval.
        rows: calibration records at or above it.
        share: the same as a share of all calibration records: the volume to expect.
    """

    risk: float
    precision: float
    precision_low: float
    rows: int
    share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from logit to risk, with its bands.

    Attributes:
        method: ``platt``, ``isotonic``, or ``none``: the score as it is, without bands.
        x: ascending logits (isotonic), or slope and offset (platt), or empty.
        y: logits of the calibrated probability at ``x`` (isotonic), else empty.
        auto: band of automatic action, None where its precision cannot be shown.
        notice: band of drafted notices, likewise.
    """

    method: Literal["none", "platt", "isotonic"]
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    auto: BandLimit | None = None
    notice: BandLimit | None = None

    def risk(self, scores: NDArray[np.floating[Any]]) -> F64:
        """Return float64[n] risk, 0 to 100, rising with the score (float[n], 0 to 1)."""
        return np.asarray(100.0 * expit(self._map(to_logits(scores))))

    def _map(self, values: F64) -> F64:
        if self.method == "platt":
            return self.x[0] * values + self.x[1]
        if self.method == "isotonic":
            x, y = np.array(self.x), np.array(self.y)
            # Beyond the outermost knots the line goes on at slope 1: ranks survive there too.
            beyond = np.minimum(values - x[0], 0) + np.maximum(values - x[-1], 0)
            return np.asarray(np.interp(values, x, y) + beyond)
        return values

    def bands(self, risk: F64) -> list[Band]:
        """Return the action band of each risk."""
        auto = self.auto.risk if self.auto else np.inf
        notice = self.notice.risk if self.notice else np.inf
        return [
            "auto" if value >= auto else "notice" if value >= notice else "triage" for value in risk
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Calibration:
        """Read what :meth:`to_dict` returned.

        Raises:
            KeyError, TypeError: the data is not a calibration.
        """
        auto, notice = data["auto"], data["notice"]
        return cls(
            data["method"],
            tuple(data["x"]),
            tuple(data["y"]),
            BandLimit(**auto) if auto else None,
            BandLimit(**notice) if notice else None,
        )


def to_logits(scores: NDArray[np.floating[Any]]) -> F64:
    """Return float64[n] log-odds of scores between 0 and 1, kept finite."""
    p = np.clip(np.asarray(scores, dtype=np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(p) - np.log1p(-p))


def calibrate(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> Calibration | None:
    """Fit a calibration and its bands on the calibration part.

    Args:
        scores: float[n], the model's probabilities for records that did not train it.
        labels: int8[n].

    Returns:
        The calibration, or None if the records cannot tell: fewer than :data:`MIN_ROWS`, or a
        class with fewer than :data:`MIN_CLASS`.
    """
    logits = to_logits(scores)
    positives = int(labels.sum())
    if labels.size < MIN_ROWS or min(positives, labels.size - positives) < MIN_CLASS:
        return None
    if labels.size >= ISOTONIC_ROWS and positives >= ISOTONIC_POSITIVES:
        bare = _isotonic(logits, labels)
    else:
        bare = Calibration("platt", _platt(logits, labels))
    risk = bare.risk(scores)
    return Calibration(
        bare.method,
        bare.x,
        bare.y,
        auto=_limit(risk, labels, AUTO_PRECISION),
        notice=_limit(risk, labels, NOTICE_PRECISION),
    )


def _platt(scores: F64, labels: NDArray[np.int8]) -> tuple[float, float]:
    positives = int(labels.sum())
    high = (positives + 1) / (positives + 2)
    low = 1 / (labels.size - positives + 2)
    target = np.where(labels == 1, high, low)

    def loss(line: F64) -> tuple[float, F64]:
        z = np.exp(line[0]) * scores + line[1]
        error = expit(z) - target
        gradient = np.array([np.mean(error * scores) * np.exp(line[0]), np.mean(error)])
        return float(np.mean(np.logaddexp(0, z) - target * z)), gradient

    # The slope is exp(a): a score that ranks the wrong way round must not be turned over here.
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-5, 5), (-60, 60)])
    return float(np.exp(found.x[0])), float(found.x[1])


def _isotonic(scores: F64, labels: NDArray[np.int8]) -> Calibration:
    fitted = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4).fit_transform(scores, labels)
    levels, block = np.unique(fitted, return_inverse=True)
    centres = np.bincount(block, weights=scores) / np.bincount(block)
    logit = np.log(levels) - np.log1p(-levels)
    if levels.size < 2:
        return Calibration("platt", _platt(scores, labels))
    return Calibration("isotonic", tuple(centres.tolist()), tuple(logit.tolist()))


def _limit(risk: F64, labels: NDArray[np.int8], precision: float) -> BandLimit | None:
    """Return the lowest risk at which the precision is reached, or None.

    At least ``1 / (1 - precision)`` records must lie above it: with fewer, not one mistake would
    fit, and having seen none shows nothing.
    """
    order = np.argsort(-risk, kind="stable")
    ordered = risk[order]
    hits = np.cumsum(labels[order])
    rows = np.arange(1, risk.size + 1)
    last_of_tie = np.append(np.diff(ordered) != 0, True)
    enough = rows >= round(1 / (1 - precision))
    good = np.flatnonzero(last_of_tie & enough & (hits >= precision * rows))
    if good.size == 0:
        return None
    at = int(good[-1])
    count, right = int(rows[at]), int(hits[at])
    low = wilson_interval(right, count)[0]
    return BandLimit(float(ordered[at]), right / count, low, count, count / risk.size)
