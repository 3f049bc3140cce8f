"""A personal head from decision to score: kept if it helps, filed, verified, rolled back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from participant.deployment.acceptance import HeadReason, Reason
from participant.deployment.active import MODELS, active_model
from participant.deployment.fetch import fetch_release
from participant.deployment.head import HeadFile
from participant.deployment.state import Activation, read_state
from participant.node.registry_client import channel_factory
from participant.scoring.attribution import token_shares
from participant.training.inference import scores
from participant.training.personal import fit_head
from shared.errors import MalformedMessage, NotFound, VerificationError
from shared.model.features.batch import FeatureBatch
from tests.support.deployment import OWN_MARK, SPEC, Member, knowing, records, served_member
from tests.support.disk_faults import FULL, READ_ONLY, fails_at_every_point

torch.set_num_threads(1)

OWN = records(600, own=0.8)
"""Records of a member that knows a mark of its own."""


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with served_member(tmp_path) as member:
        yield member


def deploy(member: Member, release_id: bytes, training_set=OWN):
    return member.deployer(training_set).deploy(release_id, channel_factory(member.folder))


def active(member: Member) -> Activation:
    found = read_state(member.folder / MODELS).active
    assert found is not None
    return found


def test_a_head_that_helps_runs_on_top_of_the_release(member):
    release_id = member.publish(1, knowing(0.7))
    outcome = deploy(member, release_id)
    assert (outcome.decision, outcome.reason) == ("activated", Reason.NOT_WORSE)
    assert outcome.head == active(member).head.setting
    trial = outcome.metrics["head"]
    assert trial["reason"] == HeadReason.HELPS
    assert trial["bare"]["difference"] > 0
    assert trial["bare"]["wins"] >= 0.8
    model = active_model(member.folder)
    assert (model.release_id, model.head) == (release_id.hex(), outcome.head)
    assert model.vector[SPEC.slices.wide][OWN_MARK] > 0.2
    assert knowing(0.7)[SPEC.slices.wide][OWN_MARK] == 0


def test_what_scores_is_what_was_judged(member):
    outcome = deploy(member, member.publish(1, knowing(0.7)))
    fitted = fit_head(OWN, knowing(0.7))
    np.testing.assert_array_equal(
        active_model(member.folder).vector, fitted.head.apply(SPEC, knowing(0.7))
    )
    bare = outcome.metrics["head"]["bare"]
    assert outcome.metrics["pr_auc"] == pytest.approx(bare["pr_auc"] + bare["difference"])


def test_what_the_head_adds_is_attributed_to_the_tokens_it_rests_on(member):
    deploy(member, member.publish(1, knowing(0.7)))
    personal = active_model(member.folder).vector
    batch = FeatureBatch(
        ids=np.array([OWN_MARK, 5], dtype=np.int32),
        weights=np.ones(2, dtype=np.float32),
        offsets=np.array([0, 2], dtype=np.int64),
    )
    before, after = (token_shares(SPEC, vector, batch) for vector in (knowing(0.7), personal))
    added = personal[SPEC.slices.wide][OWN_MARK]
    assert after[0] - before[0] == pytest.approx(added, abs=1e-6)
    assert added > 0.2


def test_bands_rest_on_scores_the_head_gave_before_it_saw_the_records(member):
    deploy(member, member.publish(1, knowing(0.7)))
    model = active_model(member.folder)
    matrix, labels = OWN.part("calibration")
    seen = scores(SPEC, model.vector, matrix)
    unseen = fit_head(OWN, knowing(0.7)).unseen
    assert np.abs(np.log(seen / (1 - seen)) - unseen).max() > 0.1
    assert model.calibration is not None
    # Platt on cross-fitted scores of about 120 records stays near the share it was shown.
    assert (
        abs(model.calibration.risk(1 / (1 + np.exp(-unseen))).mean() / 100 - labels.mean()) < 0.05
    )


def test_a_head_that_does_not_help_is_not_used_and_the_reason_is_kept(member):
    outcome = deploy(member, member.publish(1, knowing(1.0)), records(600))
    assert outcome.metrics["head"]["reason"] == HeadReason.NOT_FITTED
    assert outcome.head is None
    assert active(member).head is None
    assert not (member.folder / MODELS / "heads").exists()


def test_a_small_member_gets_the_bare_release(member):
    outcome = deploy(member, member.publish(1, knowing(0.7)), records(50, own=0.8))
    assert outcome.metrics["head"]["reason"] in (HeadReason.NOT_FITTED, HeadReason.CANNOT_TELL)
    assert outcome.head is None


@pytest.mark.parametrize("how", ["policy", "option"])
def test_heads_can_be_refused(member, how):
    release_id = member.publish(1, knowing(0.7))
    if how == "policy":
        policy = member.folder / "policy.toml"
        policy.write_text(
            policy.read_text().replace("personal_head = true", "personal_head = false")
        )
    member.deployer(OWN).activate(
        release_id, channel_factory(member.folder), personal=how == "policy"
    )
    assert active(member).head is None
    assert active(member).metrics["head"]["reason"] == HeadReason.OFF
    np.testing.assert_array_equal(active_model(member.folder).vector, knowing(0.7))


def test_rolling_back_brings_the_former_head_back(member):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, knowing(0.9))
    deploy(member, first)
    before = active_model(member.folder)
    assert before.head is not None
    member.deployer(OWN).activate(second, channel_factory(member.folder), personal=False)
    assert active_model(member.folder).head is None
    member.deployer(OWN).rollback()
    after = active_model(member.folder)
    assert (after.release_id, after.head) == (first.hex(), before.head)
    np.testing.assert_array_equal(after.vector, before.vector)


def test_heads_that_nothing_needs_are_removed(member):
    factory = channel_factory(member.folder)
    first = member.publish(1, knowing(0.5))
    deploy(member, first)
    folder = member.folder / MODELS / "heads"
    (folder / "left-by-a-crash.head").write_bytes(b"half")
    member.deployer(OWN).activate(member.publish(2, knowing(0.6)), factory)
    names = {one.name for one in folder.iterdir()}
    assert names == {Path(active(member).head.path).name} | {
        Path(one.head.path).name for one in read_state(member.folder / MODELS).previous
    }
    assert len(names) == 2


def test_a_head_belongs_to_one_release(member):
    deploy(member, member.publish(1, knowing(0.7)))
    at = active(member)
    own = HeadFile.decode((member.folder / MODELS / at.head.path).read_bytes())
    vector = own.applied(at.release_id, at.sha256, SPEC, knowing(0.7))
    assert vector.shape == (SPEC.n_params,)
    for wrong in (("ab" * 16, at.sha256), (at.release_id, "cd" * 32)):
        with pytest.raises(MalformedMessage):
            own.applied(*wrong, SPEC, knowing(0.7))


def test_a_head_that_is_gone_or_changed_is_no_model(member):
    deploy(member, member.publish(1, knowing(0.7)))
    path = member.folder / MODELS / active(member).head.path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == active(member).head.sha256
    data = path.read_bytes()
    path.write_bytes(data + b"\0")
    with pytest.raises(VerificationError):
        active_model(member.folder)
    path.unlink()
    with pytest.raises(NotFound):
        active_model(member.folder)


def test_what_runs_with_its_head_is_the_rival_of_the_next_release(member):
    deploy(member, member.publish(1, knowing(0.9)))
    running = active(member)
    assert running.head is not None
    outcome = deploy(member, member.publish(2, knowing(0.2)))
    rival = outcome.metrics["rivals"]["running"]
    assert rival["pr_auc"] == pytest.approx(running.metrics["pr_auc"])
    assert (outcome.decision, outcome.reason) == ("kept", Reason.RUNNING_IS_BETTER)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [FULL, READ_ONLY], ids=["full", "read-only"])
def test_a_disk_that_refuses_leaves_the_old_model_or_the_new_one_with_its_head(member, fault):
    old, new = member.publish(1, knowing(0.3)), member.publish(2, knowing(0.8))
    few, factory = records(160, own=0.8), channel_factory(member.folder)
    member.deployer(few).activate(old, factory, personal=False)
    fetch_release(member.folder, new, factory, min_sequence=2)

    def old_or_new() -> None:
        model = active_model(member.folder)
        assert model is not None
        assert (model.release_id == new.hex()) == (model.head is not None)

    points = fails_at_every_point(lambda: member.deployer(few).deploy(new, None), old_or_new, fault)
    assert points >= 8
    assert active_model(member.folder).release_id == new.hex()
