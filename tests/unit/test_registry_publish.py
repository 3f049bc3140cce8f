"""Publishing is files first, row second: a crash at any point is repaired by publishing again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.db import Database
from coordinator.registry import publish as publish_module
from coordinator.registry.publish import TRANSCRIPT_NAME, publish
from shared import files as files_module
from shared.errors import NotFound, StateError
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.layout import UnknownModel
from shared.trust.transcript import Transcript, TranscriptError, UnverifiedTranscript
from tests.support.release import ALLIANCE_ID, KEY, PUBLIC, a_coordinator, a_draft, run_id


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return a_coordinator(tmp_path)


def verified(folder: Path) -> VerifiedBundle:
    bundle = UnverifiedBundle.read(folder)
    return bundle.verify(
        PUBLIC, expected_feature_space=None, min_sequence=1, alliance_id=ALLIANCE_ID
    )


def test_publishes_a_verifiable_release_with_its_transcript(tmp_path, database):
    release_id = publish(database, tmp_path, a_draft(), signing_key=KEY)
    folder = tmp_path / "releases" / release_id.hex()
    bundle = verified(folder)
    np.testing.assert_array_equal(bundle.vector, a_draft().vector)
    assert bundle.manifest.release_id == release_id
    assert bundle.manifest.rounds == 3
    UnverifiedTranscript((folder / TRANSCRIPT_NAME).read_bytes()).verify(
        PUBLIC,
        run_id=run_id(1),
        manifest_hash=bundle.manifest.run_manifest_hash,
        head=bundle.manifest.transcript_head,
    )


def test_the_row_and_the_audit_log_tell_of_it(tmp_path, database):
    release_id = publish(database, tmp_path, a_draft(), signing_key=KEY).hex()
    row = database.read("get", lambda unit: unit.releases.get(release_id))
    data = (tmp_path / row.path / FILE_NAME).read_bytes()
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert database.read("run", lambda unit: unit.runs.get(run_id(1).hex())).release_id == (
        release_id
    )
    events = database.read("audit", lambda unit: unit.audit.events(kind="release.published"))
    assert [event.body["release_id"] for event in events] == [release_id]


def test_sequence_numbers_rise_by_one(tmp_path, database):
    for number in (1, 2):
        publish(database, tmp_path, a_draft(number), signing_key=KEY)
    found = database.read("all", lambda unit: unit.releases.all())
    assert [release.sequence for release in found] == [1, 2]
    folders = [tmp_path / release.path for release in found]
    assert [verified(folder).manifest.sequence for folder in folders] == [1, 2]


def test_publishing_again_changes_nothing(tmp_path, database):
    first = publish(database, tmp_path, a_draft(), signing_key=KEY)
    file = tmp_path / "releases" / first.hex() / FILE_NAME
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    database.clock.advance(3600)
    assert publish(database, tmp_path, a_draft(), signing_key=KEY) == first
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert len(database.read("all", lambda unit: unit.releases.all())) == 1


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (files_module, "write_atomic"),
        (files_module, "fsync_dir"),
        (publish_module, "write_folder"),
        (publish_module, "_record"),
    ],
)
def test_a_crash_at_any_step_is_repaired_by_publishing_again(
    tmp_path, database, module, step, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(module, step, _crash)
        with pytest.raises(KeyboardInterrupt):
            publish(database, tmp_path, a_draft(), signing_key=KEY)
    assert database.read("all", lambda unit: unit.releases.all()) == []
    release_id = publish(database, tmp_path, a_draft(), signing_key=KEY)
    assert verified(tmp_path / "releases" / release_id.hex()).manifest.sequence == 1
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == [
        ".lock",
        release_id.hex(),
    ]


def test_a_sequence_number_taken_after_a_crash_is_not_used_twice(tmp_path, database, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "_record", _crash)
        with pytest.raises(KeyboardInterrupt):
            publish(database, tmp_path, a_draft(1), signing_key=KEY)
    publish(database, tmp_path, a_draft(2), signing_key=KEY)
    late = publish(database, tmp_path, a_draft(1), signing_key=KEY)
    assert verified(tmp_path / "releases" / late.hex()).manifest.sequence == 2


@pytest.mark.parametrize("name", [FILE_NAME, TRANSCRIPT_NAME])
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_a_lost_or_damaged_file_is_put_back_byte_for_byte(tmp_path, database, name, damage):
    release_id = publish(database, tmp_path, a_draft(), signing_key=KEY)
    file = tmp_path / "releases" / release_id.hex() / name
    original = file.read_bytes()
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    database.clock.advance(60)
    publish(database, tmp_path, a_draft(), signing_key=KEY)
    assert file.read_bytes() == original


def test_another_model_cannot_replace_a_release(tmp_path, database):
    publish(database, tmp_path, a_draft(), signing_key=KEY)
    with pytest.raises(StateError):
        publish(database, tmp_path, a_draft(seed=8), signing_key=KEY)


def test_an_unknown_run_is_not_released(tmp_path, database):
    with pytest.raises(NotFound):
        publish(database, tmp_path, a_draft(9), signing_key=KEY)
    assert database.read("all", lambda unit: unit.releases.all()) == []


def test_a_model_that_the_run_did_not_end_with_is_not_released(tmp_path, database):
    for draft in (
        replace(a_draft(), vector=a_draft(seed=8).vector),
        replace(a_draft(), transcript=Transcript.start(run_id(1), b"m" * 32)),
    ):
        with pytest.raises(TranscriptError):
            publish(database, tmp_path, draft, signing_key=KEY)
    assert database.read("all", lambda unit: unit.releases.all()) == []


def test_a_broken_model_is_not_released(tmp_path, database):
    broken = a_draft().vector.copy()
    broken[0] = np.inf
    with pytest.raises(UnknownModel):
        publish(database, tmp_path, a_draft(vector=broken), signing_key=KEY)
    assert not any(path.is_dir() for path in (tmp_path / "releases").iterdir())


def _crash(*args, **kwargs):
    raise KeyboardInterrupt
