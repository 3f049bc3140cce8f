"""The flat vector: sizes, first values, canonical encoding."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from shared.errors import MalformedMessage
from shared.limits import MAX_MODEL_WEIGHT
from shared.model.layout import (
    ModelOutOfBounds,
    ModelSpec,
    UnknownModel,
    check_vector,
    check_weights,
    feature_space_hash,
    init_vector,
)


def test_parts_cover_the_vector_without_gaps() -> None:
    spec = ModelSpec(hash_bits=12, embed_dim=3, hidden=5)
    slices = [
        getattr(spec.slices, name) for name in ("wide", "embedding", "w1", "b1", "w2", "bias")
    ]
    assert slices[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(slices))
    assert slices[-1].stop == spec.n_params == 4096 * 4 + 15 + 5 + 5 + 1


def test_the_first_model_knows_nothing_and_is_the_same_everywhere() -> None:
    spec = ModelSpec(hash_bits=12)
    first = init_vector(spec, 7)
    assert first.dtype == np.float32
    assert not first[spec.slices.wide].any()
    assert not first[spec.slices.w2].any()
    assert first[spec.slices.embedding].std() == pytest.approx(0.05, rel=0.02)
    np.testing.assert_array_equal(first, init_vector(spec, 7))
    assert (first != init_vector(spec, 8)).any()
    # Recorded with numpy 2.4: another stream would start runs from another model.
    assert first[spec.slices.embedding][:3] == pytest.approx(
        [-0.02511868, 0.02534227, 0.10096743], abs=1e-7
    )


@pytest.mark.parametrize("spec", [ModelSpec(), ModelSpec(hash_bits=18, embed_dim=4, hidden=2)])
def test_encoding_returns(spec: ModelSpec) -> None:
    assert ModelSpec.decode(spec.encode()) == spec


def test_a_changed_encoding_is_refused_or_another_model() -> None:
    data = ModelSpec().encode()
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1
        try:
            assert ModelSpec.decode(bytes(broken)) != ModelSpec()
        except (MalformedMessage, UnknownModel):
            continue
    with pytest.raises(MalformedMessage):
        ModelSpec.decode(data + b"\0")


@pytest.mark.parametrize(
    "fields", [{"kind": "resnet"}, {"hash_bits": 40}, {"embed_dim": 0}, {"hidden": 100_000}]
)
def test_models_that_cannot_run_are_refused(fields: dict) -> None:
    with pytest.raises(UnknownModel):
        ModelSpec(**fields)


@pytest.mark.parametrize("change", ["length", "type", "nan"])
def test_vectors_that_do_not_fit_are_refused(change: str) -> None:
    spec = ModelSpec(hash_bits=10)
    vector = init_vector(spec, 0)
    if change == "nan":
        vector[3] = np.nan
    broken = {"length": vector[1:], "type": vector.astype(np.float64), "nan": vector}[change]
    with pytest.raises(UnknownModel):
        check_vector(spec, broken)


def test_another_size_is_another_space() -> None:
    assert feature_space_hash(ModelSpec(hash_bits=16)) != feature_space_hash(
        ModelSpec(hash_bits=18)
    )
    assert len(feature_space_hash(ModelSpec())) == 32


def test_the_coordinator_needs_neither_torch_nor_polars() -> None:
    code = (
        "import sys; import shared.model.layout, shared.model.metrics; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'polars', 'sklearn', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_that_no_training_makes_are_out_of_bounds() -> None:
    vector = init_vector(ModelSpec(hash_bits=10), 0)
    assert check_weights(vector) is vector
    for value in (MAX_MODEL_WEIGHT, -MAX_MODEL_WEIGHT):
        vector[5] = value
        check_weights(vector)
        vector[5] = value * 1.001
        with pytest.raises(ModelOutOfBounds):
            check_weights(vector)
    for value in (np.nan, np.inf, -np.inf):
        vector[5] = value
        with pytest.raises(ModelOutOfBounds):
            check_weights(vector)
