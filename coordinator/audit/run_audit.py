"""The operator's audit of a run that is over: what was published, against journal and manifest."""

from __future__ import annotations

from pathlib import Path

from coordinator.db import Database
from coordinator.db.records import Run
from coordinator.enrolment.files import load_signing_key
from coordinator.registry.check import check_release
from coordinator.registry.evidence import JournalEvidence
from coordinator.registry.models import unreadable
from coordinator.registry.service import RUNS, Registry
from coordinator.rounds.journal import Journal, record_name
from coordinator.rounds.plan import RunSettings
from shared.errors import StateError
from shared.model.layout import ModelSpec
from shared.trust.audit import (
    AuditReport,
    check_release_cites,
    check_rounds,
    verify_past_manifest,
)
from shared.trust.evidence import KeptVectorMismatch, Tell, recompute
from shared.trust.manifest import VerifiedManifest
from shared.trust.transcript import Transcript, TranscriptError, UnverifiedTranscript


class JournalMismatch(TranscriptError):
    """What was published of a run is not what the run's journal holds."""

    code = "journal_mismatch"


def audit_run(
    directory: Path,
    database: Database,
    run: Run,
    tell: Tell = lambda _done, _of: None,
) -> AuditReport:
    """Recompute and verify everything that was published of a finished run.

    Args:
        directory: the coordinator's state folder.
        database: its database.
        run: which run.
        tell: progress of adding up the masked vectors, where they were kept.

    Raises:
        StateError: the run has not ended, or ended before a round was summed or burnt.
        VerificationError: something does not hold; the class says what.
        StorageError: a file is gone.
    """
    if not run.state.terminal:
        raise StateError(
            f"run {run.run_id} has not ended", hint="`run watch` follows it to its end"
        )
    if not run.manifest:
        raise StateError(f"run {run.run_id} ended before it began: there is nothing to audit")
    key = load_signing_key(directory)
    public = key.public_key().public_bytes_raw()
    verified = verify_past_manifest(run.manifest, public)
    registry = Registry(database, directory, key)
    published = b"".join(registry.transcript(run.run_id).chunks())
    transcript = UnverifiedTranscript(published).verify(
        public, run_id=bytes.fromhex(run.run_id), manifest_hash=verified.hash
    )
    if not transcript.records:
        raise StateError(f"run {run.run_id} ended before its first round: nothing to audit")
    certificates = check_rounds(transcript, verified)
    _check_journal(directory / RUNS / run.run_id, run, transcript, verified)
    if run.release_id is not None:
        _check_release(database, directory, run.release_id, public, transcript)
    # A run of an earlier version kept them without a promise.
    kept = verified.manifest.keep_masked or RunSettings.model_validate(run.params).keep_masked
    source = JournalEvidence(Journal(directory / RUNS / run.run_id))
    recomputed = recompute(transcript, verified, source, sums=kept, tell=tell)
    if kept and recomputed.sums is None:
        raise KeptVectorMismatch("every masked vector is gone, though the run kept them")
    return AuditReport.of(
        transcript, run.release_id, certificates=certificates, recomputed=recomputed
    )


def _check_release(
    database: Database, directory: Path, release_id: str, public: bytes, transcript: Transcript
) -> None:
    alliance = database.read("find_alliance", lambda unit: unit.alliance.get())
    release = database.read("find_release", lambda unit: unit.releases.get(release_id))
    checked = check_release(
        directory, release, coordinator_key=public, alliance_id=bytes.fromhex(alliance.id)
    )
    check_release_cites(checked.bundle.manifest, transcript)


def _check_journal(
    folder: Path, run: Run, transcript: Transcript, verified: VerifiedManifest
) -> None:
    """Check that the run's folder holds the manifest, the records and the model published."""
    journal = Journal(folder)
    try:
        manifest = journal.manifest()
        kept = {path.name: path.read_bytes() for path in (folder / "transcript").glob("*.bin")}
        n_params = ModelSpec.decode(verified.manifest.model_spec).n_params
        model = journal.model(journal.checkpoint().trained, n_params)
    except OSError as error:
        raise unreadable(folder, error) from error
    if manifest != run.manifest:
        raise JournalMismatch("the journal's manifest is not the one that was signed for the run")
    published = {record_name(*record.place): record.encode() for record in transcript.records}
    if kept != published:
        different = sorted(
            name for name in kept | published if kept.get(name) != published.get(name)
        )
        raise JournalMismatch(
            f"the journal and the published transcript differ in {', '.join(different[:5])}",
            hint="restore the folder from a backup; members hold the published transcript",
        )
    transcript.check_model(model)
