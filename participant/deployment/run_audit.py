"""A member's audit of a run that is over: what was published, against what it agreed to and saw.

The release is taken from this machine if it is there, the transcript from the coordinator: one
that tells another story today than it told when the release was deployed is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from participant.deployment.active import TRANSCRIPT_NAME, verify_release
from participant.deployment.evidence_client import PublishedEvidence
from participant.deployment.fetch import installed_path
from participant.deployment.overview import installed
from participant.deployment.told import check_told
from participant.node.config import NodeConfig
from participant.node.registry_client import ChannelFactory, RegistryClient, registry
from participant.node.run_ids import resolve
from participant.node.vault import agreed_manifest, runs_answered, runs_open
from participant.node.witnesses import WitnessFile
from shared.errors import NotFound, StateError, StorageError, VerificationError
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.bundle_manifest import BundleManifest
from shared.trust.audit import (
    AuditReport,
    check_release_cites,
    check_rounds,
    verify_past_manifest,
)
from shared.trust.evidence import Tell, recompute
from shared.trust.manifest import VerifiedManifest
from shared.trust.transcript import Transcript, UnverifiedTranscript, Witness

_LISTED = 200


@dataclass(frozen=True)
class Published:
    """What the coordinator says of a run, not verified: its release, if any, and its transcript."""

    bundle: bytes | None
    transcript: bytes


def audit_run(
    state_dir: Path,
    run_id: bytes,
    factory: ChannelFactory | None,
    *,
    sums: bool = True,
    tell: Tell = lambda _done, _of: None,
) -> AuditReport:
    """Recompute and verify what was published of a finished run.

    Args:
        state_dir: the member's state folder.
        run_id: 16 bytes.
        factory: opens a channel to the coordinator; None forbids the network, and with it the
            evidence, of which nothing is kept here.
        sums: whether to fetch the masked vectors, where there are any, and do the sums again.
        tell: progress of that.

    Raises:
        NotFound: neither side knows the run, or without network nothing of it is here.
        StateError: the run has not ended, or this folder has joined no alliance.
        VerificationError: something does not hold; the class says what.
        NetworkError: the coordinator cannot be reached.
    """
    if factory is None:
        return _audit(state_dir, run_id, _on_this_machine(state_dir, run_id))
    with registry(factory) as client:
        evidence = PublishedEvidence(client, run_id)
        published = _published(state_dir, run_id, client)
        return _audit(state_dir, run_id, published, evidence, sums=sums, tell=tell)


def _audit(
    state_dir: Path,
    run_id: bytes,
    published: Published,
    evidence: PublishedEvidence | None = None,
    *,
    sums: bool = False,
    tell: Tell = lambda _done, _of: None,
) -> AuditReport:
    folder = state_dir / "secsum"
    key = bytes.fromhex(NodeConfig.load(state_dir).alliance.coordinator_public_key)
    signed = agreed_manifest(folder, run_id)
    agreed = None if signed is None else verify_past_manifest(signed, key)
    bundle = None if published.bundle is None else verify_release(state_dir, published.bundle)
    if bundle is None and run_id in runs_open(folder):
        raise StateError("the run has not ended here", hint="`up` is told when it has")
    transcript = UnverifiedTranscript(published.transcript).verify(
        key, run_id=run_id, manifest_hash=_manifest_hash(agreed, bundle)
    )
    if bundle is not None:
        check_release_cites(bundle.manifest, transcript)
        transcript.check_model(bundle.vector)
    witnesses = _due(WitnessFile(folder, run_id).read(), transcript, released=bundle is not None)
    check_told(state_dir, transcript, witnesses)
    if agreed is None and evidence is not None:  # another member's run: by the hash it is known by
        agreed = verify_past_manifest(evidence.manifest(), key)
    certificates = None if agreed is None else check_rounds(transcript, agreed)
    recomputed = None
    if agreed is not None and evidence is not None:
        recomputed = recompute(transcript, agreed, evidence, sums=sums, tell=tell)
    return AuditReport.of(
        transcript,
        None if bundle is None else bundle.manifest.release_id.hex(),
        certificates=certificates,
        witnesses=len(witnesses),
        recomputed=recomputed,
    )


def resolve_run(state_dir: Path, text: str) -> bytes:
    """Return the id of the run that ``text`` means.

    Args:
        state_dir: the member's state folder.
        text: 32 hex digits, or the first digits of exactly one run this member answered in.

    Raises:
        BadInput: it is not hex.
        NotFound: no run here, or more than one, begins with it.
    """
    return resolve(text, runs_answered(state_dir / "secsum"))


def _on_this_machine(state_dir: Path, run_id: bytes) -> Published:
    folder = _installed_of(state_dir, run_id)
    if folder is None:
        raise NotFound(
            f"no release of run {run_id.hex()} is on this machine",
            hint="run the command without --offline",
        )
    return Published(_read(folder / FILE_NAME), _read(folder / TRANSCRIPT_NAME))


def _published(state_dir: Path, run_id: bytes, client: RegistryClient) -> Published:
    """Return the release from this machine if it is here, and the transcript told today."""
    folder = _installed_of(state_dir, run_id)
    here = None if folder is None else _read(folder / FILE_NAME)
    if here is None:
        lines = [line for line in client.releases(_LISTED) if line.run_id == run_id.hex()]
        here = client.bundle(bytes.fromhex(lines[0].release_id)) if lines else None
    return Published(here, client.transcript(run_id))


def _installed_of(state_dir: Path, run_id: bytes) -> Path | None:
    """Return the folder of the run's release if it is on this machine."""
    for name in installed(state_dir):
        folder = installed_path(state_dir, bytes.fromhex(name))
        try:
            manifest = UnverifiedBundle.read(folder).manifest_bytes
            if BundleManifest.decode(manifest).run_id == run_id:
                return folder
        except (VerificationError, NotFound):
            continue  # a damaged release of some run: `model list` shows it
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path.name}", detail=str(error)) from error


def _manifest_hash(agreed: VerifiedManifest | None, bundle: VerifiedBundle | None) -> bytes:
    if agreed is not None:
        return agreed.hash
    if bundle is None:
        raise NotFound(
            "this member has not agreed to the run and nothing was released: nothing to audit"
        )
    return bundle.manifest.run_manifest_hash


def _due(witnesses: list[Witness], transcript: Transcript, *, released: bool) -> list[Witness]:
    """Leave out what a run that released nothing had open when it was ended.

    It is ended in the middle of a round, and only a round that is over is published.
    """
    if released:
        return witnesses
    last = transcript.records[-1].round if transcript.records else 0
    return [witness for witness in witnesses if witness.round <= last]
