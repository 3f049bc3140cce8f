"""Publishing a release: files first, then the database row that makes them a release.

A crash before the row leaves a folder that nobody is ever shown; publishing the run again
replaces it. A crash after the row leaves a whole release; publishing again returns it, and puts
back a lost or damaged file if the same model is given.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db import Database, Unit
from coordinator.db.records import Release
from coordinator.registry.models import ReleaseDraft
from shared.clock import to_unix
from shared.encoding import digest
from shared.errors import StateError
from shared.files import storage_error, write_folder
from shared.model.bundle import FILE_NAME, UnverifiedBundle, seal_bundle
from shared.model.bundle_manifest import BundleManifest, metric_pairs
from shared.model.layout import feature_space_hash

RELEASES = "releases"
TRANSCRIPT_NAME = "transcript.bin"


def release_id_of(alliance_id: bytes, run_id: bytes) -> bytes:
    """Return the 16-byte id of a run's release; a run has one, however often it is published."""
    return digest("touchstone/release-id/v1", alliance_id, run_id)[:16]


def publish(
    database: Database, directory: Path, draft: ReleaseDraft, *, signing_key: Ed25519PrivateKey
) -> bytes:
    """Release the model of a finished run; return its 16-byte release id.

    Publishing a run again changes nothing that members have seen: see the module's text.

    Args:
        database: the coordinator's.
        directory: the coordinator's state folder; the release goes to ``releases/<id>/``.
        draft: what to release.
        signing_key: the release-signing key.

    Raises:
        NotFound: there is no such run.
        StateError: the run is released already with another model.
        TranscriptError: the model is not the one the run's last round ended with.
        UnknownModel: the vector does not fit the model.
        StorageError: the disk or the database refuses; nothing is released.
        ValueError: a metric is not finite.
    """
    draft.transcript.check_model(draft.vector)
    folder = directory / RELEASES
    with _publishing(folder):
        existing = database.read(
            "find_release", lambda unit: unit.releases.of_run(draft.run_id.hex())
        )
        if existing is not None:
            _restore(directory / existing.path, existing, draft, signing_key)
            return bytes.fromhex(existing.release_id)
        manifest = _manifest(database, draft)
        bundle = seal_bundle(manifest, draft.vector, signing_key)
        name = manifest.release_id.hex()
        transcript = draft.transcript.sign(signing_key)
        write_folder(folder / name, {FILE_NAME: bundle, TRANSCRIPT_NAME: transcript})
        release = Release(
            release_id=name,
            run_id=draft.run_id.hex(),
            sequence=manifest.sequence,
            created_at=database.clock.now(),
            manifest=UnverifiedBundle.read(bundle).manifest_bytes,
            path=f"{RELEASES}/{name}",
            sha256=hashlib.sha256(bundle).hexdigest(),
        )
        database.write("publish_release", lambda unit: _record(unit, release))
        return manifest.release_id


@contextmanager
def _publishing(folder: Path) -> Iterator[None]:
    """Let one publisher at a time work: sequence numbers and folders are taken in turn."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _manifest(database: Database, draft: ReleaseDraft) -> BundleManifest:
    alliance = database.read("find_alliance", lambda unit: unit.alliance.get())
    sequence = database.read("next_sequence", lambda unit: unit.releases.next_sequence())
    alliance_id = bytes.fromhex(alliance.id)
    return BundleManifest(
        alliance_id=alliance_id,
        release_id=release_id_of(alliance_id, draft.run_id),
        run_id=draft.run_id,
        run_manifest_hash=draft.run_manifest_hash,
        kind=draft.kind,
        model_spec=draft.spec.encode(),
        feature_space_hash=feature_space_hash(draft.spec),
        weights_sha256=bytes(32),
        transcript_head=draft.transcript.head,
        rounds=draft.transcript.rounds_summed(),
        sequence=sequence,
        parent_release_id=draft.parent_release_id,
        metrics=metric_pairs(draft.metrics),
        epsilon=draft.epsilon,
        created_at=to_unix(database.clock.now()),
    )


def _record(unit: Unit, release: Release) -> None:
    unit.runs.set_release(release.run_id, release.release_id)
    unit.releases.add(release)
    body = {
        "release_id": release.release_id,
        "run_id": release.run_id,
        "sequence": release.sequence,
        "sha256": release.sha256,
    }
    unit.audit.append("release.published", body)


def _restore(
    folder: Path, release: Release, draft: ReleaseDraft, signing_key: Ed25519PrivateKey
) -> None:
    """Put back the files of a release that is in the database, byte for byte."""
    manifest = BundleManifest.decode(release.manifest)
    bundle = seal_bundle(manifest, draft.vector, signing_key)
    same = hashlib.sha256(bundle).hexdigest() == release.sha256
    if not same or manifest.transcript_head != draft.transcript.head:
        raise StateError(
            f"run {release.run_id} is released already, with another model or transcript",
            hint="a release never changes; start a new run",
        )
    transcript = draft.transcript.sign(signing_key)
    if _read(folder / FILE_NAME) != bundle or _read(folder / TRANSCRIPT_NAME) != transcript:
        write_folder(folder, {FILE_NAME: bundle, TRANSCRIPT_NAME: transcript})


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
