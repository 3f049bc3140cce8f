"""The local baseline is strong, honest and reproducible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from participant.training.baseline import STRENGTHS, fit_local
from participant.training.inference import logits_of, scores
from participant.training.local import NothingToTrain
from participant.training.split import Split
from shared.model.metrics import pr_auc
from tests.support.model import SPEC, toy_set


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_never_worse_than_logistic_regression_where_it_was_chosen(seed: int) -> None:
    data = toy_set(200, seed=seed)
    model = fit_local(data)
    train, y = data.part("train")
    matrix, labels = data.part("calibration")
    rivals = [
        LogisticRegression(C=strength, max_iter=1000).fit(train, y).decision_function(matrix)
        for strength in STRENGTHS
    ]
    found = pr_auc(labels, scores(SPEC, model.vector, matrix))
    assert found == pytest.approx(model.selection_score)
    assert found >= max(pr_auc(labels, rival) for rival in rivals) - 0.01
    assert model.selection_score >= model.logistic_score


def test_the_hold_out_is_not_looked_at() -> None:
    data = toy_set(200)
    labels = data.labels.copy()
    labels[data.split.holdout] = 1 - labels[data.split.holdout]
    np.testing.assert_array_equal(
        fit_local(data).vector, fit_local(replace(data, labels=labels)).vector
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_class_gives_a_model_all_the_same(share: float) -> None:
    data = toy_set(60, positive=share)
    model = fit_local(data)
    assert model.selected_on == "train"
    logits = logits_of(SPEC, model.vector, data.matrix)
    assert (np.sign(logits) == (1 if share else -1)).all()


def test_nothing_to_train() -> None:
    nothing = np.empty(0, dtype=np.int64)
    with pytest.raises(NothingToTrain):
        fit_local(replace(toy_set(), split=Split(nothing, nothing, nothing)))
