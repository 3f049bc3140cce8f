"""Risk means what it says, keeps the ranking, and bands promise only what was seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from participant.training.calibration import MIN_ROWS, Calibration, calibrate
from shared.model.metrics import ece


def draw(rows: int, seed: int = 0, rate: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return over-confident scores and labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-2 if rate < 0.5 else 0, 2.0, rows)
    labels = (generator.random(rows) < expit(logits)).astype(np.int8)
    return expit(2.5 * logits + 1).astype(np.float32), labels


@pytest.mark.parametrize(("rows", "method"), [(400, "platt"), (6000, "isotonic")])
def test_risk_is_a_probability_and_keeps_the_ranking(rows: int, method: str) -> None:
    scores, labels = draw(rows)
    fitted = calibrate(scores, labels)
    assert fitted is not None
    assert fitted.method == method
    fresh, truth = draw(5000, seed=9)
    assert ece(truth, fitted.risk(fresh) / 100) < 0.5 * ece(truth, fresh)
    order = np.linspace(0.001, 0.999, 500)
    assert (np.diff(fitted.risk(order)) > 0).all()
    assert fitted.risk(np.array([0.0, 1.0])).min() >= 0
    assert fitted.risk(np.array([0.0, 1.0])).max() <= 100


def test_bands_hold_their_precision_on_the_calibration_records() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(3000) < 0.3).astype(np.int8)
    scores = expit(generator.normal(size=3000) * 0.8 + 5 * labels - 3)
    fitted = calibrate(scores, labels)
    assert fitted is not None
    assert fitted.auto is not None
    assert fitted.notice is not None
    risk = fitted.risk(scores)
    for limit, precision in ((fitted.auto, 0.99), (fitted.notice, 0.90)):
        inside = risk >= limit.risk
        assert labels[inside].mean() == pytest.approx(limit.precision)
        assert limit.precision >= precision
        assert limit.rows == inside.sum()
        assert limit.precision_low < limit.precision
    bands = np.array(fitted.bands(risk))
    assert set(bands) == {"auto", "notice", "triage"}
    assert risk[bands == "auto"].min() >= risk[bands == "notice"].max()


def test_a_few_lucky_records_promise_nothing() -> None:
    labels = np.array([1] * 9 + [0] * 60, dtype=np.int8)
    scores = np.linspace(0.9, 0.1, 69)
    fitted = calibrate(scores, labels)
    assert fitted is not None
    # Nine records without a mistake cannot show a precision of .90, let alone .99.
    assert fitted.auto is None
    assert fitted.notice is not None
    assert fitted.notice.rows >= 10


def test_too_few_records_or_one_class_tell_nothing() -> None:
    assert calibrate(np.full(50, 0.3), np.zeros(50, dtype=np.int8)) is None
    assert calibrate(np.empty(0), np.empty(0, dtype=np.int8)) is None
    few = np.arange(MIN_ROWS - 1)
    assert calibrate(few / MIN_ROWS, (few % 2).astype(np.int8)) is None


def test_a_score_that_ranks_the_wrong_way_is_not_turned_over() -> None:
    scores, labels = draw(400)
    fitted = calibrate(1 - scores, labels)
    assert fitted is not None
    risk = fitted.risk(np.array([0.1, 0.9]))
    assert risk[1] >= risk[0]


@pytest.mark.parametrize("rows", [400, 6000])
def test_json_and_back(rows: int) -> None:
    fitted = calibrate(*draw(rows))
    assert fitted is not None
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
