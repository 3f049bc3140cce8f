"""The operator's own check of a release: everything a member will check, and the disk besides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from coordinator.db.records import Release
from coordinator.registry.models import unreadable
from coordinator.registry.publish import TRANSCRIPT_NAME
from shared.errors import NotFound
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.bundle_errors import BundleDigestError
from shared.trust.transcript import Transcript, UnverifiedTranscript


@dataclass(frozen=True)
class CheckedRelease:
    """A release of which every check held."""

    bundle: VerifiedBundle
    transcript: Transcript


def check_release(
    directory: Path, release: Release, *, coordinator_key: bytes, alliance_id: bytes
) -> CheckedRelease:
    """Verify a release's files as they lie on the coordinator's disk.

    Args:
        directory: the coordinator's state folder.
        release: the database's row.
        coordinator_key: raw Ed25519 public key, 32 bytes.
        alliance_id: 16 bytes.

    Raises:
        StorageError: a file is gone.
        BundleDigestError: the bundle is not the one that the database knows.
        VerificationError: bundle or transcript does not verify.
    """
    folder = directory / release.path
    data, transcript = _read(folder / FILE_NAME), _read(folder / TRANSCRIPT_NAME)
    if hashlib.sha256(data).hexdigest() != release.sha256:
        raise BundleDigestError(
            f"the bundle of release {release.release_id} is not the one that was released",
            hint="restore it from a backup",
        )
    bundle = UnverifiedBundle.read(data).verify(
        coordinator_key,
        expected_feature_space=None,
        min_sequence=release.sequence,
        alliance_id=alliance_id,
        release_id=bytes.fromhex(release.release_id),
    )
    manifest = bundle.manifest
    verified = UnverifiedTranscript(transcript).verify(
        coordinator_key,
        run_id=manifest.run_id,
        manifest_hash=manifest.run_manifest_hash,
        head=manifest.transcript_head,
    )
    verified.check_model(bundle.vector)
    return CheckedRelease(bundle, verified)


def resolve(releases: list[Release], prefix: str) -> Release:
    """Return the one release whose id begins with ``prefix``, or the newest for ``latest``.

    Raises:
        NotFound: none does, or more than one.
    """
    if prefix == "latest" and releases:
        return releases[-1]
    found = [release for release in releases if prefix and release.release_id.startswith(prefix)]
    if len(found) != 1:
        many = "more than one release" if found else "no release"
        raise NotFound(
            f"there is {many} whose id begins with {prefix!r}",
            hint="touchstone-coordinator release list shows them",
        )
    return found[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
