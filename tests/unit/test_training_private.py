"""Private steps: gradients as opacus cuts them, a bound that is exact, nothing else let out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from torch.nn.functional import binary_cross_entropy_with_logits

from participant.training import private
from participant.training.dataset import TrainingSet
from participant.training.private import (
    CONSTANT,
    FEATURE_UNIT,
    PrivateConfig,
    WholeRecords,
    noisy_count,
    noisy_gradient,
    private_update,
    residuals,
    sensitivity,
)
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec, UnknownModel, init_vector
from shared.privacy.gaussian import UNIT
from shared.privacy.keystream import Keystream
from shared.privacy.terms import CLIP, PrivacyTerms, plan_privacy

SPEC = ModelSpec.compact(10)
TERMS = plan_privacy(8.0, 1e-5, rounds=1, steps=3)


def records(rows: int = 60, seed: int = 0, length: float = 2.0) -> TrainingSet:
    draws = np.random.default_rng(seed)
    each = 12
    ids = np.concatenate([draws.choice(SPEC.rows, each, replace=False) for _ in range(rows)])
    weights = draws.random((rows, each)) + 0.1
    weights *= length * draws.uniform(0.5, 2, (rows, 1)) / np.linalg.norm(weights, axis=1)[:, None]
    labels = draws.integers(0, 2, rows).astype(np.int8)
    ids = ids.astype(np.int32)
    ids[::each] = np.where(labels == 1, 7, ids[::each])
    batch = FeatureBatch(
        ids, weights.astype(np.float32).ravel(), np.arange(0, ids.size + 1, each, dtype=np.int64)
    )
    return TrainingSet.from_features(SPEC, batch, labels, groups=[f"s{n}" for n in range(rows)])


def no_records() -> TrainingSet:
    batch = FeatureBatch(np.empty(0, np.int32), np.empty(0, np.float32), np.zeros(1, np.int64))
    return TrainingSet.from_features(SPEC, batch, np.empty(0, np.int8), groups=[])


def some_model(seed: int = 1, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(SPEC.rows + 1)


def test_cut_gradients_are_those_of_opacus() -> None:
    whole, weights = WholeRecords.of(records()), some_model()
    bound = sensitivity(0.02)  # a fine grid: rounding must not hide a difference
    residual = residuals(whole, weights, bound, Keystream(bytes(32)))
    dense = np.hstack([whole.matrix.toarray(), np.full((whole.labels.size, 1), 410)])
    ours = residual[:, None] * dense * (CLIP / bound)
    model = GradSampleModule(
        torch.nn.Linear(dense.shape[1], 1, bias=False).double(), loss_reduction="sum"
    )
    inputs = torch.from_numpy(dense / FEATURE_UNIT)
    with torch.no_grad():
        model._module.weight.copy_(torch.from_numpy(weights)[None])
    target = torch.from_numpy(whole.labels.astype(np.float64))
    binary_cross_entropy_with_logits(model(inputs)[:, 0], target, reduction="sum").backward()
    sample = model._module.weight.grad_sample.numpy()[:, 0]
    norms = np.linalg.norm(sample, axis=1, keepdims=True)
    theirs = sample * np.minimum(1, CLIP / norms)
    assert (norms > CLIP).any()
    assert (norms < CLIP).any()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("noise", [0.05, 3.3, 40.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e30])
def test_no_record_moves_the_sum_by_more_than_the_sensitivity(noise: float, scale: float) -> None:
    whole, bound = WholeRecords.of(records(length=5.0)), sensitivity(noise)
    residual = residuals(whole, some_model(scale=scale), bound, Keystream(bytes(32)))
    assert bound / UNIT <= 1 / noise
    moved = [int(r) ** 2 * int(s) for r, s in zip(residual, whole.squares, strict=True)]
    assert max(moved) <= bound**2
    assert max(moved) > 0.2 * bound**2


def test_neighbours_differ_by_one_records_gradient_and_nothing_else(monkeypatch) -> None:
    """Without noise and dither, taking a record away takes exactly its gradient away."""
    monkeypatch.setattr(private, "rounded_gaussian", lambda count, _: np.zeros(count, np.int64))
    monkeypatch.setattr(Keystream, "unit", lambda _self, count: np.full(count, 0.5))
    whole, weights = WholeRecords.of(records()), some_model()
    less = WholeRecords(
        whole.matrix[1:],
        whole.transposed[:, 1:],
        whole.labels[1:],
        whole.confidence[1:],
        whole.squares[1:],
    )
    both = [private.noisy_gradient(one, weights, 3.0, Keystream()) for one in (whole, less)]
    assert 0 < np.linalg.norm(both[0] - both[1]) <= CLIP


def test_sums_of_gradients_are_of_whole_numbers() -> None:
    whole = WholeRecords.of(records())
    assert whole.transposed.dtype == whole.squares.dtype == np.int64
    assert (whole.transposed != whole.matrix.T).nnz == 0


def test_the_constant_and_the_grid_fit() -> None:
    assert round(CONSTANT * FEATURE_UNIT) == 410


def test_an_update_learns_through_its_noise_and_differs_every_time() -> None:
    data, start = records(400), init_vector(SPEC, 0)
    config = PrivateConfig(TERMS, 20.0, 100)
    first, second = (private_update(SPEC, start, data, config) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == start.shape
    assert (first != second).all()
    assert first[7] > 4 * np.std(first[:-1])


@pytest.mark.parametrize("noise", [0.5, 3.3, 20.0])
def test_a_gradient_carries_exactly_the_noise_that_is_charged_for(noise: float) -> None:
    """Of no records a step is the noise; of some, two steps differ by twice its variance."""
    empty, some, weights = WholeRecords.of(no_records()), WholeRecords.of(records()), some_model()
    alone = np.array([noisy_gradient(empty, weights, noise, Keystream()) for _ in range(20)])
    assert alone.std() == pytest.approx(noise * CLIP, rel=0.02)
    assert alone.mean() == pytest.approx(0, abs=5 * noise / alone.size**0.5)
    pairs = np.array([
        noisy_gradient(some, weights, noise, Keystream())
        - noisy_gradient(some, weights, noise, Keystream())
        for _ in range(20)
    ])  # fmt: skip
    assert pairs.std() == pytest.approx(2**0.5 * noise * CLIP, rel=0.04)


def test_records_rounded_before_give_the_same_update() -> None:
    data, start, config = records(), init_vector(SPEC, 0), PrivateConfig(TERMS, 20.0, 100)
    first, second = (
        private_update(SPEC, start, data, config, Keystream(bytes(32)), records=whole)
        for whole in (None, WholeRecords.of(data))
    )
    np.testing.assert_array_equal(first, second)


def test_a_member_without_records_sends_noise() -> None:
    config = PrivateConfig(TERMS, 1.0, 100)
    moved = private_update(SPEC, init_vector(SPEC, 0), no_records(), config)
    assert np.isfinite(moved).all()
    assert np.std(moved) > 0


def test_the_count_is_noisy_and_small_members_count_less() -> None:
    counts = [noisy_count(500, 20.0, Keystream(bytes([n]) * 32)) for n in range(200)]
    assert np.mean(counts) == pytest.approx(500, abs=6)
    assert np.std(counts) == pytest.approx(20, rel=0.2)
    small, full = (
        private_update(SPEC, init_vector(SPEC, 0), records(60), config, Keystream(bytes(32)))
        for config in (PrivateConfig(TERMS, 1.0, 1000), PrivateConfig(TERMS, 1.0, 100))
    )
    np.testing.assert_allclose(small * 10, full, rtol=0.2, atol=0.02)


def test_another_model_is_refused() -> None:
    spec = ModelSpec(hash_bits=10)
    with pytest.raises(UnknownModel):
        private_update(spec, init_vector(spec, 0), records(), PrivateConfig(TERMS, 1.0, 100))


def test_terms_that_are_none_are_not_private() -> None:
    assert PrivacyTerms().multipliers() == (0.0,)
