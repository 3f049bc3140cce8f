"""The member-size study in small: one world and one deal of the real shops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import BadInput
from shared.model.layout import ModelSpec
from simulations.studies.member_size import federation, listings, messages, shops
from simulations.studies.member_size.figures import harm, rows
from simulations.studies.member_size.measure import federation_outcomes
from simulations.studies.member_size.report import tables

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SHOPS, MESSAGES = DATA / "fraudulent_online_shops", DATA / "sms_spam"
SPEC = ModelSpec(hash_bits=14)
SIZES = (60, 200, 600, 1000)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.slow
def test_small_members_gain_and_nobody_is_worse_off_on_its_own_hold_out(tmp_path):
    members = listings.world_members(21, SPEC, sizes=SIZES, per_week=90)
    assert sorted(one.size for one in members) == sorted(SIZES)
    assert all(one.training.rows == one.size for one in members)
    outcomes = list(federation_outcomes("world", 21, members, SPEC, tmp_path))
    small = rows(outcomes, "pr_auc")[0]
    assert small.figures["federated"].mean > small.figures["local"].mean + 0.1
    found = harm(outcomes)
    assert found.judged >= 2
    assert found.on_holdout == ()
    assert found.on_test == ()
    assert "| 1,000 | 1 |" in tables(outcomes)


@pytest.mark.slow
@pytest.mark.skipif(not SHOPS.is_dir(), reason="the online-shops data are not here")
def test_real_shops(tmp_path):
    frame = shops.read_shops(SHOPS)
    members = shops.shop_members(21, SPEC, frame)
    assert [one.size for one in members] == list(shops.SIZES)
    assert {one.training.rows for one in members} == set(shops.SIZES)
    outcomes = list(federation_outcomes("shops", 21, members, SPEC, tmp_path))
    assert np.mean([one.roc_auc["runs"] for one in outcomes]) > 0.95
    assert harm(outcomes).on_holdout == ()
    assert harm(outcomes).on_test == ()


@pytest.mark.skipif(not SHOPS.is_dir(), reason="the online-shops data are not here")
def test_no_shop_trains_two_members_or_tests_one_that_somebody_trained_on():
    frame = shops.read_shops(SHOPS)
    members = shops.shop_members(22, SPEC, frame, sizes=(50, 50, 200))
    hosts = [set(one.training.groups) for one in members]
    assert sum(map(len, hosts)) == len(set().union(*hosts)) == 300
    with pytest.raises(BadInput):
        shops.shop_members(22, SPEC, frame, sizes=(1000, 1000))


@pytest.mark.skipif(not MESSAGES.is_dir(), reason="the messages are not here")
def test_real_messages_are_dealt_once_each_and_only_once():
    frame = messages.read_messages(MESSAGES)
    assert frame.height == frame["text"].n_unique()
    members = messages.message_members(21, SPEC, frame, sizes=(50, 200))
    assert [one.training.rows for one in members] == [50, 200]
    assert all(0 < one.truth.sum() < one.truth.size / 4 for one in members)
    with pytest.raises(BadInput):
        messages.read_messages(SHOPS / "shops.csv")


def test_an_update_is_clipped_as_the_secure_sum_clips_it():
    delta = np.zeros(1000, dtype=np.float32)
    delta[:10] = 4.0
    clipped = federation._clipped(delta)
    assert np.abs(clipped).max() <= 1.0
    assert np.linalg.norm(clipped) <= 3.0 + 1e-6
    np.testing.assert_array_equal(federation._clipped(clipped), clipped)


def test_a_world_too_small_for_the_sizes_is_refused():
    with pytest.raises(BadInput, match="labelled listings"):
        listings.world_members(21, SPEC, sizes=(50, 5000), per_week=20)
