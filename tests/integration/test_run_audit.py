"""Auditing a whole run from both sides: it holds, and every kind of tampering has its code."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.audit.run_audit import audit_run as coordinator_audit
from coordinator.cli.main import app as coordinator_app
from coordinator.db import Database
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds.launch import abort_run
from participant.cli.main import app as participant_app
from participant.deployment.fetch import TRANSCRIPT_NAME, fetch_release, installed_path
from participant.deployment.run_audit import audit_run as member_audit
from participant.node.registry_client import channel_factory
from participant.node.witnesses import WitnessFile
from shared.console import run_app
from shared.fleet.exchange import MASKED, UNMASK
from shared.model.bundle import FILE_NAME, UnverifiedBundle, seal_bundle
from shared.secagg import AnsweredRound
from shared.trust.round_record import RoundRecord
from shared.trust.transcript import Transcript, UnverifiedTranscript, model_sha256
from tests.support.alliance import Alliance
from tests.support.registry import serving
from tests.support.runs import SETTINGS, Federation, federation

LOST = 5
Records = tuple[RoundRecord, ...]


@dataclass
class Scene:
    """A finished run of two rounds, the second of which lost member 5, and its release."""

    root: Path
    alliance: Alliance
    run_id: str
    release_id: str

    @property
    def coordinator(self) -> Path:
        return self.alliance.coordinator_dir

    @property
    def member(self) -> Path:
        return self.alliance.dir_of("member-1")

    @property
    def published(self) -> Path:
        return self.coordinator / "releases" / self.release_id

    @property
    def installed(self) -> Path:
        return installed_path(self.member, bytes.fromhex(self.release_id))

    def copied(self, root: Path) -> Scene:
        """Return the same in another folder, to be tampered with."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        moved = {
            name: root / folder.relative_to(self.root)
            for name, folder in self.alliance.member_dirs.items()
        }
        folder = root / self.coordinator.relative_to(self.root)
        alliance = replace(self.alliance, coordinator_dir=folder, member_dirs=moved)
        return Scene(root, alliance, self.run_id, self.release_id)

    def bundle(self) -> Any:
        key = load_signing_key(self.coordinator).public_key().public_bytes_raw()
        return UnverifiedBundle.read(self.published).verify(
            key, expected_feature_space=None, min_sequence=1
        )

    def transcript(self) -> Transcript:
        key = load_signing_key(self.coordinator).public_key().public_bytes_raw()
        data = (self.published / TRANSCRIPT_NAME).read_bytes()
        return UnverifiedTranscript(data).verify(
            key,
            run_id=bytes.fromhex(self.run_id),
            manifest_hash=self.bundle().manifest.run_manifest_hash,
        )

    def tell(self, folder: Path, records: Iterable[RoundRecord]) -> None:
        """Let the coordinator sign other records, and a release that cites them."""
        key, bundle, old = load_signing_key(self.coordinator), self.bundle(), self.transcript()
        told = Transcript.start(old.run_id, old.manifest_hash)
        for record in records:
            told = told.append(record)
        manifest = replace(bundle.manifest, transcript_head=told.head, rounds=told.rounds_summed())
        (folder / FILE_NAME).write_bytes(seal_bundle(manifest, bundle.vector, key))
        (folder / TRANSCRIPT_NAME).write_bytes(told.sign(key))


def play(fed: Federation) -> Scene:
    fed.grid.lose_reply = lambda message: (
        message.metadata.message_type == MASKED
        and message.metadata.dst_node_id == LOST
        and message.metadata.group_id == "2"
    )
    run = fed.drive(
        fed.start(SETTINGS.model_copy(update={"rounds": 2, "mask_s": 3, "keep_masked": True}))
    )
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    assert run.release_id is not None
    await_end(fed, run.run_id)
    return Scene(fed.alliance.coordinator_dir.parent, fed.alliance, run.run_id, run.release_id)


def await_end(fed: Federation, run_id: str) -> None:
    """Wait until every member was told that the run is over; nobody waits for them otherwise."""
    kept = [folder / "secsum" for folder in fed.alliance.member_dirs.values()]
    deadline = time.monotonic() + 20
    while not all((folder / f"agreed-{run_id}.bin").exists() for folder in kept):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def install(scene: Scene) -> None:
    database = scene.alliance.database()
    with serving(scene.alliance, database):
        release_id = bytes.fromhex(scene.release_id)
        fetch_release(scene.member, release_id, channel_factory(scene.member), min_sequence=1)
    database.close()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    with federation(tmp_path_factory.mktemp("run")) as fed:
        scene = play(fed)
    install(scene)  # with the nodes gone: each would have fetched the release for itself
    assert [record.survivors for record in scene.transcript().records] == [
        (1, 2, 3, 4, 5),
        (1, 2, 3, 4),
    ]
    return scene


@pytest.fixture
def scene(played: Scene, tmp_path: Path) -> Scene:
    return played.copied(tmp_path / "copy")


@pytest.fixture
def database(scene: Scene) -> Iterator[Database]:
    opened = scene.alliance.database()
    yield opened
    opened.close()


Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def command(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run `run audit` as typed; return the exit code and the JSON data or error."""

    def run(side: str, *options: str, run_id: str = scene.run_id) -> tuple[int, dict[str, Any]]:
        mine = side == "member"
        app, folder = (
            (participant_app, scene.member) if mine else (coordinator_app, scene.coordinator)
        )
        words = ["touchstone", "run", "audit", run_id, "--dir", str(folder), *options, "--json"]
        monkeypatch.setattr(sys, "argv", words)
        status = run_app(app, "touchstone")
        answer = json.loads(capsys.readouterr().out)
        return status, answer.get("data") or answer["error"]

    return run


def found(scene: Scene, **more: object) -> dict[str, object]:
    return {
        "run_id": scene.run_id,
        "release_id": scene.release_id,
        "head": scene.transcript().head.hex(),
        "summed": 2,
        "burnt": 0,
        "certificates": 1,
        "witnesses": None,
        "vectors": None,
        **more,
    }


def test_an_honest_run_holds_at_the_coordinator(scene, command):
    assert command("coordinator") == (0, found(scene, vectors=5 + 4))
    assert command("coordinator", run_id=scene.run_id[:8]) == (0, found(scene, vectors=9))


def test_an_honest_run_holds_at_a_member_with_and_without_network(scene, command, database):
    assert command("member", "--offline") == (0, found(scene, witnesses=2))
    with serving(scene.alliance, database):
        assert command("member", run_id=scene.run_id[:6]) == (0, found(scene, witnesses=2))
        shutil.rmtree(scene.installed)
        assert command("member") == (0, found(scene, witnesses=2))


def test_a_member_that_kept_no_manifest_says_so(scene, command):
    (scene.member / "secsum" / f"agreed-{scene.run_id}.bin").unlink()
    assert command("member", "--offline") == (0, found(scene, witnesses=2, certificates=None))


def test_there_may_be_nothing_to_audit(scene, command, database):
    shutil.rmtree(scene.installed)
    assert command("member", "--offline")[0] == 3
    assert command("member", "--offline", run_id="f" * 32)[0] == 3
    assert command("coordinator", run_id="f" * 32)[0] == 3
    waiting = Run("e" * 32, database.clock.now(), 2)
    database.write("add", lambda unit: unit.runs.add(waiting))
    assert command("coordinator", run_id="e" * 32)[0] == 3


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def changed(records: Records, **changes: object) -> Records:
    """Return the records with the last one altered."""
    return (*records[:-1], replace(records[-1], **changes))


def forged(records: Records) -> Records:
    """Put the first signer's signature under the second one's name."""
    signed = records[-1].certificate
    certificate = (signed[0], (signed[1][0], signed[0][1]), *signed[2:])
    return changed(records, certificate=certificate)


def unsigned(records: Records) -> Records:
    return changed(records, certificate=records[-1].certificate[:3])


def uncertified(records: Records) -> Records:
    return changed(records, certificate=())


def stranger(records: Records) -> Records:
    last = records[-1]
    return changed(
        records,
        participants=(*last.participants, 9),
        survivors=(*last.survivors, 9),
        vectors=(*last.vectors, (9, bytes(32))),
    )


def slot_again(records: Records) -> Records:
    return changed(records, session_id=records[0].session_id, slot=records[0].slot)


def another_start(records: Records) -> Records:
    return (replace(records[0], model_sha256=b"x" * 32), *records[1:])


STORIES = [
    (forged, "survivor_certificate"),
    (unsigned, "survivor_certificate"),
    (uncertified, "survivor_certificate"),
    (stranger, "outside_manifest"),
    (slot_again, "outside_manifest"),
    (another_start, "outside_manifest"),
]


@pytest.mark.parametrize(("story", "code"), STORIES, ids=lambda item: getattr(item, "__name__", ""))
def test_a_story_the_manifest_or_the_keys_contradict_is_found_by_both(scene, command, story, code):
    records = story(scene.transcript().records)
    if code == "outside_manifest":  # or the witnesses would speak first
        (scene.member / "secsum" / f"witness-{scene.run_id}.bin").unlink()
    for folder, side in ((scene.published, "coordinator"), (scene.installed, "member")):
        scene.tell(folder, records)
        status, error = command(side, *(["--offline"] if side == "member" else []))
        assert (status, error["code"]) == (7, code)


def test_a_flipped_byte_of_the_published_transcript_is_found_by_both(scene, command):
    for folder in (scene.published, scene.installed):
        flip(folder / TRANSCRIPT_NAME, -70)
    for side, options in (("coordinator", []), ("member", ["--offline"])):
        status, error = command(side, *options)
        assert (status, error["code"]) == (7, "transcript")


def test_a_flipped_byte_of_the_model_is_found_by_both(scene, command):
    for folder in (scene.published, scene.installed):
        flip(folder / FILE_NAME, -1)
    for side, options in (("coordinator", []), ("member", ["--offline"])):
        status, error = command(side, *options)
        assert (status, error["code"]) == (7, "bundle_digest")


def journal(scene: Scene) -> Path:
    return scene.coordinator / "runs" / scene.run_id


def test_a_record_left_out_or_altered_in_the_journal(scene, command):
    last = journal(scene) / "transcript" / "00002.bin"
    whole = last.read_bytes()
    for tamper in (last.unlink, lambda: last.write_bytes(whole + b"x")):
        tamper()
        status, error = command("coordinator")
        assert (status, error["code"]) == (7, "journal_mismatch")
        assert "00002.bin" in error["message"]


def test_the_vectors_of_a_round_are_kept_of_its_survivors_alone(scene):
    kept = [path.name for path in (journal(scene) / "masked" / "00002").iterdir()]
    ends = ("u64", "header")
    assert sorted(kept) == sorted(f"0000{index}.{end}" for index in (1, 2, 3, 4) for end in ends)


def swap_headers(scene: Scene) -> None:
    kept = journal(scene) / "masked"
    shutil.copy(kept / "00001" / "00003.header", kept / "00002" / "00003.header")


TAMPERED = {
    "vector": lambda scene: flip(journal(scene) / "masked" / "00002" / "00003.u64", 0),
    "signature": lambda scene: flip(journal(scene) / "masked" / "00002" / "00003.header", -1),
    "another_round": swap_headers,
    "gone": lambda scene: (journal(scene) / "masked" / "00002" / "00003.u64").unlink(),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_kept_vector_that_is_not_what_its_member_signed(scene, command, tamper):
    tamper(scene)
    status, error = command("coordinator")
    assert (status, error["code"]) == (7, "kept_vector")
    assert "member 3's vector of round 2" in error["message"]


def test_another_model_in_the_journal(scene, command):
    flip(journal(scene) / "model-00002.f32", 0)
    status, error = command("coordinator")
    assert (status, error["code"]) == (7, "transcript_model")


def test_a_record_left_out_of_what_is_published_contradicts_the_witness(scene, command):
    vector = scene.bundle().vector
    first = scene.transcript().records[0]
    scene.tell(scene.installed, [replace(first, next_model_sha256=model_sha256(vector))])
    status, error = command("member", "--offline")
    assert (status, error["code"]) == (7, "witness_contradicted")


def test_another_model_released(scene, command):
    records = changed(scene.transcript().records, next_model_sha256=b"n" * 32)
    scene.tell(scene.installed, records)
    status, error = command("member", "--offline")
    assert (status, error["code"]) == (7, "transcript_model")


def test_a_release_that_claims_other_rounds(scene, command):
    bundle = scene.bundle()
    manifest = replace(bundle.manifest, rounds=9)
    sealed = seal_bundle(manifest, bundle.vector, load_signing_key(scene.coordinator))
    (scene.installed / FILE_NAME).write_bytes(sealed)
    status, error = command("member", "--offline")
    assert (status, error["code"]) == (7, "release_mismatch")


def test_a_witness_that_was_told_something_else(scene, command):
    first = scene.transcript().records[0]
    sent = dict(first.vectors)[1]
    told = AnsweredRound(1, first.slot, b"t" * 32, first.bitmap(), sent)
    WitnessFile(scene.member / "secsum", bytes.fromhex(scene.run_id)).keep(1, told)
    status, error = command("member", "--offline")
    assert (status, error["code"]) == (7, "witness_contradicted")


def test_a_transcript_told_anew_is_not_the_one_the_release_cites(scene, command, database):
    """The member holds yesterday's release; today's transcript is another one, well signed."""
    records = changed(scene.transcript().records, sum_sha256=b"s" * 32)
    scene.tell(scene.published, records)
    with serving(scene.alliance, database):
        status, error = command("member")
    assert (status, error["code"]) == (7, "release_mismatch")


def test_a_run_that_released_nothing_is_audited_as_far_as_it_went(tmp_path):
    with federation(tmp_path) as fed:
        run_id = fed.start(SETTINGS.model_copy(update={"unmask_s": 2}))

        def abort_in_round_two(message):
            if message.metadata.message_type == UNMASK and len(fed.rounds(run_id)) == 2:
                abort_run(fed.database, run_id, "a test")
            return False

        fed.grid.lose_reply = abort_in_round_two
        run = fed.drive(run_id)
        assert (run.state, run.release_id) == (RunState.ABORTED, None)
        report = coordinator_audit(fed.alliance.coordinator_dir, fed.database, run)
        assert (report.release_id, report.burnt, report.vectors) == (None, 0, None)
        assert not (fed.folder(run_id) / "masked").exists()
        await_end(fed, run_id)
        folder = fed.alliance.dir_of("member-1")
        with serving(fed.alliance, fed.database):
            seen = member_audit(folder, bytes.fromhex(run_id), channel_factory(folder))
        assert seen == replace(report, witnesses=report.summed)
        assert report.summed >= 1
