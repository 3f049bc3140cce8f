"""What a deployment refuses or survives: damaged files, foreign releases, a crash, no network."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.enrolment.files import load_signing_key
from participant.deployment import log
from participant.deployment import service as service_module
from participant.deployment.active import MODELS, active_model
from participant.deployment.fetch import TRANSCRIPT_NAME, fetch_release, installed_path
from participant.deployment.state import FILE_NAME as STATE_NAME
from participant.deployment.state import ActiveStateDamaged
from participant.node.config import NodeConfig
from participant.node.registry_client import channel_factory
from participant.node.runtime import NodeRuntime
from participant.node.witnesses import WitnessFile
from shared.errors import NetworkError, NotFound, StateError, VerificationError
from shared.fleet.exchange import Answer, Instruction
from shared.model.bundle import FILE_NAME, UnverifiedBundle, seal_bundle
from shared.model.bundle_errors import BundleDigestError, BundleOriginError
from shared.model.bundle_manifest import BundleManifest
from shared.secagg import AnsweredRound
from shared.trust.transcript import TranscriptError, WitnessContradicted
from tests.support.deployment import SPEC, Member, NoNetwork, knowing, running, served_member
from tests.support.release import a_draft, a_record, run_id

GOOD, BAD = knowing(1.0), knowing(-1.0)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with served_member(tmp_path) as member:
        yield member


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
        member.deploy(release_id)
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
        member.deploy(asked)


def _point_row_at(member: Member, release_id: bytes, sha256: str) -> None:
    from sqlalchemy import text

    with member.database.engine.begin() as connection:
        connection.execute(
            text("update release set sha256 = :sha where release_id = :id"),
            {"sha": sha256, "id": release_id.hex()},
        )


def told(member: Member, **otherwise: bytes) -> None:
    """Let the member have been told of round 2 of the first run, truly or otherwise."""
    record = a_record(2)
    answered = AnsweredRound(2, record.slot, record.t2, record.bitmap(), dict(record.vectors)[3])
    (member.folder / "secsum").mkdir(exist_ok=True)
    kept = WitnessFile(member.folder / "secsum", run_id(1))
    kept.keep(3, replace(answered, **otherwise))


def by_deployment(member: Member, release_id: bytes) -> object:
    return member.deploy(release_id)


def by_hand(member: Member, release_id: bytes) -> object:
    return member.deployer().activate(release_id, channel_factory(member.folder))


def dry(member: Member, release_id: bytes) -> object:
    return member.deployer().check(release_id, channel_factory(member.folder))


def compared(member: Member, release_id: bytes) -> object:
    return member.deployer().compare(release_id, channel_factory(member.folder))


@pytest.mark.parametrize("way", [by_deployment, by_hand, dry, compared])
def test_a_transcript_that_contradicts_what_the_member_was_told_is_refused(member, way):
    release_id = member.publish(1, GOOD)
    told(member, t2=b"x" * 32)
    with pytest.raises(WitnessContradicted):
        way(member, release_id)
    assert running(member) is None
    assert not installed_path(member.folder, release_id).exists()
    told(member)
    way(member, release_id)
    assert installed_path(member.folder, release_id).exists() == (way is not dry)


@pytest.mark.parametrize("announced", [run_id(2), b"z" * 16], ids=["known", "made up"])
def test_naming_another_run_does_not_switch_the_witnesses_off(member, announced):
    release_id = member.publish(1, GOOD)
    told(member, t2=b"x" * 32)
    with pytest.raises(BundleOriginError, match="another run"):
        member.deploy(release_id, run_id=announced)
    node = NodeRuntime(member.folder, clock=member.clock)
    try:
        end = Instruction(run_id=announced, release_id=release_id)
        assert node.answer(node.ended, end) == Answer()
    finally:
        node.close()
    assert running(member) is None
    assert member.kinds_of_events().count("model.refused") == 2
    assert not installed_path(member.folder, release_id).exists()


def test_another_release_under_the_id_of_one_that_ran_is_refused(member):
    old, new = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    member.deploy(old)
    member.deploy(new)
    member.deployer().rollback()
    shutil.rmtree(installed_path(member.folder, new))
    folder = member.alliance.coordinator_dir / "releases" / new.hex()
    key, draft = load_signing_key(member.alliance.coordinator_dir), a_draft(2, SPEC, vector=BAD)
    manifest = BundleManifest.decode(UnverifiedBundle.read(folder).manifest_bytes)
    again = replace(manifest, transcript_head=draft.transcript.head)
    (folder / FILE_NAME).write_bytes(seal_bundle(again, BAD, key))
    (folder / TRANSCRIPT_NAME).write_bytes(draft.transcript.sign(key))
    _point_row_at(member, new, hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest())
    with pytest.raises(BundleDigestError, match="not the one that ran here"):
        member.deployer().activate(new, channel_factory(member.folder))
    assert not installed_path(member.folder, new).exists()
    assert running(member) == old.hex()


def test_a_signed_release_of_another_model_than_the_run_ended_with_is_refused(member):
    release_id = member.publish(1, GOOD)
    folder = member.alliance.coordinator_dir / "releases" / release_id.hex()
    key = load_signing_key(member.alliance.coordinator_dir)
    manifest = BundleManifest.decode(UnverifiedBundle.read(folder).manifest_bytes)
    swapped = seal_bundle(manifest, BAD, key)
    (folder / FILE_NAME).write_bytes(swapped)
    _point_row_at(member, release_id, hashlib.sha256(swapped).hexdigest())
    with pytest.raises(TranscriptError, match="last round"):
        member.deploy(release_id)
    assert running(member) is None


def test_a_changed_active_model_is_not_loaded_and_no_rival(member):
    first, second = member.publish(1, GOOD), member.publish(2, knowing(0.9))
    member.deploy(first)
    file = installed_path(member.folder, first) / FILE_NAME
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError):
        active_model(member.folder)
    assert member.deploy(second).decision == "activated"
    assert "model.unusable" in member.kinds_of_events()
    file.unlink()
    with pytest.raises(NotFound):
        member.deployer().rollback()
    assert running(member) == second.hex()


def test_a_damaged_state_file_is_a_clear_error(member):
    member.deploy(member.publish(1, GOOD))
    path = member.folder / MODELS / STATE_NAME
    body = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**body, "more": 1}), json.dumps(body)):
        path.write_text(text)
        with pytest.raises(ActiveStateDamaged):
            active_model(member.folder)


def test_a_state_file_of_a_newer_version_says_so(member):
    path = member.folder / MODELS / STATE_NAME
    member.deploy(member.publish(1, GOOD))
    body = {n: v for n, v in json.loads(path.read_text()).items() if n != "sha256"}
    text = json.dumps({**body, "schema_version": 3}, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    sealed = {**json.loads(text), "sha256": digest}
    path.write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")
    with pytest.raises(StateError, match="newer version"):
        active_model(member.folder)


def test_a_state_file_of_the_first_version_is_read_and_replaced(member):
    old, new = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    member.deploy(old)
    path = member.folder / MODELS / STATE_NAME
    body = json.loads(path.read_text())
    for name in ("sha256", "pinned"):
        del body[name]
    del body["active"]["head"]
    path.write_text(json.dumps({**body, "schema_version": 1}, indent=1, sort_keys=True) + "\n")
    assert running(member) == old.hex()
    assert member.deploy(new).decision == "activated"
    assert json.loads(path.read_text())["schema_version"] == 2
    assert member.deployer().rollback().release_id == old.hex()


def test_a_crash_before_the_log_is_made_up_for(member, monkeypatch):
    release_id = member.publish(1, GOOD)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(log, "record_activation", crash)
        with pytest.raises(KeyboardInterrupt):
            member.deploy(release_id)
    assert running(member) == release_id.hex()
    assert member.decisions() == []
    assert member.deploy(release_id).decision == "already_active"
    assert member.decisions() == [(release_id.hex(), "activate", "not_worse")]


def test_a_crash_before_the_switch_leaves_the_old_model(member, monkeypatch):
    first, second = member.publish(1, knowing(0.5)), member.publish(2, GOOD)
    member.deploy(first)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(service_module, "write_state", crash)
        with pytest.raises(KeyboardInterrupt):
            member.deploy(second)
    assert running(member) == first.hex()
    assert member.deploy(second).decision == "activated"


def test_a_broken_network_is_no_refusal(member):
    release_id = member.publish(1, GOOD)
    config = NodeConfig.load(member.folder)
    elsewhere = config.coordinator.model_copy(update={"port": 1})
    config.model_copy(update={"coordinator": elsewhere}).write(member.folder)
    with pytest.raises(NetworkError):
        member.deploy(release_id)
    assert member.kinds_of_events() == []
