"""Metrics against scikit-learn, and from histograms against the exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from shared.model import metrics


def draw(seed: int, rows: int = 400, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(rows) < 0.15).astype(np.int8)
    logits = generator.normal(size=rows) + 1.5 * labels - 2
    return labels, np.round(logits, 0) if ties else logits


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_areas_agree_with_scikit_learn(seed: int, ties: bool) -> None:
    labels, scores = draw(seed, ties=ties)
    assert metrics.roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    expected = average_precision_score(labels, scores)
    assert metrics.pr_auc(labels, scores) == pytest.approx(expected)


def test_one_class_or_nothing_is_not_a_number() -> None:
    assert math.isnan(metrics.roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(metrics.roc_auc([], []))
    assert math.isnan(metrics.pr_auc([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.recall_at_precision([0], [0.5], 0.9))
    assert math.isnan(metrics.precision_at_k([], [], 10))
    with pytest.raises(ValueError):
        metrics.roc_auc([1, 0], [0.5])


def test_precision_at_k_shares_ties() -> None:
    assert metrics.precision_at_k([1, 0, 1, 0], [4, 3, 2, 1], 2) == 0.5
    assert metrics.precision_at_k([1, 0, 0, 0], [1, 1, 1, 1], 2) == 0.25
    assert metrics.precision_at_k([1, 0], [1, 0], 100) == 0.5


def test_recall_at_precision_takes_the_best_threshold() -> None:
    labels, scores = [1, 0, 1, 1, 0], [5, 4, 3, 2, 1]
    assert metrics.recall_at_precision(labels, scores, 0.7) == 1.0
    assert metrics.recall_at_precision(labels, scores, 0.9) == pytest.approx(1 / 3)
    assert metrics.recall_at_precision([0, 1], [2, 1], 0.9) == 0.0


def test_calibration_error_of_true_and_of_false_probabilities() -> None:
    generator = np.random.default_rng(0)
    p = generator.beta(1, 8, 40_000)
    labels = (generator.random(p.size) < p).astype(np.int8)
    assert metrics.ece(labels, p) < 0.01
    assert metrics.ece(labels, np.minimum(p + 0.1, 1)) == pytest.approx(0.1, abs=0.01)


def test_wilson_against_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263 and 0/20.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


def test_bootstrap_sees_a_difference_and_none() -> None:
    labels, scores = draw(1, rows=800)
    noise = np.random.default_rng(2).normal(size=labels.size)
    better = metrics.bootstrap_difference(labels, scores, noise, metrics.pr_auc, seed=3)
    assert np.quantile(better, 0.025) > 0
    same = metrics.bootstrap_difference(labels, scores, scores, metrics.pr_auc, seed=3)
    assert not same.any()
    low, high = metrics.bootstrap_interval(labels, scores, metrics.roc_auc, seed=3)
    assert low < metrics.roc_auc(labels, scores) < high
    assert metrics.bootstrap_difference([1], [1], [0], metrics.roc_auc, seed=0).size == 0


def test_histograms_of_all_members_give_the_metrics_of_the_union() -> None:
    members = [draw(seed) for seed in range(4)]
    pos = sum(metrics.histogram(s[y == 1]) for y, s in members)
    neg = sum(metrics.histogram(s[y == 0]) for y, s in members)
    labels = np.concatenate([y for y, _ in members])
    scores = np.concatenate([s for _, s in members])
    loss = metrics.log_loss(labels, 1 / (1 + np.exp(-scores)))
    found = metrics.metrics_from_histograms(pos, neg, loss * labels.size)
    assert (found.rows, found.positives) == (labels.size, labels.sum())
    assert found.loss == pytest.approx(loss)
    assert found.roc_auc == pytest.approx(roc_auc_score(labels, scores), abs=0.01)
    assert found.pr_auc == pytest.approx(average_precision_score(labels, scores), abs=0.05)


def test_empty_and_broken_histograms() -> None:
    nothing = np.zeros(20, dtype=int)
    assert math.isnan(metrics.metrics_from_histograms(nothing, nothing, 0.0).roc_auc)
    with pytest.raises(ValueError):
        metrics.metrics_from_histograms([1] * 19, [1] * 20)
    with pytest.raises(ValueError):
        metrics.metrics_from_histograms([-1, *[0] * 19], [1] * 20)
