"""Scored tables: risk, bands, reasons."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import torch

from participant.deployment.active import LoadedModel
from participant.scoring.batch import SCORES, score_frame
from participant.training.calibration import BandLimit, Calibration
from participant.training.dataset import TrainingSet
from participant.training.local import TrainConfig, local_update
from shared.errors import BadInput
from shared.model.layout import ModelSpec, init_vector
from tests.support.model import NOW, fake, listing, records

SPEC = ModelSpec(hash_bits=14, embed_dim=4, hidden=6)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.set_num_threads(1)
    rows = [listing(k) for k in range(60)] + [fake(k) for k in range(60, 120)]
    verdicts = [
        {
            "listing_id": f"listing-{k}",
            "verdict": "authentic" if k < 60 else "counterfeit",
            "source": "customs",
            "decided_at": NOW,
        }
        for k in range(120)
    ]
    data = TrainingSet.from_records(
        "listings",
        records("listings", *rows),
        spec=SPEC,
        as_of=NOW,
        verdicts=records("verdicts", *verdicts),
    )
    start = init_vector(SPEC, 0)
    vector = start + local_update(SPEC, start, data, TrainConfig(epochs=6))
    limit = BandLimit(90.0, 1.0, 0.96, 100, 0.5)
    return LoadedModel(SPEC, vector, Calibration("platt", (1.0, 0.0), auto=limit), "00", "listing")


def test_fakes_come_out_above_with_reasons_to_paste(model: LoadedModel) -> None:
    frame = records("listings", listing(0), fake(1), listing(2))
    scored = score_frame(frame, model, as_of=NOW, top=10)
    assert scored.schema == SCORES
    assert scored["id"].to_list() == frame["listing_id"].to_list()
    risk = scored["risk"].to_numpy()
    assert risk[1] > 90 > 10 > max(risk[0], risk[2])
    assert scored["band"].to_list() == ["triage", "auto", "triage"]
    reasons = scored["reasons"][1].to_list()
    assert "'Veltr1ne' = Veltrine with digits or signs for letters" in reasons
    assert "price 21 % of the list price" in reasons
    assert "seller 40 days old" in reasons
    assert any(reason.startswith("title contains '") for reason in reasons)
    assert "payment: transfer" in reasons


def test_scores_do_not_depend_on_what_is_scored_beside(model: LoadedModel) -> None:
    frame = records("listings", *(listing(k) for k in range(70)), fake(99))
    many = score_frame(frame, model, as_of=NOW)["risk"].to_numpy()
    alone = score_frame(frame.tail(1), model, as_of=NOW, top=0)["risk"].to_numpy()
    np.testing.assert_allclose(many[-1:], alone, rtol=1e-5)


def test_complaints_are_seen_and_only_those_of_the_past(model: LoadedModel) -> None:
    frame = records("listings", fake(1))
    complaint = {
        "complaint_id": "c",
        "listing_id": "listing-1",
        "source": "buyer",
        "claim": "fake",
        "created_at": NOW,
    }
    complaints = records("complaints", complaint)
    none = score_frame(frame, model, as_of=NOW)
    with_it = score_frame(frame, model, as_of=NOW, complaints=complaints)
    assert none["risk"].to_list() != with_it["risk"].to_list()
    yesterday = NOW - timedelta(days=1)
    before = score_frame(frame, model, as_of=yesterday)
    assert score_frame(frame, model, as_of=yesterday, complaints=complaints).equals(before)


def test_nobody_complained_is_never_told_as_a_complaint(model: LoadedModel) -> None:
    scored = score_frame(records("listings", fake(1)), model, as_of=NOW, top=20)
    assert not any("claim" in reason or "complain" in reason for reason in scored["reasons"][0])


def test_without_calibration_there_are_no_bands(model: LoadedModel) -> None:
    bare = LoadedModel(model.spec, model.vector, None, "00", "listing")
    scored = score_frame(records("listings", listing(0), fake(1)), bare, as_of=NOW)
    assert scored["band"].to_list() == ["triage", "triage"]
    assert scored["risk"][1] > scored["risk"][0]


def test_no_rows_and_wrong_columns(model: LoadedModel) -> None:
    assert score_frame(records("listings"), model, as_of=NOW).schema == SCORES
    with pytest.raises(BadInput):
        score_frame(records("listings", listing()).drop("signals"), model, as_of=NOW)


def test_shops_are_scored_too() -> None:
    shops = records(
        "shops",
        {"shop_id": "a", "host": "www.veltrine-outlet.shop", "signals": '{"crypto": 1}'},
    )
    vector = init_vector(SPEC, 0)
    vector[SPEC.slices.wide] = 0.1
    scored = score_frame(shops, LoadedModel(SPEC, vector, None, "00", "shop"), as_of=NOW)
    assert scored["id"].to_list() == ["a"]
    assert scored["reasons"][0].to_list()
