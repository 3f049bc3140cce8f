"""Alliance-wide figures from the histograms that came out of the secure sum."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from shared.model.metrics import metrics_from_histograms
from shared.secagg import OpenedSum

SIGNIFICANT = 2.0
"""Standard deviations of noise that a class's rows must exceed before a figure is shown."""


def alliance_metrics(opened: OpenedSum, epsilon: float) -> dict[str, float]:
    """Return loss, ROC-AUC, PR-AUC, calibration error and rows of the incoming model.

    Every figure carries the members' noise: counts that noise made negative are cut at zero, and
    a figure that cannot be computed from what is left is left out. Nothing is returned without an
    evaluation, or where the rows of a class do not stand out from the noise: members whose
    hold-out is too small send nothing else.

    Args:
        opened: the round's sum.
        epsilon: of each member's evaluation noise, as the manifest says.
    """
    if opened.positives is None or opened.negatives is None or opened.loss_sum is None:
        return {}
    # Half of epsilon is for the counts: discrete Laplace of scale 2 / epsilon, variance 2 b^2.
    per_class = opened.positives.size * opened.survivors * 2 * (2 / epsilon) ** 2
    floor = SIGNIFICANT * math.sqrt(per_class)
    if min(opened.positives.sum(), opened.negatives.sum()) < floor:
        return {}
    positives, negatives = np.maximum(opened.positives, 0), np.maximum(opened.negatives, 0)
    measured = asdict(metrics_from_histograms(positives, negatives, max(opened.loss_sum, 0.0)))
    return {name: float(value) for name, value in measured.items() if math.isfinite(value)}
