"""What members may read: the catalogue, releases, transcripts and the roster."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db import Database
from coordinator.db.records import Release
from coordinator.enrolment.service import roster
from coordinator.registry import evidence
from coordinator.registry.evidence import Wanted
from coordinator.registry.models import PublishedFile, unreadable
from coordinator.registry.publish import TRANSCRIPT_NAME
from coordinator.rounds.journal import Journal
from shared.encoding import Reader
from shared.errors import NotFound
from shared.model.bundle import FILE_NAME
from shared.trust.manifest import SIGNED_DOMAIN
from shared.trust.round_record import RoundRecord
from shared.trust.signed_roster import sign_roster
from shared.trust.transcript import Transcript

DEFAULT_LIMIT = 20
MAX_LIMIT = 200
RUNS = "runs"


class Registry:
    """Reads what was published; publishing is :func:`coordinator.registry.publish.publish`.

    Args:
        database: the coordinator's.
        directory: its state folder.
        signing_key: signs the roster, and transcripts of runs that ended without a release.
    """

    def __init__(self, database: Database, directory: Path, signing_key: Ed25519PrivateKey) -> None:
        self._database = database
        self._directory = directory
        self._key = signing_key
        self._assembling = threading.Lock()  # one transcript in memory at a time

    def releases(self, limit: int = 0) -> list[Release]:
        """Return the newest releases first, ``limit`` of them (0: 20, at most 200)."""
        count = min(limit or DEFAULT_LIMIT, MAX_LIMIT)
        found = self._database.read("list_releases", lambda unit: unit.releases.all())
        return found[::-1][:count]

    def release(self, release_id: str) -> Release:
        """Return one release by its hex id; raises :class:`NotFound`."""
        return self._database.read("get_release", lambda unit: unit.releases.get(release_id))

    def bundle(self, release_id: str) -> PublishedFile:
        """Return a release's bundle.

        Raises:
            NotFound: there is no such release.
            StorageError: its file is gone.
        """
        release = self.release(release_id)
        path = self._directory / release.path / FILE_NAME
        try:
            return PublishedFile(path.stat().st_size, bytes.fromhex(release.sha256), path)
        except OSError as error:
            raise unreadable(path, error) from error

    def transcript(self, run_id: str) -> PublishedFile:
        """Return the signed transcript of a run, whole once it is released, else so far.

        Raises:
            NotFound: there is no such run.
            StorageError: a released transcript is gone.
            TranscriptError: the run's records on disk do not hold together.
        """
        release = self._database.read("find_release", lambda unit: unit.releases.of_run(run_id))
        if release is not None:
            return PublishedFile.of_path(self._directory / release.path / TRANSCRIPT_NAME)
        run = self._database.read("get_run", lambda unit: unit.runs.get(run_id))
        if not run.manifest:
            raise NotFound(f"run {run_id} has not begun, so it has no transcript yet")
        with self._assembling:
            return PublishedFile.spooled(self._unfinished(run_id, run.manifest).sign(self._key))

    def evidence(self, run_id: str, wanted: Wanted) -> PublishedFile:
        """Return one file behind a run's transcript.

        Raises:
            NotFound: there is no such run, round or file, or it was not kept.
            StorageError: it cannot be read.
        """
        run = self._database.read("get_run", lambda unit: unit.runs.get(run_id))
        if not run.manifest:
            raise NotFound(f"run {run_id} has not begun, so it has left nothing behind")
        journal = Journal(self._directory / RUNS / run_id)
        return evidence.file_of(journal, run.manifest, wanted)

    def roster(self) -> tuple[bytes, bytes]:
        """Return the current roster's canonical encoding and the coordinator's signature."""
        current = roster(self._database)
        return current.encode(), sign_roster(current, self._key)

    def _unfinished(self, run_id: str, signed_manifest: bytes) -> Transcript:
        """Chain the records that the run's journal holds."""
        body = Reader(signed_manifest, SIGNED_DOMAIN).blob()
        transcript = Transcript.start(bytes.fromhex(run_id), hashlib.sha256(body).digest())
        for path in sorted((self._directory / RUNS / run_id / "transcript").glob("*.bin")):
            transcript = transcript.append(RoundRecord.decode(path.read_bytes()))
        return transcript
