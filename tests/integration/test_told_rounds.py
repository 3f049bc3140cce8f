"""What the coordinator signed, kept by a member, shows others that it has told two stories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.enrolment.files import load_signing_key
from participant.node.told_rounds import ToldRounds
from shared.errors import VerificationError
from shared.secagg import SetupEvidence, peek
from shared.secagg.recompute import verify_setup
from shared.trust.audit import verify_past_manifest
from shared.trust.round_record import RoundRecord
from shared.trust.session import session_terms
from shared.trust.told import SignedRound
from shared.trust.transcript import model_sha256
from tests.support.audited import LOST, Command, Scene, changed, commands, play


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return play(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scene(played: Scene, tmp_path: Path) -> Iterator[Scene]:
    return played.copied(tmp_path / "copy")


@pytest.fixture
def command(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return commands(scene, monkeypatch, capsys)


def key_of(scene: Scene) -> bytes:
    return load_signing_key(scene.coordinator).public_key().public_bytes_raw()


def kept(folder: Path, scene: Scene) -> ToldRounds:
    return ToldRounds(folder / "secsum", bytes.fromhex(scene.run_id))


def signed(scene: Scene, number: int) -> SignedRound:
    found = kept(scene.member, scene).read(number)
    assert found is not None
    return found


def session_t1c(scene: Scene, record: RoundRecord) -> bytes:
    """Return T1c of a record's session, from what was published of it."""
    manifest = verify_past_manifest((scene.journal / "manifest.bin").read_bytes(), key_of(scene))
    terms = session_terms(manifest, record.session_id, record.ordinal, record.group)
    path = scene.journal / "setups" / f"{record.session_id.hex()}.bin"
    return verify_setup(terms, SetupEvidence.decode(path.read_bytes())).t1c


def test_every_member_keeps_what_was_signed_in_the_rounds_it_answered(played):
    """The first round was opened by an unmask request, the second by a release request."""
    records = played.transcript().records
    for name, folder in played.alliance.member_dirs.items():
        for record in records:
            found = kept(folder, played).read(record.round)
            if name == f"member-{LOST}" and record.round == 2:
                assert found is None
                continue
            assert found is not None
            told = found.verify(key_of(played))
            assert (told.t2, told.bitmap) == (record.t2, record.bitmap())
            assert (told.session_id, told.ordinal) == (record.session_id, record.ordinal)
            assert told.request.t2(session_t1c(played, record)) == record.t2
            asked = (told.request.round, told.request.slot, told.request.participants)
            assert asked == (record.round, record.slot, record.participants)
            assert told.holds_for(played.transcript())
    kinds = [peek(signed(played, number).answered).kind for number in (1, 2)]
    assert kinds == ["unmask", "release"]
    assert max(len(signed(played, number).encode()) for number in (1, 2)) < 5000


def test_no_byte_of_it_can_be_changed_and_nobody_else_can_have_signed_it(played):
    whole = signed(played, 2)
    data = whole.encode()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(VerificationError):
            SignedRound.decode(bytes(flipped)).verify(key_of(played))
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(VerificationError):
        whole.verify(stranger)
    for mixed in (
        replace(whole, masked=whole.answered),
        replace(whole, answered=whole.masked),
    ):
        with pytest.raises(VerificationError):
            mixed.verify(key_of(played))


def test_a_member_cannot_make_a_contradiction_of_honest_requests(played):
    one, two = signed(played, 1), signed(played, 2)
    for mixed in (replace(one, masked=two.masked), replace(two, masked=one.masked)):
        assert mixed.verify(key_of(played)).holds_for(played.transcript())


def left_out(scene: Scene) -> tuple[list[RoundRecord], int]:
    first = scene.transcript().records[0]
    return [replace(first, next_model_sha256=model_sha256(scene.bundle().vector))], 2


def another_set(scene: Scene) -> tuple[list[RoundRecord], int]:
    records = scene.transcript().records
    first = replace(records[0], survivors=(1, 2, 3, 4), vectors=records[0].vectors[:4])
    return [first, *records[1:]], 1


def another_t2(scene: Scene) -> tuple[list[RoundRecord], int]:
    records = scene.transcript().records
    return list(changed(records, t2=b"t" * 32)), 2


@pytest.mark.parametrize("lie", [left_out, another_set, another_t2])
def test_an_audit_says_where_the_proof_of_a_contradiction_lies(scene, command, lie):
    records, number = lie(scene)
    scene.tell(scene.installed, records)
    status, error = command("member", "--offline")
    assert (status, error["code"]) == (7, "witness_contradicted")
    path = kept(scene.member, scene).path(number)
    assert str(path) in error["hint"]
    # Whoever has the coordinator's public key and the transcript needs nothing else.
    told = SignedRound.decode(path.read_bytes()).verify(key_of(scene))
    assert not told.holds_for(scene.transcript_of(scene.installed))
    assert told.holds_for(scene.transcript_of(scene.published))


def test_without_a_proof_none_is_named(scene, command):
    """Rounds answered under an earlier version, and what only the member itself has signed."""
    records, _ = another_t2(scene)
    last = scene.transcript().records[-1]
    vectors = tuple((u, b"v" * 32 if u == 1 else digest) for u, digest in last.vectors)
    own = list(changed(scene.transcript().records, vectors=vectors))
    for story_told, proof in ((own, True), (records, False)):
        if not proof:
            shutil.rmtree(kept(scene.member, scene).path(1).parent)
        scene.tell(scene.installed, story_told)
        status, error = command("member", "--offline")
        assert (status, error["code"]) == (7, "witness_contradicted")
        assert "signed is in" not in error["hint"]
