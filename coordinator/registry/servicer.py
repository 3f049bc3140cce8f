"""The registry's gRPC face, on the mutual-TLS port: authenticates, translates, streams files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from alliance.v1 import registry_pb2 as pb
from alliance.v1 import registry_pb2_grpc

from coordinator.db import Database
from coordinator.db.records import Release
from coordinator.enrolment.files import load_signing_key
from coordinator.fleet.turnstile import Turnstile
from coordinator.registry.evidence import Kind, Wanted
from coordinator.registry.models import PublishedFile
from coordinator.registry.service import Registry
from shared.clock import to_unix
from shared.errors import InternalError, MalformedMessage
from shared.fleet.grpc_errors import typed_errors
from shared.trust.peer import Peer, peer_pem

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
_ID_BYTES = 16


class Admits(Protocol):
    """Decides who may read."""

    def admit(self, pem: bytes) -> Peer:
        """Return the member a certificate names; raise an ``AuthError`` for anybody else."""
        ...


def add(
    server: grpc.aio.Server, *, database: Database, directory: Path, gatekeeper: Admits
) -> None:
    """Serve the registry of a coordinator's folder on ``server``.

    Raises:
        KeyUnreadable: the signing key is missing, damaged or encrypted otherwise.
    """
    registry = Registry(database, directory, load_signing_key(directory))
    servicer = RegistryServicer(registry, gatekeeper)
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server)


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Reads for members only; every call is authenticated anew, so a revocation bites at once.

    Args:
        registry: what there is to read.
        gatekeeper: decides who may.
    """

    def __init__(self, registry: Registry, gatekeeper: Admits) -> None:
        self._registry = registry
        self._gatekeeper = gatekeeper
        self._turnstile = Turnstile()

    async def ListReleases(  # noqa: N802 - the generated name
        self, request: pb.ListReleasesRequest, context: Context
    ) -> pb.ListReleasesResponse:
        """Answer with the newest releases."""

        def work() -> pb.ListReleasesResponse:
            found = self._registry.releases(request.limit)
            return pb.ListReleasesResponse(releases=[self._line(release) for release in found])

        return await self._answer(context, work)

    async def GetRelease(  # noqa: N802 - the generated name
        self, request: pb.GetReleaseRequest, context: Context
    ) -> AsyncIterator[pb.FilePart]:
        """Stream one bundle."""
        async for part in self._file(
            context, lambda: self._registry.bundle(_id_text(request.release_id))
        ):
            yield part

    async def GetTranscript(  # noqa: N802 - the generated name
        self, request: pb.GetTranscriptRequest, context: Context
    ) -> AsyncIterator[pb.FilePart]:
        """Stream one transcript."""
        async for part in self._file(
            context, lambda: self._registry.transcript(_id_text(request.run_id))
        ):
            yield part

    async def GetEvidence(  # noqa: N802 - the generated name
        self, request: pb.GetEvidenceRequest, context: Context
    ) -> AsyncIterator[pb.FilePart]:
        """Stream one file behind a run's transcript."""
        async for part in self._file(
            context, lambda: self._registry.evidence(_id_text(request.run_id), _wanted(request))
        ):
            yield part

    async def GetRoster(  # noqa: N802 - the generated name
        self,
        request: pb.GetRosterRequest,  # noqa: ARG002 - it has no fields
        context: Context,
    ) -> pb.GetRosterResponse:
        """Answer with the signed roster."""
        roster, signature = await self._answer(context, self._registry.roster)
        return pb.GetRosterResponse(roster=roster, signature=signature)

    def _line(self, release: Release) -> pb.Release:
        return pb.Release(
            release_id=bytes.fromhex(release.release_id),
            run_id=bytes.fromhex(release.run_id),
            sequence=release.sequence,
            created_at_unix=to_unix(release.created_at),
            total_bytes=self._registry.bundle(release.release_id).total_bytes,
            sha256=bytes.fromhex(release.sha256),
        )

    async def _file(
        self, context: Context, work: Callable[[], PublishedFile]
    ) -> AsyncIterator[pb.FilePart]:
        """Stream a file to an authenticated member that has not too many streams open."""
        async with typed_errors(context):
            pem = peer_pem(context.auth_context())
            peer = await asyncio.to_thread(self._gatekeeper.admit, pem)
            with self._turnstile.enter(peer.index):
                file = await asyncio.to_thread(work)
                async for part in self._stream(file):
                    yield part

    async def _stream(self, file: PublishedFile) -> AsyncIterator[pb.FilePart]:
        yield pb.FilePart(header=pb.FileHeader(total_bytes=file.total_bytes, sha256=file.sha256))
        chunks = file.chunks()
        while piece := await asyncio.to_thread(next, chunks, b""):
            yield pb.FilePart(chunk=piece)

    async def _answer(self, context: Context, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread for an authenticated member; refuse everybody else."""

        def admitted() -> T:
            self._gatekeeper.admit(peer_pem(context.auth_context()))
            return work()

        async with typed_errors(context):
            return await asyncio.to_thread(admitted)
        raise InternalError("a refused call went on")


def _id_text(value: bytes) -> str:
    if len(value) != _ID_BYTES:
        raise MalformedMessage("an id has 16 bytes")
    return value.hex()


def _wanted(request: pb.GetEvidenceRequest) -> Wanted:
    try:
        kind = Kind(request.kind)
    except ValueError as error:
        raise MalformedMessage("there is no such kind of evidence") from error
    return Wanted(kind, request.round, request.group, request.member)
