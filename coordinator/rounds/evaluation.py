"""Alliance-wide figures from the histograms that came out of the secure sum."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from shared.model.metrics import metrics_from_histograms
from shared.secagg import OpenedSum


def alliance_metrics(opened: OpenedSum) -> dict[str, float]:
    """Return loss, ROC-AUC, PR-AUC, calibration error and rows of the incoming model.

    Every figure carries the members' noise: counts that noise made negative are cut at zero, and
    a figure that cannot be computed from what is left is left out. Empty without an evaluation.
    """
    if opened.positives is None or opened.negatives is None or opened.loss_sum is None:
        return {}
    positives, negatives = np.maximum(opened.positives, 0), np.maximum(opened.negatives, 0)
    measured = asdict(metrics_from_histograms(positives, negatives, max(opened.loss_sum, 0.0)))
    return {name: float(value) for name, value in measured.items() if math.isfinite(value)}
