"""Real shops: federation in process, without cryptography, against the local baseline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from participant.ingest.service import read_records
from participant.training.baseline import fit_local
from participant.training.dataset import TrainingSet
from participant.training.inference import scores
from participant.training.local import TrainConfig, local_update
from participant.training.matrix import to_csr
from shared.model.features.build import build_features
from shared.model.layout import ModelSpec, init_vector
from shared.model.metrics import roc_auc
from simulations.shops import deal_shops, load_shops, write_shops

DATA = Path(__file__).parents[2] / "../shared/data/fraudulent_online_shops"
SPEC = ModelSpec()
NOW = datetime(2024, 1, 1, tzinfo=UTC)
SEEDS = (0, 1, 2)
ROUNDS = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="the real data is not on this machine"),
]

Test = tuple[object, np.ndarray]


def members(seed: int, folder: Path) -> list[tuple[TrainingSet, Test]]:
    paths = write_shops(deal_shops(load_shops(DATA), seed=seed), folder)
    found = []
    for parts in paths.values():
        train, test = (
            read_records(parts[name], "shops", "online_shops")[0] for name in ("train", "test")
        )
        batch = build_features(test, "shops", hash_bits=SPEC.hash_bits, as_of=NOW)
        data = TrainingSet.from_records("shops", train, spec=SPEC, as_of=NOW)
        found.append((data, (to_csr(batch, SPEC.rows), test["label"].to_numpy())))
    return found


def federated(sets: list[TrainingSet]) -> np.ndarray:
    vector = init_vector(SPEC, 0)
    total = sum(data.train_rows for data in sets)
    for number in range(ROUNDS):
        config = TrainConfig(seed=number)
        deltas = [data.train_rows * local_update(SPEC, vector, data, config) for data in sets]
        vector = (vector + sum(deltas) / total).astype(np.float32)
    return vector


def auc(vector: np.ndarray, test: Test) -> float:
    return roc_auc(test[1], scores(SPEC, vector, test[0]))


def test_federation_reaches_its_mark_and_beats_the_local_baseline(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    together, alone, left_out = [], [], 0
    for seed in SEEDS:
        found = members(seed, tmp_path / str(seed))
        vector = federated([data for data, _ in found])
        of_members = np.array([auc(vector, test) for _, test in found])
        of_locals = np.array([auc(fit_local(data).vector, test) for data, test in found])
        left_out += int(np.isnan(of_members).sum())
        together.append(np.nanmean(of_members))
        alone.append(np.nanmean(of_locals))
    assert left_out < len(SEEDS) * 4
    assert np.mean(together) >= 0.95
    assert np.mean(together) > np.mean(alone)


def test_the_country_and_the_leaking_score_are_not_in_the_features(tmp_path: Path) -> None:
    shops = load_shops(DATA)
    leaking = shops.with_columns(pl.lit("5").alias("TrustPilot score"))
    for name, table in (("as_is", shops), ("changed", leaking)):
        table.write_csv(tmp_path / f"{name}.csv")
    one, other = (
        build_features(
            read_records(tmp_path / f"{name}.csv", "shops", "online_shops")[0],
            "shops",
            hash_bits=16,
            as_of=NOW,
        )
        for name in ("as_is", "changed")
    )
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.weights, other.weights)
