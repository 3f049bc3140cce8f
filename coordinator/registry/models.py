"""What the registry takes in and hands out."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shared.errors import StorageError
from shared.files import storage_error
from shared.limits import CHUNK_BYTES
from shared.model.layout import ModelSpec
from shared.trust.transcript import Transcript


@dataclass(frozen=True)
class ReleaseDraft:
    """What a finished run wants to release.

    Attributes:
        run_id: 16 bytes; the run must be in the database.
        run_manifest_hash: 32 bytes.
        kind: what the model scores, ``listing`` or ``shop``.
        spec: the model's shape.
        vector: float32[P], the final model.
        transcript: of the whole run.
        metrics: alliance-level figures by name; finite.
        epsilon: decimal text of the record-level privacy budget spent, or empty.
        parent_release_id: the release the run started from, 16 bytes, or empty.
    """

    run_id: bytes
    run_manifest_hash: bytes
    kind: str
    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)
    transcript: Transcript = field(repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict)
    epsilon: str = ""
    parent_release_id: bytes = b""


@dataclass(frozen=True)
class PublishedFile:
    """A file of the registry, on disk or in memory.

    Attributes:
        total_bytes: its length.
        sha256: its digest, 32 bytes.
        source: its content, or where that is; an open file is read once.
    """

    total_bytes: int
    sha256: bytes
    source: Path | bytes | IO[bytes] = field(repr=False)

    @classmethod
    def of_bytes(cls, data: bytes) -> PublishedFile:
        """Return a file that is in memory."""
        return cls(len(data), hashlib.sha256(data).digest(), data)

    @classmethod
    def of_path(cls, path: Path) -> PublishedFile:
        """Return a file on disk, its digest computed piece by piece.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            with path.open("rb") as handle:
                sha256 = hashlib.file_digest(handle, "sha256").digest()
                return cls(handle.tell(), sha256, path)
        except OSError as error:
            raise unreadable(path, error) from error

    @classmethod
    def spooled(cls, data: bytes) -> PublishedFile:
        """Return a file whose content waits on disk, nameless, rather than in memory.

        However slowly it is fetched, and however often at once, it takes no memory meanwhile.
        """
        spool = tempfile.TemporaryFile(prefix="touchstone-")  # noqa: SIM115 - closed when sent
        try:
            spool.write(data)
            spool.flush()
        except OSError as error:
            raise storage_error(error, Path(tempfile.gettempdir())) from error
        return cls(len(data), hashlib.sha256(data).digest(), spool)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``CHUNK_BYTES``.

        Raises:
            StorageError: the file cannot be read.
        """
        if isinstance(self.source, bytes):
            for at in range(0, len(self.source), CHUNK_BYTES):
                yield self.source[at : at + CHUNK_BYTES]
            return
        if not isinstance(self.source, Path):
            self.source.seek(0)
            with self.source as handle:
                while piece := handle.read(CHUNK_BYTES):
                    yield piece
            return
        try:
            with self.source.open("rb") as handle:
                while piece := handle.read(CHUNK_BYTES):
                    yield piece
        except OSError as error:
            raise unreadable(self.source, error) from error


def unreadable(path: Path, error: OSError) -> StorageError:
    """Explain that a published file cannot be read."""
    return StorageError(
        f"the coordinator cannot read {path.name}",
        hint="the operator can restore it from a backup, or publish the run again",
        detail=str(error),
    )
