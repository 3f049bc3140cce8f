"""The registry over real gRPC and mutual TLS: members read, everybody else is refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from alliance.v1 import registry_pb2 as pb

from coordinator.db import Database
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.service import revoke, roster
from coordinator.registry.publish import TRANSCRIPT_NAME
from participant.node.config import NodeConfig
from participant.node.registry_client import (
    RegistryClient,
    _collect,
    channel_factory,
    fetch_roster,
    registry,
)
from shared.encoding import Writer
from shared.errors import AuthError, MalformedMessage, MemberRevoked, NotFound, StorageError
from shared.fleet.errors import DigestMismatch, MessageTooLarge
from shared.limits import CHUNK_BYTES
from shared.model.bundle import FILE_NAME, UnverifiedBundle
from shared.model.layout import ModelSpec
from shared.trust.errors import ConnectionCut
from shared.trust.keys import new_identity_key
from shared.trust.manifest import SIGNED_DOMAIN
from shared.trust.round_record import RoundRecord
from shared.trust.signed_roster import RosterSignatureError, sign_roster, verify_roster
from shared.trust.transcript import UnverifiedTranscript
from tests.support.alliance import Alliance, found_alliance
from tests.support.registry import release, serving
from tests.support.release import a_draft, a_record, run_id


@dataclass
class Bench:
    alliance: Alliance
    database: Database

    def client(self, member: str = "a"):
        return registry(channel_factory(self.alliance.dir_of(member)))

    @property
    def public_key(self) -> bytes:
        return load_signing_key(self.alliance.coordinator_dir).public_key().public_bytes_raw()


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory) -> Bench:
    alliance = found_alliance(tmp_path_factory.mktemp("alliance"), ["a", "b", "c"])
    database = alliance.database()
    with serving(alliance, database):
        yield Bench(alliance, database)
    database.close()


@pytest.fixture(scope="module")
def released(module_bench: Bench) -> bytes:
    return release(module_bench.alliance, module_bench.database)


@pytest.fixture
def bench(module_bench: Bench, released: bytes) -> Bench:
    return module_bench


def test_lists_fetches_and_verifies_a_release(bench, released):
    with bench.client() as client:
        (line,) = [one for one in client.releases() if one.release_id == released.hex()]
        data = client.bundle(released)
        transcript = client.transcript(bytes.fromhex(line.run_id))
    assert len(data) == line.total_bytes
    verified = UnverifiedBundle.read(data).verify(
        bench.public_key, expected_feature_space=None, min_sequence=1, release_id=released
    )
    UnverifiedTranscript(transcript).verify(
        bench.public_key,
        run_id=verified.manifest.run_id,
        manifest_hash=verified.manifest.run_manifest_hash,
        head=verified.manifest.transcript_head,
    )


def test_a_bundle_of_many_chunks_arrives_whole(bench):
    spec = ModelSpec(hash_bits=15, embed_dim=8, hidden=2)
    assert 4 * spec.n_params > 2 * CHUNK_BYTES
    release_id = release(bench.alliance, bench.database, a_draft(2, spec))
    with bench.client("b") as client:
        data = client.bundle(release_id)
    path = bench.alliance.coordinator_dir / "releases" / release_id.hex() / FILE_NAME
    assert data == path.read_bytes()


def test_the_newest_release_comes_first_and_the_limit_holds(bench):
    release(bench.alliance, bench.database, a_draft(3))
    with bench.client() as client:
        everything, one = client.releases(), client.releases(limit=1)
    sequences = [line.sequence for line in everything]
    assert sequences == sorted(sequences, reverse=True)
    assert one == everything[:1]


def test_unknown_and_malformed_ids_are_refused(bench):
    with bench.client() as client:
        with pytest.raises(NotFound):
            client.bundle(b"x" * 16)
        with pytest.raises(NotFound):
            client.transcript(b"x" * 16)
        with pytest.raises(MalformedMessage):
            client.bundle(b"x")


def test_the_transcript_of_an_unfinished_run_is_signed_as_far_as_it_goes(bench):
    body = b"a run manifest"
    signed = Writer(SIGNED_DOMAIN).blob(body).fixed(bytes(64), 64).done()
    run = Run(run_id(8).hex(), bench.database.clock.now(), 3, RunState.RUNNING, manifest=signed)
    bench.database.write("add", lambda unit: unit.runs.add(run))
    folder = bench.alliance.coordinator_dir / "runs" / run.run_id / "transcript"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number:05}.bin").write_bytes(a_record(number).encode())
    with bench.client() as client:
        data = client.transcript(run_id(8))
    transcript = UnverifiedTranscript(data).verify(
        bench.public_key, run_id=run_id(8), manifest_hash=hashlib.sha256(body).digest()
    )
    assert transcript.records == (a_record(1), a_record(2))
    assert RoundRecord.decode((folder / "00001.bin").read_bytes()) == a_record(1)


def test_the_transcript_of_a_run_that_never_began_is_not_found(bench):
    run = Run(run_id(9).hex(), bench.database.clock.now(), 3, RunState.PENDING)
    bench.database.write("add", lambda unit: unit.runs.add(run))
    with bench.client() as client, pytest.raises(NotFound):
        client.transcript(run_id(9))


def test_a_file_lost_at_the_coordinator_is_a_clear_error(bench):
    release_id = release(bench.alliance, bench.database, a_draft(4))
    folder = bench.alliance.coordinator_dir / "releases" / release_id.hex()
    moved = {name: (folder / name).read_bytes() for name in (FILE_NAME, TRANSCRIPT_NAME)}
    for name in moved:
        (folder / name).unlink()
    try:
        with bench.client() as client:
            with pytest.raises(StorageError):
                client.bundle(release_id)
            with pytest.raises(StorageError):
                client.transcript(run_id(4))
    finally:
        for name, data in moved.items():
            (folder / name).write_bytes(data)


def test_the_roster_is_the_current_one(bench):
    assert fetch_roster(bench.alliance.dir_of("a")) == roster(bench.database)


def test_a_roster_of_another_signer_or_alliance_is_refused(bench):
    current = roster(bench.database)
    key = load_signing_key(bench.alliance.coordinator_dir)
    encoded, signature = current.encode(), sign_roster(current, key)
    assert verify_roster(encoded, signature, bench.public_key, current.alliance_id) == current
    forged = sign_roster(current, new_identity_key())
    with pytest.raises(RosterSignatureError):
        verify_roster(encoded, forged, bench.public_key, current.alliance_id)
    with pytest.raises(RosterSignatureError):
        verify_roster(encoded, signature, bench.public_key, b"x" * 16)


def test_a_member_of_another_alliance_is_refused(bench, tmp_path: Path):
    other = found_alliance(tmp_path, ["a"])
    config = NodeConfig.load(bench.alliance.dir_of("a"))
    stranger = NodeConfig.load(other.dir_of("a"))
    moved = stranger.model_copy(update={"coordinator": config.coordinator})
    moved.write(other.dir_of("a"))
    with (
        registry(channel_factory(other.dir_of("a"))) as client,
        pytest.raises((AuthError, ConnectionCut)),
    ):
        client.releases()


def test_a_caller_without_a_certificate_is_refused(bench):
    ca = (bench.alliance.dir_of("a") / "keys" / "ca.pem").read_bytes()
    with (
        grpc.secure_channel(bench.alliance.authority, grpc.ssl_channel_credentials(ca)) as channel,
        pytest.raises(ConnectionCut),
    ):
        RegistryClient(channel).releases()


def test_a_revoked_member_is_refused_on_an_open_channel(bench):
    with bench.client("c") as client:
        assert client.releases()
        revoke(bench.database, "c")
        for call in (
            client.releases,
            client.roster,
            lambda: client.bundle(b"x" * 16),
            lambda: client.transcript(b"x" * 16),
        ):
            with pytest.raises(MemberRevoked):
                call()


def header(data: bytes, total: int | None = None) -> pb.FilePart:
    total = len(data) if total is None else total
    sha256 = hashlib.sha256(data).digest()
    return pb.FilePart(header=pb.FileHeader(total_bytes=total, sha256=sha256))


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], MalformedMessage),
        ([pb.FilePart(chunk=b"abc")], MalformedMessage),
        ([header(b"abc"), pb.FilePart(chunk=b"abd")], DigestMismatch),
        ([header(b"abc"), pb.FilePart(chunk=b"ab")], DigestMismatch),
        ([header(b"abc"), pb.FilePart(chunk=b"abcd")], MalformedMessage),
        ([header(b"abc"), header(b"abc")], MalformedMessage),
        ([header(b"abc", total=1 << 40)], MessageTooLarge),
    ],
)
def test_a_damaged_transfer_is_refused(parts, error):
    with pytest.raises(error):
        _collect(parts, limit=1000)
    assert _collect([header(b"abc"), pb.FilePart(chunk=b"abc")], limit=1000) == b"abc"
