"""Deploying releases of a real alliance over real gRPC: accept, keep, roll back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from participant.deployment.acceptance import Reason
from participant.deployment.active import MODELS, active_model
from participant.deployment.floor import Ran, newest_ran
from participant.deployment.service import deploy_release
from participant.deployment.state import FILE_NAME as STATE_NAME
from participant.deployment.state import LOCAL_ID, ActiveState, read_state
from participant.node.registry_client import channel_factory
from participant.store import Store
from shared.errors import NotFound
from shared.model.bundle_errors import ReleaseRollbackError
from tests.support.deployment import Member, knowing, records, running, served_member, sets_of

GOOD, BAD = knowing(1.0), knowing(-1.0)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with served_member(tmp_path) as member:
        yield member


def test_a_good_first_release_is_activated_with_its_calibration(member):
    release_id = member.publish(1, GOOD)
    outcome = member.deploy(release_id)
    assert (outcome.decision, outcome.reason) == ("activated", Reason.NOT_WORSE)
    model = active_model(member.folder)
    assert model.release_id == release_id.hex()
    np.testing.assert_array_equal(model.vector, GOOD)
    assert model.calibration is not None
    assert model.kind == "listing"
    assert outcome.metrics["rivals"]["local"]["difference"] > 0.05
    assert member.decisions() == [(release_id.hex(), "activate", "not_worse")]
    assert member.kinds_of_events() == ["model.verified", "model.activate"]


def test_nothing_runs_before_the_first_release(member):
    assert active_model(member.folder) is None


def test_keep_mine_if_mine_is_better(member):
    first, second = member.publish(1, GOOD), member.publish(2, BAD)
    member.deploy(first)
    outcome = member.deploy(second)
    assert (outcome.decision, outcome.reason) == ("kept", Reason.RUNNING_IS_BETTER)
    assert running(member) == first.hex()
    assert member.decisions()[-1] == (second.hex(), "keep", "running_is_better")


def test_a_better_release_replaces_what_runs(member):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    member.deploy(first)
    assert member.deploy(second).decision == "activated"
    assert running(member) == second.hex()


def test_a_first_release_that_loses_to_the_local_model_lets_the_local_model_run(member):
    release_id = member.publish(1, BAD)
    outcome = member.deploy(release_id)
    assert (outcome.decision, outcome.reason) == ("activated_local", Reason.LOCAL_IS_BETTER)
    assert running(member) == LOCAL_ID
    assert [row[:2] for row in member.decisions()] == [
        (release_id.hex(), "keep"),
        (LOCAL_ID, "activate"),
    ]


def test_deploying_what_runs_changes_nothing(member):
    release_id = member.publish(1, GOOD)
    member.deploy(release_id)
    again = member.deploy(release_id)
    assert again.decision == "already_active"
    assert len(member.decisions()) == 1


@pytest.mark.parametrize(
    ("few", "reason"),
    [
        (records(40), Reason.HOLDOUT_TOO_SMALL),
        (records(300, positive=0.0), Reason.HOLDOUT_ONE_CLASS),
    ],
    ids=["small", "one class"],
)
def test_a_hold_out_that_cannot_tell_keeps_what_runs(member, few, reason):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    outcome = member.deploy(first, few)
    assert (outcome.decision, outcome.reason) == ("activated", Reason.FIRST_MODEL)
    assert not outcome.calibrated or few.class_counts("calibration")[1] > 0
    outcome = member.deploy(second, few)
    assert (outcome.decision, outcome.reason) == ("kept", reason)
    assert running(member) == first.hex()


def test_a_member_without_labels_takes_its_first_release(member):
    outcome = member.deploy(member.publish(1, GOOD), records(0))
    assert (outcome.decision, outcome.reason) == ("activated", Reason.FIRST_MODEL)
    assert not outcome.calibrated
    assert active_model(member.folder).calibration is None


def test_a_release_for_another_kind_of_record_does_not_replace_what_runs(member):
    first, shops = member.publish(1, GOOD), member.publish(2, GOOD, kind="shop")
    member.deploy(first)
    outcome = member.deploy(shops)
    assert (outcome.decision, outcome.reason) == ("kept", Reason.OTHER_KIND)


def test_an_older_release_is_refused_but_rolling_back_works(member):
    old, new = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    member.deploy(old)
    member.deploy(new)
    assert member.deploy(old).decision == "already_judged"
    with pytest.raises(ReleaseRollbackError):
        member.deployer().activate(old, channel_factory(member.folder))
    assert running(member) == new.hex()
    assert member.kinds_of_events()[-1] == "model.refused"
    assert member.deployer().rollback().release_id == old.hex()
    assert running(member) == old.hex()
    assert member.decisions()[-1] == (old.hex(), "rollback", "operator")
    assert read_state(member.folder / MODELS).highest_sequence == 2
    assert member.deploy(new).decision == "already_judged"
    assert running(member) == old.hex()
    with pytest.raises(NotFound):
        member.deployer().rollback()


def test_a_person_can_undo_a_rollback(member):
    old, new, kept = (member.publish(n, knowing(0.3 * n)) for n in (1, 2, 3))
    factory = channel_factory(member.folder)
    for release_id in (old, new):
        member.deploy(release_id)
    member.deployer().rollback()
    again = member.deployer().activate(new, factory)
    assert (again.decision, running(member)) == ("activated", new.hex())
    assert member.deployer().rollback().release_id == old.hex()
    member.deployer().activate(kept, factory)
    with pytest.raises(ReleaseRollbackError) as caught:
        member.deployer().activate(new, factory)
    assert "the newest release that ran here" in caught.value.hint


def test_a_lost_state_file_opens_no_way_back(member):
    old, middle, new = (member.publish(n, knowing(0.3 * n)) for n in (1, 2, 3))
    factory = channel_factory(member.folder)
    for release_id in (old, new):
        member.deployer().activate(release_id, factory)
    (member.folder / MODELS / STATE_NAME).unlink()
    for release_id in (old, middle):
        with pytest.raises(ReleaseRollbackError):
            member.deployer().activate(release_id, factory)
    with pytest.raises(ReleaseRollbackError):
        member.deploy(middle)
    for release_id in (old, new):
        assert member.deploy(release_id).decision == "already_judged"
    assert running(member) is None
    assert member.deployer().activate(new, factory).decision == "activated"
    assert read_state(member.folder / MODELS).highest_sequence == 3


def test_the_log_of_an_earlier_version_knows_the_numbers_too(member):
    old, new, kept = (member.publish(n, knowing(0.3 * n)) for n in (1, 2, 3))
    store = Store.open(member.folder, clock=member.clock)
    for number, release_id in enumerate((old, new, kept), start=1):
        store.audit.append("model.verified", {"release_id": release_id.hex(), "sequence": number})
    for release_id in (new, old):
        store.audit.append("model.activate", {"release_id": release_id.hex(), "reason": "x"})
    ran = newest_ran(store, ActiveState())
    store.close()
    assert ran == Ran(2, "", new.hex()), "number 3 was verified and kept"


def test_the_operator_may_activate_what_the_rule_kept(member):
    good, bad = member.publish(1, GOOD), member.publish(2, BAD)
    member.deploy(good)
    assert member.deploy(bad).decision == "kept"
    assert member.deployer().activate(bad).reason == Reason.OPERATOR
    assert running(member) == bad.hex()
    assert member.deployer().rollback().release_id == good.hex()


def test_the_local_model_can_be_activated_and_rolled_back(member):
    release_id = member.publish(1, GOOD)
    member.deploy(release_id)
    assert member.deployer().activate_local().decision == "activated_local"
    model = active_model(member.folder)
    assert (model.release_id, model.spec.hash_bits) == (LOCAL_ID, 12)
    assert member.deployer().activate_local().decision == "already_active"
    assert member.deployer().rollback().release_id == release_id.hex()


def test_a_node_without_records_has_no_local_model(member):
    with pytest.raises(NotFound):
        member.deployer(records(0)).activate_local()


def test_compare_changes_nothing(member):
    first, second = member.publish(1, GOOD), member.publish(2, BAD)
    member.deploy(first)
    before = (member.folder / MODELS / STATE_NAME).read_bytes()
    _, judged = member.deployer().compare(second, channel_factory(member.folder))
    assert not judged.verdict.accept
    assert (member.folder / MODELS / STATE_NAME).read_bytes() == before
    assert len(member.decisions()) == 1


def test_the_node_calls_one_function(member):
    release_id = member.publish(1, GOOD)
    outcome = deploy_release(
        member.folder,
        release_id,
        channel_factory(member.folder),
        clock=member.clock,
        sets=sets_of(records()),
    )
    assert outcome.decision == "activated"
    assert outcome.release_id == release_id.hex()


def test_local_models_of_former_records_are_removed_unless_they_run(member):
    folder = member.folder / MODELS / "local"
    first = member.deployer(records(100)).activate_local()
    assert first.decision == "activated_local"
    for rows in (120, 140):
        member.deployer(records(rows)).compare(
            member.publish(rows, GOOD), channel_factory(member.folder)
        )
    left = {path.name for path in folder.iterdir()}
    assert len(left) == 2
    assert Path(read_state(member.folder / MODELS).active.path).name in left


def test_the_same_records_are_fitted_once(member):
    release_id = member.publish(1, GOOD)
    member.deploy(release_id)
    (path,) = (member.folder / MODELS / "local").iterdir()
    written = path.stat().st_mtime_ns
    member.deployer().compare(release_id)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"damaged")
    member.deployer().compare(release_id)
    assert path.read_bytes() != b"damaged"
