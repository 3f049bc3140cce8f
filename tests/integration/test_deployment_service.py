"""Deploying releases of a real alliance over real gRPC: accept, keep, refuse, roll back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.enrolment.files import load_signing_key
from participant.deployment import log
from participant.deployment import service as service_module
from participant.deployment.acceptance import Reason
from participant.deployment.active import MODELS, active_model
from participant.deployment.fetch import TRANSCRIPT_NAME, fetch_release, installed_path
from participant.deployment.service import deploy_release
from participant.deployment.state import FILE_NAME as STATE_NAME
from participant.deployment.state import LOCAL_ID, ActiveStateDamaged, read_state
from participant.node.config import NodeConfig
from participant.node.registry_client import channel_factory
from shared.errors import NetworkError, NotFound, StateError, VerificationError
from shared.model.bundle import FILE_NAME, UnverifiedBundle, seal_bundle
from shared.model.bundle_errors import BundleOriginError, ReleaseRollbackError
from shared.model.bundle_manifest import BundleManifest
from shared.trust.transcript import TranscriptError, Witness
from tests.support.alliance import found_alliance
from tests.support.deployment import Member, NoNetwork, knowing, member_of, records, sets_of
from tests.support.registry import serving
from tests.support.release import a_record

torch.set_num_threads(1)

GOOD, BAD = knowing(1.0), knowing(-1.0)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    alliance = found_alliance(tmp_path, ["a"])
    member = member_of(alliance, "a")
    with serving(alliance, member.database):
        yield member
    member.database.close()


def deploy(member: Member, release_id: bytes, training_set=None, **options):
    return member.deployer(training_set).deploy(
        release_id, channel_factory(member.folder), **options
    )


def running(member: Member) -> str | None:
    model = active_model(member.folder)
    return None if model is None else model.release_id


def test_a_good_first_release_is_activated_with_its_calibration(member):
    release_id = member.publish(1, GOOD)
    outcome = deploy(member, release_id)
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
    deploy(member, first)
    outcome = deploy(member, second)
    assert (outcome.decision, outcome.reason) == ("kept", Reason.RUNNING_IS_BETTER)
    assert running(member) == first.hex()
    assert member.decisions()[-1] == (second.hex(), "keep", "running_is_better")


def test_a_better_release_replaces_what_runs(member):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    deploy(member, first)
    assert deploy(member, second).decision == "activated"
    assert running(member) == second.hex()


def test_a_first_release_that_loses_to_the_local_model_lets_the_local_model_run(member):
    release_id = member.publish(1, BAD)
    outcome = deploy(member, release_id)
    assert (outcome.decision, outcome.reason) == ("activated_local", Reason.LOCAL_IS_BETTER)
    assert running(member) == LOCAL_ID
    assert [row[:2] for row in member.decisions()] == [
        (release_id.hex(), "keep"),
        (LOCAL_ID, "activate"),
    ]


def test_deploying_what_runs_changes_nothing(member):
    release_id = member.publish(1, GOOD)
    deploy(member, release_id)
    again = deploy(member, release_id)
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
    outcome = deploy(member, first, few)
    assert (outcome.decision, outcome.reason) == ("activated", Reason.FIRST_MODEL)
    assert not outcome.calibrated or few.class_counts("calibration")[1] > 0
    outcome = deploy(member, second, few)
    assert (outcome.decision, outcome.reason) == ("kept", reason)
    assert running(member) == first.hex()


def test_a_member_without_labels_takes_its_first_release(member):
    outcome = deploy(member, member.publish(1, GOOD), records(0))
    assert (outcome.decision, outcome.reason) == ("activated", Reason.FIRST_MODEL)
    assert not outcome.calibrated
    assert active_model(member.folder).calibration is None


def test_a_release_for_another_kind_of_record_does_not_replace_what_runs(member):
    first, shops = member.publish(1, GOOD), member.publish(2, GOOD, kind="shop")
    deploy(member, first)
    outcome = deploy(member, shops)
    assert (outcome.decision, outcome.reason) == ("kept", Reason.OTHER_KIND)


def test_an_older_release_is_refused_but_rolling_back_works(member):
    old, new = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    deploy(member, old)
    deploy(member, new)
    for attempt in (
        lambda: deploy(member, old),
        lambda: member.deployer().activate(old, channel_factory(member.folder)),
    ):
        with pytest.raises(ReleaseRollbackError):
            attempt()
        assert running(member) == new.hex()
    assert member.kinds_of_events()[-1] == "model.refused"
    assert member.deployer().rollback().release_id == old.hex()
    assert running(member) == old.hex()
    assert member.decisions()[-1] == (old.hex(), "rollback", "operator")
    assert read_state(member.folder / MODELS).highest_sequence == 2
    with pytest.raises(ReleaseRollbackError):
        deploy(member, new)
    with pytest.raises(NotFound):
        member.deployer().rollback()


def test_the_operator_may_activate_what_the_rule_kept(member):
    good, bad = member.publish(1, GOOD), member.publish(2, BAD)
    deploy(member, good)
    assert deploy(member, bad).decision == "kept"
    assert member.deployer().activate(bad).reason == Reason.OPERATOR
    assert running(member) == bad.hex()
    assert member.deployer().rollback().release_id == good.hex()


def test_the_local_model_can_be_activated_and_rolled_back(member):
    release_id = member.publish(1, GOOD)
    deploy(member, release_id)
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
    deploy(member, first)
    before = (member.folder / MODELS / STATE_NAME).read_bytes()
    _, judged = member.deployer().compare(second, channel_factory(member.folder))
    assert not judged.verdict.accept
    assert (member.folder / MODELS / STATE_NAME).read_bytes() == before
    assert len(member.decisions()) == 1


def test_an_installed_release_is_not_fetched_again(member):
    release_id = member.publish(1, GOOD)
    factory = channel_factory(member.folder)
    fetch_release(member.folder, release_id, factory, min_sequence=1)
    offline = NoNetwork()
    fetch_release(member.folder, release_id, offline, min_sequence=1)
    assert offline.calls == 0
    with pytest.raises(NotFound):
        fetch_release(member.folder, b"x" * 16, None, min_sequence=1)


@pytest.mark.parametrize("name", [FILE_NAME, TRANSCRIPT_NAME])
def test_a_damaged_installed_release_is_fetched_again(member, name):
    release_id = member.publish(1, GOOD)
    factory = channel_factory(member.folder)
    fetch_release(member.folder, release_id, factory, min_sequence=1)
    file = installed_path(member.folder, release_id) / name
    original = file.read_bytes()
    file.write_bytes(original[: len(original) // 2])
    fetch_release(member.folder, release_id, factory, min_sequence=1)
    assert file.read_bytes() == original


def damage(member: Member, release_id: bytes, name: str) -> None:
    """Flip the last byte of a file at the coordinator, and let its catalogue agree."""
    file = member.alliance.coordinator_dir / "releases" / release_id.hex() / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("name", [FILE_NAME, TRANSCRIPT_NAME])
def test_a_flipped_byte_is_refused_and_leaves_nothing(member, name):
    release_id = member.publish(1, GOOD)
    damage(member, release_id, name)
    with pytest.raises(VerificationError):
        deploy(member, release_id)
    assert running(member) is None
    assert not installed_path(member.folder, release_id).exists()
    assert member.kinds_of_events() == ["model.refused"]


def test_another_release_under_the_asked_id_is_refused(member):
    asked, other = member.publish(1, GOOD), member.publish(2, GOOD)
    row = member.database.read("get", lambda unit: unit.releases.get(other.hex()))
    root = member.alliance.coordinator_dir / "releases"
    served = (root / other.hex() / FILE_NAME).read_bytes()
    (root / asked.hex() / FILE_NAME).write_bytes(served)
    _point_row_at(member, asked, row.sha256)
    with pytest.raises(BundleOriginError):
        deploy(member, asked)


def _point_row_at(member: Member, release_id: bytes, sha256: str) -> None:
    from sqlalchemy import text

    with member.database.engine.begin() as connection:
        connection.execute(
            text("update release set sha256 = :sha where release_id = :id"),
            {"sha": sha256, "id": release_id.hex()},
        )


def test_a_transcript_that_contradicts_what_the_member_was_told_is_refused(member):
    release_id = member.publish(1, GOOD)
    record = a_record(2)
    honest = Witness(3, 2, record.slot, record.t2, record.bitmap(), dict(record.vectors)[3])
    with pytest.raises(TranscriptError):
        deploy(member, release_id, witnesses=[honest, replace(honest, t2=b"x" * 32)])
    assert running(member) is None
    assert deploy(member, release_id, witnesses=[honest]).decision == "activated"


def test_a_changed_active_model_is_not_loaded_and_no_rival(member):
    first, second = member.publish(1, GOOD), member.publish(2, knowing(0.9))
    deploy(member, first)
    file = installed_path(member.folder, first) / FILE_NAME
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError):
        active_model(member.folder)
    assert deploy(member, second).decision == "activated"
    assert "model.unusable" in member.kinds_of_events()
    file.unlink()
    with pytest.raises(NotFound):
        member.deployer().rollback()
    assert running(member) == second.hex()


def test_a_damaged_state_file_is_a_clear_error(member):
    deploy(member, member.publish(1, GOOD))
    path = member.folder / MODELS / STATE_NAME
    body = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**body, "more": 1}), json.dumps(body)):
        path.write_text(text)
        with pytest.raises(ActiveStateDamaged):
            active_model(member.folder)


def test_a_state_file_of_a_newer_version_says_so(member):
    path = member.folder / MODELS / STATE_NAME
    deploy(member, member.publish(1, GOOD))
    body = {n: v for n, v in json.loads(path.read_text()).items() if n != "sha256"}
    text = json.dumps({**body, "schema_version": 3}, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    sealed = {**json.loads(text), "sha256": digest}
    path.write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")
    with pytest.raises(StateError, match="newer version"):
        active_model(member.folder)


def test_a_state_file_of_the_first_version_is_read_and_replaced(member):
    old, new = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    deploy(member, old)
    path = member.folder / MODELS / STATE_NAME
    body = json.loads(path.read_text())
    for name in ("sha256", "pinned"):
        del body[name]
    del body["active"]["head"]
    path.write_text(json.dumps({**body, "schema_version": 1}, indent=1, sort_keys=True) + "\n")
    assert running(member) == old.hex()
    assert deploy(member, new).decision == "activated"
    assert json.loads(path.read_text())["schema_version"] == 2
    assert member.deployer().rollback().release_id == old.hex()


def test_a_crash_before_the_log_is_made_up_for(member, monkeypatch):
    release_id = member.publish(1, GOOD)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(log, "record_activation", crash)
        with pytest.raises(KeyboardInterrupt):
            deploy(member, release_id)
    assert running(member) == release_id.hex()
    assert member.decisions() == []
    assert deploy(member, release_id).decision == "already_active"
    assert member.decisions() == [(release_id.hex(), "activate", "not_worse")]


def test_a_crash_before_the_switch_leaves_the_old_model(member, monkeypatch):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    deploy(member, first)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(service_module, "write_state", crash)
        with pytest.raises(KeyboardInterrupt):
            deploy(member, second)
    assert running(member) == first.hex()
    assert deploy(member, second).decision == "activated"


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
    deploy(member, release_id)
    (path,) = (member.folder / MODELS / "local").iterdir()
    written = path.stat().st_mtime_ns
    member.deployer().compare(release_id)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"damaged")
    member.deployer().compare(release_id)
    assert path.read_bytes() != b"damaged"


def test_a_broken_network_is_no_refusal(member):
    release_id = member.publish(1, GOOD)
    config = NodeConfig.load(member.folder)
    elsewhere = config.coordinator.model_copy(update={"port": 1})
    config.model_copy(update={"coordinator": elsewhere}).write(member.folder)
    with pytest.raises(NetworkError):
        deploy(member, release_id)
    assert member.kinds_of_events() == []


def test_a_signed_release_of_another_model_than_the_run_ended_with_is_refused(member):
    release_id = member.publish(1, GOOD)
    folder = member.alliance.coordinator_dir / "releases" / release_id.hex()
    key = load_signing_key(member.alliance.coordinator_dir)
    manifest = BundleManifest.decode(UnverifiedBundle.read(folder).manifest_bytes)
    swapped = seal_bundle(manifest, BAD, key)
    (folder / FILE_NAME).write_bytes(swapped)
    _point_row_at(member, release_id, hashlib.sha256(swapped).hexdigest())
    with pytest.raises(TranscriptError, match="last round"):
        deploy(member, release_id)
    assert running(member) is None
