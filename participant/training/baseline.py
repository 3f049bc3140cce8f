"""The best model a member can make alone: the bar that the alliance's model has to clear.

A weak baseline flatters federation. So the member's own model is chosen from two families, the
same network at several rates and lengths of training and logistic regression at several
strengths, by its own calibration part; it is never worse there than logistic regression.
Pooled data goes through the same function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from participant.training.dataset import TrainingSet
from participant.training.inference import logits_of
from participant.training.local import NothingToTrain, TrainConfig, training_path
from participant.training.threads import one_blas_thread
from shared.model.layout import init_vector
from shared.model.metrics import log_loss, pr_auc

F32 = NDArray[np.float32]

RATES = (0.1, 0.3, 0.6)
EPOCHS = (2, 4, 8, 16)
STRENGTHS = (0.03, 0.3, 3.0, 30.0)
"""Inverse regularisation of logistic regression."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A member's own model and how it was chosen.

    Attributes:
        vector: float32[n_params], in the layout of the alliance's model.
        family: ``network`` or ``logistic``.
        setting: the chosen rate and epochs, or strength, for people to read.
        selection_score: average precision on the selection part (NaN without positives there).
        logistic_score: that of the best logistic regression.
        selected_on: which part chose: ``calibration``, or ``train`` where that lacks a class.
    """

    vector: F32
    family: str
    setting: str
    selection_score: float
    logistic_score: float
    selected_on: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    vector: F32
    family: str
    setting: str


def trainable(training_set: TrainingSet) -> bool:
    """Tell whether :func:`fit_local` has what it needs; the compact model needs both classes."""
    if training_set.train_rows == 0:
        return False
    return not training_set.spec.linear or min(training_set.class_counts("train")) > 0


def fit_local(training_set: TrainingSet, *, seed: int = 0) -> LocalModel:
    """Train and choose a member's own model.

    Args:
        training_set: the member's records; its hold-out part is not looked at.
        seed: of first values and of the order of records.

    Raises:
        NothingToTrain: the training part is empty.
    """
    if training_set.train_rows == 0:
        raise NothingToTrain(
            "there is no labelled record to train on", hint="import verdicts first"
        )
    both = min(training_set.class_counts("calibration")) > 0
    part = "calibration" if both else "train"
    matrix, labels = training_set.part("calibration" if both else "train")
    best: tuple[tuple[float, float], _Candidate] | None = None
    logistic_best = float("nan")
    for candidate in _candidates(training_set, seed):
        logits = logits_of(training_set.spec, candidate.vector, matrix)
        score = _score(labels, logits, chosen_on_train=not both)
        if candidate.family == "logistic":
            logistic_best = max(score[0], logistic_best) if logistic_best >= 0 else score[0]
        if best is None or score > best[0]:
            best = score, candidate
    if best is None:
        raise NothingToTrain("no model could be trained", hint="check the imported records")
    (selection, _), winner = best
    return LocalModel(winner.vector, winner.family, winner.setting, selection, logistic_best, part)


def _score(labels: NDArray[np.int8], logits: F32, *, chosen_on_train: bool) -> tuple[float, float]:
    """Return a score that is better when larger: average precision, then likelihood."""
    if chosen_on_train:
        # Nothing unseen can choose: prefer the least trained model, the first one offered.
        return 0.0, 0.0
    probability = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -30, 30)))
    return pr_auc(labels, logits), -log_loss(labels, probability)


def _candidates(training_set: TrainingSet, seed: int) -> Iterator[_Candidate]:
    if min(training_set.class_counts("train")) > 0:
        yield from _logistic_candidates(training_set)
    spec = training_set.spec
    if spec.linear:
        return
    start = init_vector(spec, seed)
    for rate in RATES:
        config = TrainConfig(lr=rate, epochs=max(EPOCHS), seed=seed)
        for epoch, vector in training_path(spec, start, training_set, config):
            if epoch in EPOCHS and np.isfinite(vector).all():
                yield _Candidate(vector, "network", f"lr {rate}, {epoch} epochs")


def _logistic_candidates(training_set: TrainingSet) -> Iterator[_Candidate]:
    spec, index = training_set.spec, training_set.split.train
    part = training_set.train_part
    # Seldom used strengths first would win ties on one class; the middle of the range is safest.
    for strength in sorted(STRENGTHS, key=lambda value: abs(np.log(value / 0.3))):
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
        with one_blas_thread():
            model.fit(
                part.matrix,
                training_set.labels[index],
                sample_weight=training_set.confidence[index],
            )
        vector = init_vector(spec, 0)
        wide = vector[spec.slices.wide]
        wide[part.touched] = model.coef_[0].astype(np.float32)
        vector[spec.slices.bias] = np.float32(model.intercept_[0])
        yield _Candidate(vector, "logistic", f"C {strength}")
