"""The network against torch's own layers, and inference against the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from participant.training.inference import evaluate_histograms, logits_of, scores
from participant.training.matrix import to_csr, touched_part
from participant.training.network import HashedNet
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec
from shared.model.metrics import log_loss
from shared.secagg.tail import LOSS_UNIT

SPEC = ModelSpec(hash_bits=10, embed_dim=4, hidden=6)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_model(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.4, SPEC.n_params).astype(np.float32)


def random_batch(rows: int = 12, seed: int = 1) -> FeatureBatch:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 30, rows)
    ids = generator.integers(0, 200, lengths.sum()).astype(np.int32)
    weights = generator.normal(size=ids.size).astype(np.float32)
    return FeatureBatch(ids, weights, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))


class Reference(nn.Module):
    """The same model from torch.nn.EmbeddingBag and torch.nn.Linear."""

    def __init__(self, vector: np.ndarray) -> None:
        super().__init__()
        parts, tensor = SPEC.slices, torch.from_numpy(vector.copy())
        self.wide = nn.EmbeddingBag.from_pretrained(
            tensor[parts.wide].reshape(-1, 1), mode="sum", freeze=False, include_last_offset=True
        )
        self.embedding = nn.EmbeddingBag.from_pretrained(
            tensor[parts.embedding].reshape(SPEC.rows, SPEC.embed_dim),
            mode="sum",
            freeze=False,
            include_last_offset=True,
        )
        self.first = nn.Linear(SPEC.embed_dim, SPEC.hidden)
        self.last = nn.Linear(SPEC.hidden, 1)
        with torch.no_grad():
            first = tensor[parts.w1].reshape(SPEC.embed_dim, SPEC.hidden)
            self.first.weight.copy_(first.T)
            self.first.bias.copy_(tensor[parts.b1])
            self.last.weight.copy_(tensor[parts.w2][None])
            self.last.bias.copy_(tensor[parts.bias])

    def forward(self, batch: FeatureBatch) -> torch.Tensor:
        ids = torch.from_numpy(batch.ids.astype(np.int64))
        offsets, weights = torch.from_numpy(batch.offsets), torch.from_numpy(batch.weights)
        bag = self.embedding(ids, offsets, per_sample_weights=weights)
        wide = self.wide(ids, offsets, per_sample_weights=weights)
        return (wide + self.last(torch.relu(self.first(bag))))[:, 0]


def test_values_and_gradients_are_those_of_embedding_bag() -> None:
    vector, batch = random_model(), random_batch()
    part = touched_part(to_csr(batch, SPEC.rows))
    ours, theirs = HashedNet(SPEC, vector, part.touched), Reference(vector)
    labels = torch.from_numpy((np.arange(batch.rows) % 2).astype(np.float32))
    loss = nn.functional.binary_cross_entropy_with_logits
    a, b = ours(part.matrix), theirs(batch)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    loss(a, labels).backward()
    loss(b, labels).backward()
    wide = theirs.wide.weight.grad[part.touched]
    embedding = theirs.embedding.weight.grad[part.touched]
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(ours.table.grad, torch.hstack([wide, embedding]), **close)
    torch.testing.assert_close(ours.w1.grad, theirs.first.weight.grad.T, **close)
    torch.testing.assert_close(ours.b1.grad, theirs.first.bias.grad, **close)
    torch.testing.assert_close(ours.w2.grad, theirs.last.weight.grad[0], **close)
    torch.testing.assert_close(ours.bias.grad, theirs.last.bias.grad, **close)


def test_inference_without_torch_gives_the_same_logits() -> None:
    vector, batch = random_model(), random_batch()
    matrix = to_csr(batch, SPEC.rows)
    part = touched_part(matrix)
    with torch.no_grad():
        expected = HashedNet(SPEC, vector, part.touched)(part.matrix).numpy()
    np.testing.assert_allclose(logits_of(SPEC, vector, matrix), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores(SPEC, vector, batch), expit(expected), rtol=1e-4)


def test_the_vector_returns_unchanged() -> None:
    vector = random_model()
    part = touched_part(to_csr(random_batch(), SPEC.rows))
    np.testing.assert_array_equal(HashedNet(SPEC, vector, part.touched).flat(vector), vector)


def test_histograms_count_every_record_once() -> None:
    vector, batch = random_model(), random_batch(rows=60)
    matrix = to_csr(batch, SPEC.rows)
    labels = (np.arange(60) % 3 == 0).astype(np.int8)
    loss, pos, neg = evaluate_histograms(SPEC, vector, (matrix, labels))
    assert (pos.sum(), neg.sum()) == (20, 40)
    exact = 60 * log_loss(labels, scores(SPEC, vector, matrix))
    assert abs(loss / LOSS_UNIT - exact) < 60 / LOSS_UNIT


def test_an_empty_hold_out_adds_nothing() -> None:
    matrix = to_csr(random_batch(rows=0), SPEC.rows)
    loss, pos, neg = evaluate_histograms(SPEC, random_model(), (matrix, np.empty(0, np.int8)))
    assert (loss, pos.sum(), neg.sum()) == (0.0, 0, 0)
