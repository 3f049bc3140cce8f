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
"""Self-service removal keeps to this (docs: DOMAIN)."""

NOTICE_PRECISION = 0.90
"""Share of notices that a privileged reporter must see accepted (docs: DOMAIN)."""

ISOTONIC_ROWS, ISOTONIC_POSITIVES = 1000, 100

_LOGIT_LIMIT = 30.0


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
        method: ``platt``, ``isotonic``, or ``none`` where a class was missing.
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

    def risk(self, logits: NDArray[np.floating[Any]]) -> F64:
        """Return float64[n] risk, 0 to 100, strictly rising with the logit."""
        return 100.0 * expit(self._map(np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)))

    def _map(self, logits: NDArray[np.floating[Any]]) -> F64:
        values = np.asarray(logits, dtype=np.float64)
        if self.method == "platt":
            return self.x[0] * values + self.x[1]
        if self.method == "isotonic":
            x, y = np.array(self.x), np.array(self.y)
            # Beyond the outermost knots the line goes on at slope 1: ranks survive there too.
            return (
                np.interp(values, x, y)
                + np.minimum(values - x[0], 0)
                + np.maximum(values - x[-1], 0)
            )
        return values

    def bands(self, risk: F64) -> list[Band]:
        """Return the action band of each risk."""
        auto = self.auto.risk if self.auto else np.inf
        notice = self.notice.risk if self.notice else np.inf
        return [
            "auto" if value >= auto else "notice" if value >= notice else "triage" for value in risk
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Read what :meth:`to_json` returned.

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


def calibrate(logits: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> Calibration:
    """Fit a calibration and its bands on the calibration part.

    Args:
        logits: float[n], the model's scores of records that did not train it.
        labels: int8[n].

    Returns:
        The calibration; with a single class the plain sigmoid and no bands, because nothing
        can be shown.
    """
    scores = np.clip(np.asarray(logits, dtype=np.float64), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    positives = int(labels.sum())
    if positives == 0 or positives == labels.size:
        return Calibration("none")
    if labels.size >= ISOTONIC_ROWS and positives >= ISOTONIC_POSITIVES:
        bare = _isotonic(scores, labels)
    else:
        bare = Calibration("platt", _platt(scores, labels))
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
