"""What runs is damaged or gone: the same command that put it there makes it whole again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from participant.deployment import local_model
from participant.deployment.active import MODELS, TRANSCRIPT_NAME, active_model
from participant.deployment.fetch import installed_path
from participant.deployment.local_model import LocalModel, own_model
from participant.deployment.state import LOCAL_ID, Activation, read_state
from participant.node.registry_client import channel_factory
from participant.store import Store
from participant.training.baseline import LocalModel as Fitted
from shared.errors import Exit, NotFound, VerificationError
from shared.model.bundle import FILE_NAME
from tests.support.deployment import (
    SPEC,
    Member,
    flip,
    knowing,
    records,
    running,
    served_member,
)

torch.set_num_threads(1)
OWN = records(160, own=0.8)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with served_member(tmp_path) as member:
        yield member


def active(member: Member) -> Activation:
    found = read_state(member.folder / MODELS).active
    assert found is not None
    return found


def broken(member: Member) -> bool:
    try:
        active_model(member.folder)
    except (NotFound, VerificationError):
        return True
    return False


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / FILE_NAME),
        lambda folder: flip(folder / TRANSCRIPT_NAME),
        lambda folder: (folder / FILE_NAME).unlink(),
        shutil.rmtree,
    ],
    ids=["bundle", "transcript", "no bundle", "no folder"],
)
def test_a_release_is_fetched_again_with_its_head_and_calibration(member, damage):
    old, new = (member.publish(n, knowing(0.35 * n)) for n in (1, 2))
    factory, deployer = channel_factory(member.folder), member.deployer(OWN)
    for release_id in (old, new):
        deployer.activate(release_id, factory)
    deployer.rollback()  # what runs need not be the newest that ever ran
    before = active(member)
    assert before.head is not None
    damage(installed_path(member.folder, old))
    assert broken(member)
    assert deployer.check(old, factory) == "would_repair"
    assert broken(member), "a dry run changes nothing"
    outcome = deployer.activate(old, factory)
    assert (outcome.decision, outcome.reason) == ("repaired", "repaired")
    assert (outcome.calibrated, outcome.head) == (True, before.head.setting)
    assert active(member) == before
    assert active_model(member.folder).release_id == old.hex()
    assert member.kinds_of_events()[-1] == "model.repaired"
    assert deployer.activate(old, factory).decision == "already_active"
    damage(installed_path(member.folder, old))
    assert deployer.deploy(old, factory).decision == "repaired"


def test_without_the_network_a_damaged_release_stays_damaged(member):
    release_id = member.publish(1, knowing(0.5))
    member.deployer().activate(release_id, channel_factory(member.folder))
    flip(installed_path(member.folder, release_id) / FILE_NAME)
    with pytest.raises(NotFound):
        member.deployer().activate(release_id, None)
    assert broken(member)


def test_a_damaged_head_is_fitted_again(member):
    release_id, factory = member.publish(1, knowing(0.7)), channel_factory(member.folder)
    deployer = member.deployer(OWN)
    deployer.activate(release_id, factory)
    head = active(member).head
    assert head is not None
    flip(member.folder / MODELS / head.path)
    assert broken(member)
    assert deployer.check(release_id, factory) == "would_activate"
    outcome = deployer.activate(release_id, factory)
    assert (outcome.decision, outcome.head) == ("activated", head.setting)
    assert running(member) == release_id.hex()


def test_a_damaged_local_model_that_runs_is_fitted_again(member):
    member.deployer().activate_local()
    before = active(member)
    path = member.folder / MODELS / before.path
    data = path.read_bytes()
    for at in [*range(0, 300, 3), *range(0, len(data), 997), len(data) - 1]:
        flip(path, at)
        with pytest.raises(VerificationError) as caught:
            active_model(member.folder)
        assert caught.value.exit_code == Exit.VERIFICATION, at
        path.write_bytes(data)
    flip(path, len(data) // 2)
    assert member.deployer().check_local() == "would_repair"
    assert member.deployer().activate_local().decision == "repaired"
    assert (active(member), path.read_bytes()) == (before, data)
    assert member.kinds_of_events()[-2:] == ["model.refitted", "model.repaired"]
    assert member.deployer().activate_local().decision == "already_active"


def test_a_flipped_byte_in_the_kept_local_model_is_no_rival_and_does_not_run(member):
    release_id, factory = member.publish(1, knowing(0.05)), channel_factory(member.folder)
    _, honest = member.deployer().compare(release_id, factory)
    (path,) = (member.folder / MODELS / "local").iterdir()
    vector = LocalModel.decode(path.read_bytes()).vector
    first = path.read_bytes().index(np.ascontiguousarray(vector, dtype="<f4").tobytes())
    flip(path, first + 4 * int(np.argmax(np.abs(vector))) + 2)
    _, judged = member.deployer().compare(release_id, factory)
    assert judged.verdict == honest.verdict
    assert member.kinds_of_events()[-1] == "model.refitted"
    flip(path, first)
    assert member.deployer().activate_local().decision == "activated_local"
    np.testing.assert_array_equal(active_model(member.folder).vector, vector)
    assert running(member) == LOCAL_ID


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let a fit cost nothing; returns how many there were."""
    count = 0

    def fit(_records: object) -> Fitted:
        nonlocal count
        count += 1
        return Fitted(knowing(0.1), "logistic", "C 1", 0.5, 0.5, "calibration")

    monkeypatch.setattr(local_model, "fit_local", fit)
    return lambda: count


def test_any_flipped_byte_of_the_kept_local_model_is_noticed(tmp_path, fits):
    own = records(60)
    told: list[str] = []
    kept = own_model(tmp_path, own, "listing", told.append)
    path = tmp_path / kept.path
    data = path.read_bytes()
    assert kept.sha256 == hashlib.sha256(data).hexdigest()
    assert (fits(), told) == (1, [])
    head = len(data) - 4 * SPEC.n_params
    places = [*range(0, head, 3), *range(head, len(data), 997), len(data) - 1]
    for number, at in enumerate(places, start=1):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        again = own_model(tmp_path, own, "listing", told.append)
        assert (fits(), len(told)) == (1 + number, number), at
        assert (again.sha256, path.read_bytes()) == (kept.sha256, data), at
    assert own_model(tmp_path, own, "listing", told.append).path == kept.path
    assert fits() == 1 + len(places)


def test_what_a_killed_process_was_writing_is_removed(member):
    models = member.folder / MODELS
    release_id = member.publish(1, knowing(0.5))
    member.deployer(OWN).activate(release_id, channel_factory(member.folder))
    names = [".active.json.1.ab.part", "heads/.x.head.1.ab.part", "local/.y.model.1.ab.part"]
    for name in names:
        (models / name).write_bytes(b"half")
    half = models / "releases" / f".{release_id.hex()}.part"
    half.mkdir()
    (half / FILE_NAME).write_bytes(b"half")
    member.deployer(OWN).unpin()
    assert list(models.rglob("*.part")) == []
    assert running(member) == release_id.hex()
    Store.open(member.folder).close()
