"""A coordinator that signs whatever it likes: what the run's evidence says against it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.db import Database
from shared.secagg import RoundEvidence
from shared.trust.transcript import model_sha256
from tests.support.audited import Command, Records, Scene, changed, commands, flip, play
from tests.support.registry import serving

Finds = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return play(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scene(played: Scene, tmp_path: Path) -> Scene:
    return played.copied(tmp_path / "copy")


@pytest.fixture
def command(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return commands(scene, monkeypatch, capsys)


@pytest.fixture
def member_finds(scene: Scene, command: Command) -> Iterator[Finds]:
    """Audit at the member, over the network; return the exit code with the error's code."""
    database: Database = scene.alliance.database()

    def audit(*options: str) -> tuple[int, str]:
        with serving(scene.alliance, database):
            status, data = command("member", *options)
        return status, data.get("code", "")

    yield audit
    database.close()


def tell(scene: Scene, records: Records, vector: np.ndarray | None = None) -> None:
    """Publish another story, to the member that has the release as well, all of it well signed."""
    for folder in (scene.published, scene.installed):
        scene.tell(folder, records, vector)
    for record in records:
        (scene.journal / "transcript" / f"{record.round:05}.bin").write_bytes(record.encode())


def evidence_of(scene: Scene, number: int) -> Path:
    return scene.journal / "evidence" / f"{number:05}.bin"


def setup_of(scene: Scene) -> Path:
    session = scene.transcript().records[-1].session_id
    return scene.journal / "setups" / f"{session.hex()}.bin"


def vector_of(scene: Scene, number: int, member: int) -> Path:
    return scene.journal / "masked" / f"{number:05}" / f"{member:05}.u64"


def test_the_vectors_of_a_round_are_kept_of_its_survivors_alone(scene):
    kept = [path.name for path in (scene.journal / "masked" / "00002").iterdir()]
    assert sorted(kept) == [f"0000{index}.u64" for index in (1, 2, 3, 4)]


FILES = {
    "round": (lambda scene: flip(evidence_of(scene, 1), 200), "round_evidence"),
    "round_gone": (lambda scene: evidence_of(scene, 1).unlink(), "round_evidence"),
    "setup": (lambda scene: flip(setup_of(scene), 200), "round_evidence"),
    "setup_gone": (lambda scene: setup_of(scene).unlink(), "round_evidence"),
    "vector": (lambda scene: flip(vector_of(scene, 2, 3), 0), "kept_vector"),
    "vector_of_another_round": (
        lambda scene: shutil.copy(vector_of(scene, 1, 3), vector_of(scene, 2, 3)),
        "kept_vector",
    ),
    "vector_gone": (lambda scene: vector_of(scene, 2, 3).unlink(), "kept_vector"),
    "first_model": (lambda scene: flip(scene.journal / "model-00000.f32", 0), "recomputed_sum"),
}


@pytest.mark.parametrize(("tamper", "code"), FILES.values(), ids=FILES)
def test_a_file_that_is_not_what_the_transcript_names(scene, command, member_finds, tamper, code):
    tamper(scene)
    status, error = command("coordinator")
    assert (status, error["code"]) == (7, code)
    # Files travel under the very hashes that the transcript names: the transfer may find it first.
    status, found = member_finds()
    assert status == 7
    assert found in (code, "digest_mismatch")


def test_vectors_that_are_all_gone(scene, command, member_finds):
    """The signed manifest promises them: who deletes them all has broken its word."""
    shutil.rmtree(scene.journal / "masked")
    status, error = command("coordinator")
    assert (status, error["code"]) == (7, "kept_vector")
    assert "promises" in error["message"]
    assert member_finds() == (7, "kept_vector")


def bound(scene: Scene, alter: Callable[[RoundEvidence], RoundEvidence]) -> Records:
    """Replace the last round's evidence; return records that name the new one."""
    path = evidence_of(scene, 2)
    evidence = alter(RoundEvidence.decode(path.read_bytes()))
    path.write_bytes(evidence.encode())
    return changed(scene.transcript().records, evidence_sha256=evidence.digest())


def altered_share(evidence: RoundEvidence) -> RoundEvidence:
    (index, answer), *others = evidence.answers
    data = bytearray(answer)
    data[-100] ^= 1
    return replace(evidence, answers=((index, bytes(data)), *others))


def fewer_shares(evidence: RoundEvidence) -> RoundEvidence:
    return replace(evidence, answers=evidence.answers[:3])


def swapped_headers(evidence: RoundEvidence) -> RoundEvidence:
    (a, first), (b, second), *others = evidence.headers
    return replace(evidence, headers=((a, second), (b, first), *others))


def no_record(evidence: RoundEvidence) -> RoundEvidence:
    return replace(evidence, records=())


ALTERED = [altered_share, fewer_shares, swapped_headers, no_record]


@pytest.mark.parametrize("alter", ALTERED)
def test_evidence_that_was_made_to_fit_is_not_what_members_signed(scene, member_finds, alter):
    tell(scene, bound(scene, alter))
    assert member_finds() == (7, "round_evidence")


def another_vector(scene: Scene) -> Records:
    """Replace a masked vector, with its hash in the record."""
    path = vector_of(scene, 2, 3)
    flip(path, 100)
    digest = hashlib.sha256(path.read_bytes()).digest()
    last = scene.transcript().records[-1]
    vectors = tuple((u, digest if u == 3 else known) for u, known in last.vectors)
    return changed(scene.transcript().records, vectors=vectors)


def another_session_number(scene: Scene) -> Records:
    first, second = scene.transcript().records
    return (replace(first, session_id=b"s" * 16), replace(second, ordinal=second.ordinal + 1))


def another_sum(scene: Scene) -> Records:
    return changed(scene.transcript().records, sum_sha256=b"s" * 32)


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (another_vector, "round_evidence"),
        (another_session_number, "survivor_certificate"),
        (another_sum, "recomputed_sum"),
    ],
)
def test_a_record_that_the_evidence_contradicts(scene, member_finds, story, code):
    tell(scene, story(scene))
    assert member_finds() == (7, code)


def test_a_model_with_a_back_door_is_not_the_one_that_the_vectors_make(scene, member_finds):
    """Chain, signatures, certificates, witnesses and evidence all hold: only the sum does not."""
    vector = scene.bundle().vector.copy()
    vector[:10] += np.float32(1)
    records = changed(scene.transcript().records, next_model_sha256=model_sha256(vector))
    tell(scene, records, vector)
    assert member_finds("--no-sums") == (0, "")
    assert member_finds() == (7, "recomputed_sum")


def test_a_model_that_the_members_were_not_shown(scene, member_finds):
    """Round 1 is said to have made another model: round 2's members signed for the real one."""
    first, second = scene.transcript().records
    other = b"m" * 32
    tell(
        scene,
        (replace(first, next_model_sha256=other), replace(second, model_sha256=other)),
    )
    assert member_finds("--no-sums") == (7, "round_evidence")
    assert member_finds() == (7, "recomputed_sum")
