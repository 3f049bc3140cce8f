"""Local update: what moves, what does not, what happens when it goes wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from participant.training.dataset import TrainingSet
from participant.training.inference import scores
from participant.training.known import horizons, known_records
from participant.training.local import (
    NothingToTrain,
    TrainConfig,
    TrainingDiverged,
    local_update,
    training_path,
)
from participant.training.split import Split
from shared.model.layout import UnknownModel, init_vector
from shared.model.metrics import roc_auc
from tests.support.model import NOW, SPEC, fake, listing, records, toy_set


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_training_learns_and_leaves_untouched_rows_alone() -> None:
    data, start = toy_set(1500), init_vector(SPEC, 0)
    before = start.copy()
    delta = local_update(SPEC, start, data, TrainConfig(epochs=10))
    np.testing.assert_array_equal(start, before)
    assert delta.dtype == np.float32
    untouched = np.setdiff1d(np.arange(SPEC.rows), data.train_part.touched)
    assert not delta[SPEC.slices.wide][untouched].any()
    assert not delta[SPEC.slices.embedding].reshape(SPEC.rows, -1)[untouched].any()
    matrix, labels = data.part("holdout")
    assert roc_auc(labels, scores(SPEC, start + delta, matrix)) > 0.95


def test_the_same_seed_gives_the_same_update() -> None:
    data, start = toy_set(), init_vector(SPEC, 0)
    first, again, other = (
        local_update(SPEC, start, data, TrainConfig(seed=seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_hold_out_and_the_calibration_part_never_train() -> None:
    data, start = toy_set(), init_vector(SPEC, 0)
    changed = data.labels.copy()
    for part in (data.split.holdout, data.split.calibration):
        changed[part] = 1 - changed[part]
    other = replace(data, labels=changed)
    np.testing.assert_array_equal(local_update(SPEC, start, data), local_update(SPEC, start, other))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_class_is_enough(share: float) -> None:
    data = toy_set(positive=share)
    delta = local_update(SPEC, init_vector(SPEC, 0), data)
    assert np.isfinite(delta).all()
    assert np.sign(delta[-1]) == (1 if share else -1)


def test_confidence_weighs_records() -> None:
    data, start = toy_set(), init_vector(SPEC, 0)
    config = TrainConfig(epochs=1)
    full = local_update(SPEC, start, data, config)
    half = local_update(SPEC, start, replace(data, confidence=data.confidence / 2), config)
    assert np.linalg.norm(half) < 0.9 * np.linalg.norm(full)


def test_a_rate_that_diverges_is_halved_until_it_does_not() -> None:
    data, start = toy_set(), init_vector(SPEC, 0)
    wild = replace(data, matrix=data.matrix * np.float32(1e4))
    assert not np.isfinite(list(training_path(SPEC, start, wild, TrainConfig()))[-1][1]).all()
    delta = local_update(SPEC, start, wild, TrainConfig())
    assert np.isfinite(delta).all()
    assert delta.any()


def test_hopeless_training_is_an_error() -> None:
    data, start = toy_set(), init_vector(SPEC, 0)
    broken = replace(data, matrix=data.matrix * np.float32(np.inf))
    with pytest.raises(TrainingDiverged):
        local_update(SPEC, start, broken)


def test_nothing_to_train_and_foreign_models_are_errors() -> None:
    data = toy_set()
    nothing = np.empty(0, dtype=np.int64)
    empty = replace(data, split=Split(nothing, nothing, nothing))
    with pytest.raises(NothingToTrain):
        local_update(SPEC, init_vector(SPEC, 0), empty)
    with pytest.raises(UnknownModel):
        local_update(SPEC, init_vector(SPEC, 0)[1:], data)
    with pytest.raises(ValueError):
        TrainConfig(lr=0)


def test_threads_are_given_back() -> None:
    local_update(SPEC, init_vector(SPEC, 0), toy_set(), TrainConfig(threads=2))
    assert torch.get_num_threads() == 1


def test_a_set_from_records_keeps_labelled_listings_only() -> None:
    frame = records("listings", *(listing(k) for k in range(20)), *(fake(k) for k in range(20, 40)))
    verdicts = records(
        "verdicts",
        *(
            {
                "listing_id": f"listing-{k}",
                "verdict": "authentic" if k < 20 else "counterfeit",
                "source": "analyst",
                "decided_at": NOW,
            }
            for k in range(5, 35)
        ),
    )
    data = TrainingSet.from_records("listings", frame, spec=SPEC, as_of=NOW, verdicts=verdicts)
    assert data.rows == 30
    assert data.labels.sum() == 15
    assert data.groups[0] == "seller-5"


def test_a_reversed_verdict_is_a_negative_of_full_weight_and_the_unlabelled_stay_out() -> None:
    frame = records("listings", *(fake(k) for k in range(4)))
    judged = {"verdict": "counterfeit", "source": "platform", "decided_at": NOW - timedelta(days=9)}
    verdicts = records(
        "verdicts",
        {"listing_id": "listing-0", **judged},
        {"listing_id": "listing-1", **judged, "reversed_at": NOW - timedelta(days=1)},
        {"listing_id": "listing-2", **judged, "verdict": "unsure"},
    )
    told = {"listing_id": "listing-3", "complaint_id": "c", "source": "buyer", "claim": "fake"}
    complaints = records("complaints", {**told, "created_at": NOW - timedelta(days=1)})
    data = TrainingSet.from_records(
        "listings", frame, spec=SPEC, as_of=NOW, verdicts=verdicts, complaints=complaints
    )
    assert data.groups == ["seller-0", "seller-1"]
    assert data.labels.tolist() == [1, 0]
    assert data.confidence.tolist() == pytest.approx([0.7, 1.0])


def test_training_listings_are_seen_at_several_ages_never_in_the_future() -> None:
    frame = records("listings", *(listing(k) for k in range(60)))
    known = judged(frame)
    assert known["judged_at"].max() <= NOW
    ages = (known["judged_at"] - known["created_at"]).dt.total_days().unique().to_list()
    assert len(ages) == 3
    assert judged(records("listings", listing(created_at=None)))["judged_at"].to_list() == [NOW]


def judged(frame: pl.DataFrame, older: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return what training sees of listings that were all found authentic a moment ago."""
    said = {"verdict": "authentic", "source": "analyst", "decided_at": NOW}
    verdicts = records("verdicts", *({"listing_id": at, **said} for at in frame["listing_id"]))
    none = records("complaints").clear()
    return known_records("listings", frame, none, verdicts, NOW, older)


def test_a_listing_is_seen_as_it_was_when_it_is_judged() -> None:
    born = NOW - timedelta(days=200)
    name = next(k for k in range(99) if horizons(pl.Series([f"listing-{k}"])) == [14])

    def version(title: str, days: int | None) -> dict[str, Any]:
        moment = None if days is None else born + timedelta(days=days)
        return listing(name, title=title, created_at=born, updated_at=moment)

    def seen(*versions: tuple[str, int | None]) -> tuple[str, int]:
        older = records("listings", *(version(*one) for one in versions[:-1]))
        known = judged(records("listings", version(*versions[-1])), older)
        assert known.height == 1
        return known["title"][0], (known["judged_at"][0] - born).days

    assert seen(("first", 0), ("second", 10), ("third", 15)) == ("second", 14)
    assert seen(("second", 10), ("first", 0)) == ("second", 14)
    assert seen(("third", 100), ("second", 60), ("fourth", 150)) == ("second", 60)
    assert seen(("undated", None), ("third", 15)) == ("undated", 14)
    assert seen(("undated", None), ("second", 10)) == ("second", 14)
    assert seen(("slip", 10), ("corrected", 10)) == ("corrected", 14)
    assert seen(("undated", None), ("corrected", None)) == ("corrected", 14)
    assert seen(
        ("future", 300),
    ) == ("future", 200)
