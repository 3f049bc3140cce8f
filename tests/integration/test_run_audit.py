"""Auditing a whole run from both sides: it holds, and every kind of tampering has its code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.audit.run_audit import audit_run as coordinator_audit
from coordinator.db import Database
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds.launch import abort_run
from participant.deployment.fetch import TRANSCRIPT_NAME
from participant.deployment.run_audit import audit_run as member_audit
from participant.node.registry_client import channel_factory
from participant.node.witnesses import WitnessFile
from shared.fleet.exchange import UNMASK
from shared.model.bundle import FILE_NAME, seal_bundle
from shared.secagg import AnsweredRound
from shared.trust.transcript import model_sha256
from tests.support.audited import Command, Records, Scene, await_end, changed, commands, flip, play
from tests.support.registry import serving
from tests.support.runs import federation


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return play(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scene(played: Scene, tmp_path: Path) -> Scene:
    return played.copied(tmp_path / "copy")


@pytest.fixture
def database(scene: Scene) -> Iterator[Database]:
    opened = scene.alliance.database()
    yield opened
    opened.close()


@pytest.fixture
def command(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return commands(scene, monkeypatch, capsys)


def found(scene: Scene, **more: object) -> dict[str, object]:
    return {
        "run_id": scene.run_id,
        "release_id": scene.release_id,
        "head": scene.transcript().head.hex(),
        "summed": 2,
        "burnt": 0,
        "certificates": 1,
        "witnesses": None,
        "evidence": None,
        "sums": None,
        **more,
    }


def test_an_honest_run_holds_at_the_coordinator(scene, command):
    assert command("coordinator") == (0, found(scene, evidence=2, sums=2))
    assert command("coordinator", run_id=scene.run_id[:8]) == (0, found(scene, evidence=2, sums=2))


def test_an_honest_run_holds_at_a_member_with_and_without_network(scene, command, database):
    assert command("member", "--offline") == (0, found(scene, witnesses=2))
    whole = found(scene, witnesses=2, evidence=2, sums=2)
    with serving(scene.alliance, database):
        assert command("member", run_id=scene.run_id[:6]) == (0, whole)
        assert command("member", "--no-sums") == (0, {**whole, "sums": None})
        shutil.rmtree(scene.installed)
        assert command("member") == (0, whole)


def test_a_member_that_kept_no_manifest_asks_for_it(scene, command, database):
    (scene.member / "secsum" / f"agreed-{scene.run_id}.bin").unlink()
    assert command("member", "--offline") == (0, found(scene, witnesses=2, certificates=None))
    with serving(scene.alliance, database):
        assert command("member") == (0, found(scene, witnesses=2, evidence=2, sums=2))


def test_there_may_be_nothing_to_audit(scene, command, database):
    shutil.rmtree(scene.installed)
    assert command("member", "--offline")[0] == 3
    assert command("member", "--offline", run_id="f" * 32)[0] == 3
    assert command("coordinator", run_id="f" * 32)[0] == 3
    waiting = Run("e" * 32, database.clock.now(), 2)
    database.write("add", lambda unit: unit.runs.add(waiting))
    assert command("coordinator", run_id="e" * 32)[0] == 3


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
    first = records[0]
    return changed(records, session_id=first.session_id, ordinal=first.ordinal, slot=first.slot)


def session_again(records: Records) -> Records:
    return changed(records, session_id=b"s" * 16, ordinal=records[0].ordinal)


def another_start(records: Records) -> Records:
    return (replace(records[0], model_sha256=b"x" * 32), *records[1:])


STORIES = [
    (forged, "survivor_certificate"),
    (unsigned, "survivor_certificate"),
    (uncertified, "survivor_certificate"),
    (stranger, "outside_manifest"),
    (slot_again, "outside_manifest"),
    (session_again, "outside_manifest"),
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


def test_a_record_left_out_or_altered_in_the_journal(scene, command):
    last = scene.journal / "transcript" / "00002.bin"
    whole = last.read_bytes()
    for tamper in (last.unlink, lambda: last.write_bytes(whole + b"x")):
        tamper()
        status, error = command("coordinator")
        assert (status, error["code"]) == (7, "journal_mismatch")
        assert "00002.bin" in error["message"]


def test_another_model_in_the_journal(scene, command):
    flip(scene.journal / "model-00002.f32", 0)
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
        run_id = fed.start()

        def abort_in_round_two(message):
            if message.metadata.message_type == UNMASK and len(fed.rounds(run_id)) == 2:
                abort_run(fed.database, run_id, "a test")
            return False

        fed.grid.lose_reply = abort_in_round_two
        run = fed.drive(run_id)
        assert (run.state, run.release_id) == (RunState.ABORTED, None)
        report = coordinator_audit(fed.alliance.coordinator_dir, fed.database, run)
        assert (report.release_id, report.burnt, report.sums) == (None, 0, None)
        assert report.evidence == report.summed
        assert not (fed.folder(run_id) / "masked").exists()
        await_end(fed, run_id)
        folder = fed.alliance.dir_of("member-1")
        with serving(fed.alliance, fed.database):
            seen = member_audit(folder, bytes.fromhex(run_id), channel_factory(folder))
        assert seen == replace(report, witnesses=report.summed)
        assert report.summed >= 1
