"""The evaluation: one hold-out row moves its own count and its own loss, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from participant.training.inference import evaluate_histograms, logits_of, steady_logits
from shared.model.layout import ModelSpec
from shared.privacy.keystream import Keystream
from shared.secagg.tail import LOSS_CAP, LOSS_UNIT

SPEC = ModelSpec(hash_bits=10)
LINEAR = ModelSpec.compact(10)
MOST = LOSS_CAP * LOSS_UNIT
LIMIT = float(np.finfo(np.float32).max)


class Fixed(Keystream):
    """Dither that is given, a value a row."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def unit(self, count: int) -> np.ndarray:
        assert count == self._values.size
        return self._values


def features(rows: int, spec: ModelSpec, seed: int = 0) -> csr_matrix:
    generator = np.random.default_rng(seed)
    dense = generator.uniform(0, 2, (rows, spec.rows)) * (generator.random((rows, spec.rows)) < 0.1)
    return csr_matrix(dense.astype(np.float32))


def model(spec: ModelSpec, scale: float, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, scale, spec.n_params)
    return np.clip(values, -LIMIT, LIMIT).astype(np.float32)


def without(row: int, *columns: np.ndarray | csr_matrix) -> list[np.ndarray | csr_matrix]:
    keep = np.arange(columns[0].shape[0]) != row
    return [column[keep] for column in columns]


@pytest.mark.parametrize("spec", [SPEC, LINEAR])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 1e4, 1e38])
def test_one_row_moves_one_count_and_at_most_the_capped_loss(spec, scale) -> None:
    rows = 90
    matrix, labels = features(rows, spec), (np.arange(rows) % 3 == 0).astype(np.int8)
    vector, dither = model(spec, scale), np.random.default_rng(1).random(rows)
    loss, *counts = evaluate_histograms(spec, vector, (matrix, labels), Fixed(dither))
    assert isinstance(loss, int)
    assert sum(int(part.sum()) for part in counts) == rows
    for row in range(rows):
        less, kept, noise = without(row, matrix, labels, dither)
        other, *fewer = evaluate_histograms(spec, vector, (less, kept), Fixed(noise))
        assert 0 <= loss - other <= MOST
        moved = np.concatenate(counts) - np.concatenate(fewer)
        assert sorted(moved)[-2:] == [0, 1]
        assert moved.min() == 0


def test_a_row_with_two_tokens_that_cancel_at_infinity_fails_nothing() -> None:
    dense = np.zeros((3, LINEAR.rows), np.float32)
    dense[0, [5, 6]], dense[1, 5], dense[2, 6] = 1.5, 1.5, 1.5
    vector = np.zeros(LINEAR.n_params, np.float32)
    vector[[5, 6]] = 3.4e38, -3.4e38
    assert steady_logits(LINEAR, vector, csr_matrix(dense)).tolist() == [0.0, 30.0, -30.0]
    loss, positives, negatives = evaluate_histograms(
        LINEAR, vector, (csr_matrix(dense), np.ones(3, np.int8)), Fixed(np.zeros(3))
    )
    assert (loss, positives.sum(), negatives.sum()) == (11 + 0 + MOST, 3, 0)


@pytest.mark.parametrize("spec", [SPEC, ModelSpec(hash_bits=10, embed_dim=5, hidden=7), LINEAR])
def test_no_row_moves_the_logit_of_another_by_a_single_bit(spec) -> None:
    matrix, vector = features(260, spec), model(spec, 0.2)
    whole = steady_logits(spec, vector, matrix)
    np.testing.assert_allclose(whole, logits_of(spec, vector, matrix), rtol=1e-3, atol=1e-4)
    for rows in range(1, 260, 7):
        np.testing.assert_array_equal(steady_logits(spec, vector, matrix[:rows]), whole[:rows])
        part = steady_logits(spec, vector, matrix[rows:])
        np.testing.assert_array_equal(part, whole[rows:])


def test_small_losses_are_not_rounded_away() -> None:
    rows = 20_000
    matrix, labels = csr_matrix((rows, LINEAR.rows), dtype=np.float32), np.zeros(rows, np.int8)
    vector = np.zeros(LINEAR.n_params, np.float32)
    vector[-1] = -4.6
    loss, _, _ = evaluate_histograms(LINEAR, vector, (matrix, labels))
    assert loss / LOSS_UNIT == pytest.approx(rows * np.log1p(np.exp(-4.6)), rel=0.15)
