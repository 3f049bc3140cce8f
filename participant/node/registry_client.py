"""Reads the coordinator's registry: releases, transcripts and the roster, as bytes to be verified.

Nothing that comes back here is trusted but by its signature; the digest in a file's header only
tells a broken transfer from a whole one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from alliance.v1 import registry_pb2 as pb
from alliance.v1 import registry_pb2_grpc

from participant.node.config import NodeConfig
from participant.node.keystore import channel_credentials
from shared.errors import MalformedMessage
from shared.fleet.errors import DigestMismatch, MessageTooLarge
from shared.fleet.grpc_errors import reraised
from shared.fleet.wire import DIRECT
from shared.limits import MAX_BUNDLE_BYTES, MAX_EVIDENCE_BYTES, MAX_TRANSCRIPT_BYTES
from shared.trust.roster import Roster
from shared.trust.signed_roster import verify_roster

ANSWER_S = 30.0
"""Seconds for a call with a short answer."""

FILE_S = 1800.0
"""Seconds for a file: the largest bundle at 1.2 Mbit/s."""

ChannelFactory = Callable[[], grpc.Channel]


@dataclass(frozen=True)
class ReleaseLine:
    """A line of the coordinator's catalogue: a claim, not a verified release."""

    release_id: str
    run_id: str
    sequence: int
    created_at_unix: int
    total_bytes: int


class RegistryClient:
    """Calls the registry over an open channel.

    Every method raises a :class:`~shared.errors.NetworkError`, ``TimedOut`` or ``AuthError``
    where the connection fails, and whatever typed error the coordinator answers with.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = registry_pb2_grpc.RegistryServiceStub(channel)

    def releases(self, limit: int = 0) -> list[ReleaseLine]:
        """Return the newest releases first."""
        with reraised("list the releases"):
            answer: pb.ListReleasesResponse = self._stub.ListReleases(
                pb.ListReleasesRequest(limit=limit), timeout=ANSWER_S
            )
        return [
            ReleaseLine(
                line.release_id.hex(),
                line.run_id.hex(),
                line.sequence,
                line.created_at_unix,
                line.total_bytes,
            )
            for line in answer.releases
        ]

    def bundle(self, release_id: bytes) -> bytes:
        """Fetch a release's bundle, whole.

        Raises:
            NotFound: there is no such release.
            MessageTooLarge: it is announced larger than any bundle may be.
            DigestMismatch: the transfer was damaged.
            MalformedMessage: it is not in the order the protocol says.
        """
        with reraised("fetch the release"):
            parts = self._stub.GetRelease(
                pb.GetReleaseRequest(release_id=release_id), timeout=FILE_S
            )
            return _collect(parts, MAX_BUNDLE_BYTES)

    def transcript(self, run_id: bytes) -> bytes:
        """Fetch a run's transcript, whole; raises as :meth:`bundle`."""
        with reraised("fetch the transcript"):
            parts = self._stub.GetTranscript(pb.GetTranscriptRequest(run_id=run_id), timeout=FILE_S)
            return _collect(parts, MAX_TRANSCRIPT_BYTES)

    def evidence(
        self,
        run_id: bytes,
        kind: pb.EvidenceKind.ValueType,
        *,
        round_no: int = 0,
        group: int = 0,
        member: int = 0,
        limit: int = MAX_EVIDENCE_BYTES,
    ) -> bytes:
        """Fetch one file behind a run's transcript, whole; raises as :meth:`bundle`."""
        request = pb.GetEvidenceRequest(
            run_id=run_id, kind=kind, round=round_no, group=group, member=member
        )
        with reraised("fetch the run's evidence"):
            return _collect(self._stub.GetEvidence(request, timeout=FILE_S), limit)

    def roster(self) -> tuple[bytes, bytes]:
        """Return the current roster's encoding and the coordinator's signature, unverified."""
        with reraised("fetch the roster"):
            answer: pb.GetRosterResponse = self._stub.GetRoster(
                pb.GetRosterRequest(), timeout=ANSWER_S
            )
        return answer.roster, answer.signature


def channel_factory(state_dir: Path, options: Sequence[tuple[str, int]] = ()) -> ChannelFactory:
    """Return what opens a mutual-TLS channel from a joined state folder to its coordinator.

    Args:
        state_dir: the folder.
        options: gRPC's own, of every channel, besides :data:`~shared.fleet.wire.DIRECT`.

    Raises:
        StateError: the folder has not joined an alliance.
        KeyUnreadable: the node's key cannot be used.
    """
    credentials = channel_credentials(state_dir)
    authority = NodeConfig.load(state_dir).coordinator.authority
    return lambda: grpc.secure_channel(authority, credentials, [*DIRECT, *options])


@contextmanager
def registry(factory: ChannelFactory) -> Iterator[RegistryClient]:
    """Yield a client and close its channel afterwards."""
    with factory() as channel:
        yield RegistryClient(channel)


def fetch_roster(state_dir: Path) -> Roster:
    """Fetch the alliance's current roster, signed by the coordinator this node joined.

    Raises:
        RosterSignatureError: it is not signed by that coordinator, or of another alliance.
    """
    alliance = NodeConfig.load(state_dir).alliance
    with registry(channel_factory(state_dir)) as client:
        encoded, signature = client.roster()
    coordinator_key = bytes.fromhex(alliance.coordinator_public_key)
    return verify_roster(encoded, signature, coordinator_key, bytes.fromhex(alliance.id))


def _collect(answer: Iterable[pb.FilePart], limit: int) -> bytes:
    parts = iter(answer)
    first = next(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise MalformedMessage("a file begins with its header")
    header, received = first.header, bytearray()
    if header.total_bytes > limit:
        raise MessageTooLarge("the coordinator announces a larger file than any may be")
    for part in parts:
        received += part.chunk
        if len(received) > header.total_bytes or not part.chunk:
            raise MalformedMessage("the file is not what its header announces")
    if hashlib.sha256(received).digest() != header.sha256:
        raise DigestMismatch("the file was damaged on its way", hint="try again")
    return bytes(received)
