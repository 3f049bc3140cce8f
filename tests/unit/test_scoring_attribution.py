"""Shares of the logit add up, and phrases name the words that did it."""

from __future__ import annotations

import numpy as np
import pytest

from participant.scoring.attribution import attribute, beside_peers, token_shares
from participant.training.inference import logits_of
from participant.training.matrix import to_csr
from shared.model.features.build import build_features
from shared.model.features.hashing import token_hash
from shared.model.layout import ModelSpec
from tests.support.model import NOW, fake, listing, records

SPEC = ModelSpec(hash_bits=16, embed_dim=4, hidden=6)


def traced(*rows: dict):
    frame = records("listings", *rows)
    return build_features(frame, "listings", hash_bits=16, as_of=NOW, trace=True)


def place(token: str) -> int:
    return token_hash(token) >> 16


def test_shares_sum_to_the_logit() -> None:
    vector = np.random.default_rng(0).normal(0, 0.2, SPEC.n_params).astype(np.float32)
    batch = traced(listing(0), fake(1), listing(2, title=None))
    parts = SPEC.slices
    matrix = to_csr(batch, SPEC.rows)
    embedding = vector[parts.embedding].reshape(SPEC.rows, SPEC.embed_dim)
    first = vector[parts.w1].reshape(SPEC.embed_dim, SPEC.hidden)
    active = (matrix @ embedding) @ first + vector[parts.b1] > 0
    constant = (active * vector[parts.b1]) @ vector[parts.w2] + vector[parts.bias]
    logits = logits_of(SPEC, vector, matrix)
    sums = np.add.reduceat(token_shares(SPEC, vector, batch), batch.offsets[:-1])
    np.testing.assert_allclose(sums + constant, logits, rtol=1e-4, atol=1e-4)
    found = attribute(SPEC, vector, batch)
    np.testing.assert_allclose(found.values.sum(axis=1), sums, rtol=1e-6)


def test_a_weight_on_one_token_is_found_under_its_name() -> None:
    vector = np.zeros(SPEC.n_params, dtype=np.float32)
    vector[SPEC.slices.wide][place("ship_from=hk")] = 2.0
    found = attribute(SPEC, vector, traced(listing(0, ship_from="HK"), listing(1, ship_from="DE")))
    column = found.values[:, found.features.index("ship_from")]
    assert column == pytest.approx([2.0, 0.0])


def test_the_phrase_is_the_words_with_the_weight() -> None:
    batch = traced(fake(0), listing(1))
    vector = np.zeros(SPEC.n_params, dtype=np.float32)
    trace = batch.trace
    assert trace is not None
    codes = trace.texts["title"].codes
    for index, (start, length) in enumerate(zip(trace.starts, trace.lengths, strict=True)):
        if length and trace.names[trace.groups[index]] == "title:word":
            text = codes[start : start + length].tobytes().decode("utf-32-le")
            if text == "1:1":
                vector[SPEC.slices.wide][batch.ids[index]] = 3.0
    assert attribute(SPEC, vector, batch).phrases["title"] == ["1:1", ""]


def test_what_everybody_has_is_no_reason() -> None:
    vector = np.zeros(SPEC.n_params, dtype=np.float32)
    vector[SPEC.slices.wide][place("category=bags")] = 2.0
    found = attribute(SPEC, vector, traced(*(listing(k) for k in range(60))))
    column = found.features.index("category")
    assert found.values[:, column] == pytest.approx(np.full(60, 2.0))
    assert beside_peers(found).values[:, column] == pytest.approx(np.zeros(60))


def test_a_batch_without_a_trace_cannot_be_explained() -> None:
    frame = records("listings", listing())
    batch = build_features(frame, "listings", hash_bits=16, as_of=NOW)
    with pytest.raises(ValueError):
        attribute(SPEC, np.zeros(SPEC.n_params, dtype=np.float32), batch)
