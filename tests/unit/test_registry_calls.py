"""What one member may have open at the registry, and what a file takes while it is sent."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from alliance.v1 import registry_pb2 as pb

from coordinator.registry.models import PublishedFile
from coordinator.registry.servicer import RegistryServicer
from shared.errors import StorageError
from shared.limits import CHUNK_BYTES, MAX_CALLS_OF_MEMBER
from shared.trust.peer import Peer

REQUEST = pb.GetTranscriptRequest(run_id=bytes(16))


class Caller:
    """The server's side of one call."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._name]}

    async def abort(self, code: grpc.StatusCode, *_: Any) -> NoReturn:
        raise grpc.aio.AbortError(code)


class Door:
    def admit(self, pem: bytes) -> Peer:
        return Peer(int(pem), pem.decode(), "")


class OneTranscript:
    def transcript(self, _run_id: str) -> PublishedFile:
        return PublishedFile.spooled(bytes(CHUNK_BYTES + 1))


def test_a_member_has_a_few_downloads_at_once_and_others_have_theirs() -> None:
    async def main() -> None:
        servicer = RegistryServicer(OneTranscript(), Door())  # type: ignore[arg-type]

        def download(name: bytes) -> Any:
            return servicer.GetTranscript(REQUEST, Caller(name))  # type: ignore[arg-type]

        open_ones = [download(b"1") for _ in range(MAX_CALLS_OF_MEMBER)]
        for one in open_ones:
            assert (await anext(one)).header.total_bytes == CHUNK_BYTES + 1
        with pytest.raises(grpc.aio.AbortError, match="RESOURCE_EXHAUSTED"):
            await anext(download(b"1"))
        async with aclosing(download(b"2")) as other:
            assert [len(part.chunk) async for part in other] == [0, CHUNK_BYTES, 1]
        await open_ones[0].aclose()  # its reader went away
        await asyncio.sleep(0)
        async with aclosing(download(b"1")) as again:
            assert (await anext(again)).header.total_bytes == CHUNK_BYTES + 1

    asyncio.run(main())


def test_a_spooled_file_and_one_on_disk_are_the_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(data)
    plain = PublishedFile.of_bytes(data)
    for file in (PublishedFile.spooled(data), PublishedFile.of_path(tmp_path / "file")):
        assert (file.total_bytes, file.sha256) == (plain.total_bytes, plain.sha256)
        assert not isinstance(file.source, bytes)
        assert b"".join(file.chunks()) == data
    with pytest.raises(StorageError):
        PublishedFile.of_path(tmp_path / "gone")
