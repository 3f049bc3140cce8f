"""Getting a release onto the disk: verified first, then written, all of it at once.

A fetch that was cut off leaves nothing and is simply run again; a release that is there and still
verifies is not fetched twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from participant.deployment.active import (
    MODELS,
    TRANSCRIPT_NAME,
    verify_release,
    verify_transcript,
)
from participant.deployment.candidate import Candidate
from participant.deployment.told import check_told
from participant.node.registry_client import ChannelFactory, registry
from shared.errors import NotFound, VerificationError
from shared.files import storage_error, write_folder
from shared.model.bundle import FILE_NAME, VerifiedBundle
from shared.model.bundle_errors import BundleDigestError, BundleOriginError
from shared.trust.transcript import Transcript

RELEASES = "releases"


@dataclass(frozen=True)
class FetchedRelease:
    """A release on this disk, verified down to its transcript.

    Attributes:
        bundle: the verified bundle.
        transcript: of the run it ends.
        path: its folder relative to ``models/``.
        sha256: hex digest of the bundle's file.
    """

    bundle: VerifiedBundle
    transcript: Transcript
    path: str
    sha256: str

    def candidate(self) -> Candidate:
        """Return the release as a model that could run."""
        manifest = self.bundle.manifest
        return Candidate(
            release_id=manifest.release_id.hex(),
            path=self.path,
            sha256=self.sha256,
            kind=manifest.kind,
            sequence=manifest.sequence,
            spec=self.bundle.spec,
            vector=self.bundle.vector,
        )


def installed_path(state_dir: Path, release_id: bytes) -> Path:
    """Return the folder of a release at this member, whether it is there or not."""
    return state_dir / MODELS / RELEASES / release_id.hex()


def fetch_release(
    state_dir: Path,
    release_id: bytes,
    factory: ChannelFactory | None,
    *,
    min_sequence: int,
    run_id: bytes | None = None,
    sha256: str = "",
    keep: bool = True,
) -> FetchedRelease:
    """Return a verified release, from the disk if it is there and whole, else over the network.

    Args:
        state_dir: the member's state folder.
        release_id: 16 bytes.
        factory: opens a channel to the coordinator; None forbids the network.
        min_sequence: the lowest acceptable release number (anti-rollback).
        run_id: when given, the run it must be the release of.
        sha256: when given, the hex digest its file must have: that of a release that ran here.
        keep: whether a release that was fetched is written to the disk.

    Raises:
        VerificationError: bundle or transcript is not what it must be, or not what this member
            was told in the run that the bundle names; nothing is written.
        NotFound: the coordinator, or without network the disk, does not have it.
        NetworkError: the coordinator cannot be reached.
        StorageError: the disk refuses; nothing half-written is left.
    """
    folder = installed_path(state_dir, release_id)
    files = _read_installed(state_dir, folder, release_id)
    fresh = files is None
    if files is None:
        files = _download(state_dir, factory, release_id, min_sequence, run_id)
    bundle = _verified(state_dir, files[0], release_id, min_sequence, run_id)
    transcript = verify_transcript(state_dir, bundle, files[1])
    check_told(state_dir, transcript)
    found = hashlib.sha256(files[0]).hexdigest()
    if sha256 not in ("", found):
        raise BundleDigestError(
            "the release is not the one that ran here under the same id",
            hint="ask the coordinator's operator why it was made anew",
        )
    if fresh and keep:
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        write_folder(folder, {FILE_NAME: files[0], TRANSCRIPT_NAME: files[1]})
    return FetchedRelease(bundle, transcript, f"{RELEASES}/{release_id.hex()}", found)


def _verified(
    state_dir: Path, data: bytes, release_id: bytes, min_sequence: int, run_id: bytes | None
) -> VerifiedBundle:
    bundle = verify_release(state_dir, data, release_id, min_sequence=min_sequence)
    if run_id not in (None, bundle.manifest.run_id):
        raise BundleOriginError("the release is of another run than the one it was announced for")
    return bundle


def _read_installed(state_dir: Path, folder: Path, release_id: bytes) -> tuple[bytes, bytes] | None:
    """Return the files on disk if they verify; damaged ones count as absent and are replaced."""
    try:
        data = (folder / FILE_NAME).read_bytes()
        transcript = (folder / TRANSCRIPT_NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        verify_transcript(state_dir, verify_release(state_dir, data, release_id), transcript)
    except VerificationError:
        return None
    return data, transcript


def _download(
    state_dir: Path,
    factory: ChannelFactory | None,
    release_id: bytes,
    min_sequence: int,
    run_id: bytes | None,
) -> tuple[bytes, bytes]:
    if factory is None:
        raise NotFound(
            f"release {release_id.hex()} is not on this machine",
            hint="run the command without --offline",
        )
    with registry(factory) as client:
        data = client.bundle(release_id)
        # Verified before its run id is believed, and before anything more is fetched.
        bundle = _verified(state_dir, data, release_id, min_sequence, run_id)
        return data, client.transcript(bundle.manifest.run_id)
