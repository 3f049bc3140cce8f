"""Every decoder that a peer, a file or the network can feed, with valid examples to start from.

A target takes bytes and either returns or raises one of the project's typed errors. Where a value
has one encoding, what was accepted must encode to the very bytes that were read.
"""

from __future__ import annotations

import functools
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import shared.fleet.environment  # noqa: F401

# isort: split
import numpy as np
from alliance.v1 import fleet_pb2 as pb
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, RecordDict
from google.protobuf.message import DecodeError

from coordinator.rounds.drawing import Progress
from coordinator.rounds.journal import Checkpoint, decode_excluded, encode_excluded
from participant.deployment.head import HeadFile
from participant.deployment.local_model import LocalModel
from participant.node.drawings import Drawn
from participant.node.witnesses import DOMAIN as WITNESS_DOMAIN
from participant.node.witnesses import WitnessFile
from participant.training.personal import Head
from shared.encoding import Writer
from shared.errors import BadInput, PolicyRefused, VerificationError
from shared.fleet import messages as fleet
from shared.fleet.chunks import Assembly, opening, pieces
from shared.model.bundle import UnverifiedBundle
from shared.model.bundle_manifest import BundleManifest
from shared.model.layout import ModelSpec
from shared.secagg import (
    Coordinator,
    Quantiser,
    RoundEvidence,
    RunGuard,
    SessionTerms,
    SetupEvidence,
    wire,
)
from shared.secagg.coordinator_setup import SetupBook, _decode_blamed
from shared.secagg.member_state import MemberState
from shared.secagg.messages import decode_blobs
from shared.secagg.round_messages import (
    MaskedHeader,
    MaskedRequest,
    ReleaseRequest,
    Reveal,
    SurvivorSet,
)
from shared.secagg.setup_messages import (
    Advertisement,
    Confirmation,
    ShareBundle,
    ShareCore,
    decode_deliveries,
)
from shared.trust.authority import found_authority
from shared.trust.certificates import fingerprint, to_pem
from shared.trust.errors import RequestRefused
from shared.trust.grouping import (
    CommitCall,
    CommitList,
    Drawing,
    open_answer,
    open_call,
    sign_answer,
    sign_call,
)
from shared.trust.invitation import Invitation, decode_invitation, encode_invitation
from shared.trust.keys import new_tls_key
from shared.trust.manifest import RunManifest, sign_manifest, verify_manifest
from shared.trust.renewal import RenewalStatement
from shared.trust.requests import make_request, verify_identity_request, verify_tls_request
from shared.trust.roster import Roster
from shared.trust.round_record import RoundRecord
from shared.trust.told import SignedRound
from shared.trust.transcript import UnverifiedTranscript
from tests.support import manifests, release
from tests.support.secagg import World, identity, losing, make_terms

ALLOWED = (VerificationError, BadInput, PolicyRefused, RequestRefused)
"""What a decoder may raise; UnknownModel and the like are kinds of these."""

OVERHEAD = 64
"""Bytes a decoder may take for each byte it is fed: a Python int for each of a list's 4 bytes."""

SLACK = 4 << 20
"""Bytes it may take whatever it is fed: tables, the libraries' own buffers."""


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        decode: reads bytes, or raises one of ``ALLOWED``.
        examples: valid encodings.
        encode: what turns the value back into its one encoding; None if it has none.
    """

    decode: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    encode: Callable[[object], bytes] | None = None

    def __call__(self, data: bytes) -> bool:
        """Feed ``data``; return whether it was accepted, and raise what must not happen."""
        try:
            value = self.decode(data)
        except ALLOWED:
            return False
        if self.encode is not None and self.encode(value) != data:
            raise AssertionError("a value was read from bytes that are not its encoding")
        return True

    def peak(self, data: bytes) -> int:
        """Return the bytes of memory that Python took at most while decoding."""
        tracemalloc.start()
        try:
            self(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def _of(kind: type, *examples: bytes, encode: bool = True) -> Target:
    return Target(kind.decode, examples, (lambda value: value.encode()) if encode else None)


def _assemble(data: bytes) -> bytes:
    """Put one message together from its frames, each with a length before it."""
    size, at = int.from_bytes(data[:4], "big"), 4
    try:
        start = pb.MessageStart.FromString(data[at : at + size])
        assembly, at = Assembly(start), at + size
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            assembly.add(pb.Chunk.FromString(data[at + 4 : at + 4 + size]))
            at += 4 + size
    except DecodeError as error:
        raise BadInput("no protobuf") from error  # gRPC refuses these before our code runs
    return assembly.finish()


def _frames(data: bytes) -> bytes:
    frames = [opening(data, kind="train"), *pieces(data, 40)]
    encoded = [frame.SerializeToString() for frame in frames]
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in encoded)


def _witnesses(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"witness-{bytes(16).hex()}.bin").write_bytes(data)
        return WitnessFile(Path(folder), bytes(16)).read()


def _transcript(data: bytes) -> object:
    return UnverifiedTranscript(data).verify(
        release.PUBLIC, run_id=b"u" * 16, manifest_hash=b"m" * 32
    )


def _bundle(data: bytes) -> object:
    return UnverifiedBundle.read(data).verify(
        release.PUBLIC, expected_feature_space=None, min_sequence=1
    )


@functools.cache
def recorded() -> dict[str, list[bytes]]:
    """Return the messages of a set-up and a round with a loss, by step."""
    seen: dict[str, list[bytes]] = {}
    lose = losing({4: "unmask", 5: "masked"})

    def fault(step: str, index: int, data: bytes) -> list[bytes]:
        seen.setdefault(step, []).append(data)
        return lose(step, index, data)

    world = World(make_terms(6, threshold=4, slots=1), fault=fault)
    assert world.setup().usable
    result = world.round(1)
    seen["evidence"] = [result.evidence.encode()]
    seen["setup-evidence"] = [world.coordinator.setup_evidence().encode()]
    seen["terms"] = [world.terms.encode()]
    seen["state"] = [world.nodes[1].member.dump()]
    seen["guard"] = [world.nodes[1].guard.dump()]
    world.fault = lambda step, index, data: [data]
    seen["setup"] = [world.journal["setup"]]
    seen["round"] = [world.journal["round"]]
    seen["accumulator"] = [world.journal["accumulator"]]
    return seen


def _body(step: str) -> bytes:
    return wire.verified_body(recorded()[step][0])


def _setup(data: bytes) -> object:
    """A coordinator's stored set-up; too slow to be tried with every byte changed."""
    book = SetupBook.decode(data)
    if book.encode() != data:
        raise AssertionError("a set-up was read from bytes that are not its encoding")
    return book


def _resume(data: bytes) -> object:
    """A coordinator's stored round beside its intact set-up and accumulator."""
    seen = recorded()
    return Coordinator.load(
        signing_key=identity(0),
        setup=seen["setup"][0],
        round_state=data,
        accumulator=seen["accumulator"][0],
    )


def _secagg() -> dict[str, Target]:
    seen = recorded()
    bundle = ShareBundle.decode(seen["share-reply"][0])
    masked = seen["masked-reply"][0]
    header = masked[4 : 4 + int.from_bytes(masked[:4], "big")]
    envelopes = tuple(
        messages[0] for step, messages in seen.items() if step.startswith(("adv", "conf", "unm"))
    )
    return {
        "envelope": Target(wire.peek, envelopes),
        "advertisement": _of(Advertisement, _body("advertise-reply")),
        "share-request": Target(decode_blobs, (_body("share"),)),
        "share-bundle": _of(ShareBundle, seen["share-reply"][0]),
        "share-core": _of(ShareCore, wire.verified_body(bundle.core)),
        "deliveries": Target(decode_deliveries, (_body("confirm"),)),
        "confirmation": _of(Confirmation, _body("confirm-reply")),
        "masked-request": _of(MaskedRequest, _body("masked")),
        "masked-header": _of(MaskedHeader, wire.verified_body(header)),
        "survivor-set": _of(SurvivorSet, _body("unmask")),
        "release-request": _of(ReleaseRequest, _body("release")),
        "reveal": _of(Reveal, _body("release-reply")),
        "round-evidence": _of(RoundEvidence, seen["evidence"][0]),
        "setup-evidence": _of(SetupEvidence, seen["setup-evidence"][0]),
        "terms": _of(SessionTerms, seen["terms"][0]),
        "quantiser": _of(Quantiser, Quantiser(16, 1.0).encode()),
        "member-state": _of(MemberState, seen["state"][0]),
        "guard": Target(RunGuard.load, (seen["guard"][0],), lambda value: value.dump()),
        "complaint": Target(
            _decode_blamed,
            (Writer().u32s((2, 5)).done(),),
            lambda blamed: Writer().u32s(blamed).done(),
        ),
        "coordinator-setup": Target(_setup, (seen["setup"][0],)),
        "coordinator-round": Target(_resume, (seen["round"][0],)),
    }


def invitation() -> Invitation:
    """Return an invitation with a real certificate in it."""
    ca = found_authority(new_tls_key(), "books", manifests.NOW)
    return Invitation(
        "books", "a-shop", "localhost", 7443, 7444, "2026-03-04T00:00:00Z", fingerprint(ca),
        to_pem(ca), bytes(32),
    )  # fmt: skip


def _trust() -> dict[str, Target]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes_raw()
    manifest = manifests.a_manifest(coordinator_key=public)
    roster = Roster(b"a" * 16, 3, manifests.entries(5))
    tls = generate_private_key(SECP256R1())
    csr = make_request(tls, "a-shop")
    renewal = RenewalStatement(b"a" * 16, 7, "a-shop", public, bytes(32), csr)
    now = datetime(2026, 3, 1, 13, tzinfo=UTC)
    signed = sign_manifest(manifest, key)
    witness = Writer(WITNESS_DOMAIN).u32(1).u32(1).u32(1).u32(0).fixed(bytes(32), 32).blob(b"\x0f")
    return {
        "manifest": _of(RunManifest, manifest.encode()),
        "signed-manifest": Target(lambda data: verify_manifest(data, public, now), (signed,)),
        "roster": _of(Roster, roster.encode()),
        "renewal": _of(RenewalStatement, renewal.encode()),
        "round-record": _of(RoundRecord, release.a_record(1).encode()),
        "transcript": Target(_transcript, (release.a_transcript().sign(release.KEY),)),
        "invitation": Target(decode_invitation, (encode_invitation(invitation()),)),
        "tls-request": Target(verify_tls_request, (csr,)),
        "identity-request": Target(verify_identity_request, (make_request(key, "a-shop"),)),
        "signed-round": _of(SignedRound, SignedRound(b"masked", b"unmask").encode()),
        "witnesses": Target(_witnesses, (witness.fixed(bytes(32), 32).done(),)),
    }


def _groups() -> dict[str, Target]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes_raw()
    listed = CommitList(bytes(32), 1, 2, ((1, b"c" * 32), (7, b"d" * 32)))
    call = sign_call(listed.encode(), key)
    answer = sign_answer(call, 7, b"n" * 32, key)
    drawing = Drawing(1, 2, (b"n" * 32, b"o" * 32, b"p" * 32))
    manifest = manifests.a_manifest(members=manifests.entries(3), drawing=drawing)
    return {
        "commit-call": _of(CommitCall, CommitCall(bytes(32), 1).encode()),
        "commit-list": _of(CommitList, listed.encode()),
        "drawing-call": Target(lambda data: open_call(data, public), (call,)),
        "drawing-answer": Target(lambda data: open_answer(data, call, 7, public), (answer,)),
        "drawn": _of(Drawn, Drawn(1, b"n" * 32, b"l" * 32, settled=True).encode()),
        "drawing-journal": _of(Progress, Progress(1, call, ((1, b"n" * 32),)).encode()),
        "grouped-manifest": _of(RunManifest, manifest.encode()),
    }


def _models() -> dict[str, Target]:
    return {
        "bundle": Target(_bundle, (release.a_bundle(),)),
        "bundle-manifest": _of(BundleManifest, release.a_manifest().encode()),
        "model-spec": _of(ModelSpec, release.TINY.encode()),
        "local-model": Target(
            LocalModel.decode,
            (LocalModel("listing", release.TINY, release.a_vector()).encode(),),
        ),
        "personal-head": Target(HeadFile.decode, (_head(),)),
        "checkpoint": _of(Checkpoint, Checkpoint(3, 2, 1, 1).encode()),
        "excluded": Target(decode_excluded, (encode_excluded({2, 7, 300}),), encode_excluded),
    }


def _head() -> bytes:
    head = Head(np.arange(0, 40, 2), np.ones(20, dtype=np.float32), "L2 10")
    return HeadFile(b"r" * 16, b"b" * 32, release.TINY, head).encode()


def _fleet() -> dict[str, Target]:
    content = RecordDict({"config": ConfigRecord({"step": "train", "blob": bytes(40)})})
    message = fleet.new_message(content, 3, "train", run_id=1)
    return {
        "fleet-frames": Target(_assemble, (_frames(json.dumps([1] * 60).encode()),)),
        "fleet-message": Target(fleet.decode, (fleet.encode(message),)),
    }


@functools.cache
def targets() -> dict[str, Target]:
    """Return every target by name."""
    return {**_secagg(), **_trust(), **_groups(), **_models(), **_fleet()}
