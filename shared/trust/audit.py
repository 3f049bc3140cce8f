"""Recomputing what a run's transcript claims, against the manifest the members agreed to.

The chain, its signature and its head are :class:`~shared.trust.transcript.UnverifiedTranscript`'s
business. Here every record is held against the manifest, and every survivor certificate against
the keys in it, by the very check that members make before they give shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from shared.clock import from_unix
from shared.errors import NotFound
from shared.model.bundle_manifest import BundleManifest
from shared.secagg.errors import BadSignature, TermsRefused, UnmaskRefused
from shared.secagg.groups import quorum
from shared.secagg.member_round import check_certificate
from shared.secagg.round_messages import ReleaseRequest, SurvivorSet
from shared.trust.evidence import Recomputed
from shared.trust.manifest import RunManifest, VerifiedManifest, verify_manifest
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.session import session_terms
from shared.trust.transcript import Transcript, TranscriptError


class OutsideManifest(TranscriptError):
    """A published round is not one that the run's manifest allows."""

    code = "outside_manifest"


class CertificateInvalid(TranscriptError):
    """A round lost members, and too few survivors have signed who was summed."""

    code = "survivor_certificate"


class ReleaseMismatch(TranscriptError):
    """A release is not of the audited run, or claims other rounds than its transcript."""

    code = "release_mismatch"


@dataclass(frozen=True)
class AuditReport:
    """What an audit found in order; an audit that finds anything else raises.

    Attributes:
        run_id: hex.
        release_id: hex; None for a run that ended without a release.
        head: hex, the transcript's.
        summed: rounds that entered the model.
        burnt: rounds released to the coordinator but never summed.
        certificates: rounds whose survivor certificate was verified; None without the manifest.
        witnesses: rounds held against what this member was told; None at the coordinator.
        evidence: released rounds, of each group, whose headers and shares hold; None where they
            could not be had.
        sums: sums that were done again from the masked vectors; None where none were at hand.
    """

    run_id: str
    release_id: str | None
    head: str
    summed: int
    burnt: int
    certificates: int | None
    witnesses: int | None = None
    evidence: int | None = None
    sums: int | None = None

    @classmethod
    def of(
        cls,
        transcript: Transcript,
        release_id: str | None,
        *,
        certificates: int | None,
        witnesses: int | None = None,
        recomputed: Recomputed | None = None,
    ) -> AuditReport:
        """Return the report on a transcript that held."""
        summed = transcript.rounds_summed()
        return cls(
            run_id=transcript.run_id.hex(),
            release_id=release_id,
            head=transcript.head.hex(),
            summed=summed,
            burnt=transcript.rounds() - summed,
            certificates=certificates,
            witnesses=witnesses,
            evidence=None if recomputed is None else recomputed.evidence,
            sums=None if recomputed is None else recomputed.sums,
        )

    def lines(self) -> list[str]:
        """Return the report for a person."""
        shown = [f"run {self.run_id}: the transcript holds", f"head          {self.head}"]
        shown.append(f"rounds        {self.summed} summed, {self.burnt} burnt")
        counted = "not checked: the run's manifest is not kept here"
        if self.certificates is not None:
            counted = f"{self.certificates} of rounds that lost members, all signatures hold"
        shown.append(f"certificates  {counted}")
        if self.witnesses is not None:
            shown.append(f"witnesses     {self.witnesses} rounds as this member was told")
        shown.append(
            "evidence      not checked: it is not on this machine"
            if self.evidence is None
            else f"evidence      {self.evidence} rounds, headers and shares as members signed them"
        )
        shown.append(
            "sums          not recomputed: no masked vectors at hand"
            if self.sums is None
            else f"sums          {self.sums} recomputed from the masked vectors, and their models"
        )
        return [*shown, f"release       {self.release_id or 'none'}"]


def verify_past_manifest(signed: bytes, coordinator_key: bytes) -> VerifiedManifest:
    """Verify the manifest of a run that is over, and so may have expired.

    Raises:
        MalformedMessage: the bytes are no manifest.
        VerificationError: another key signed it.
    """
    return verify_manifest(signed, coordinator_key, from_unix(0))


def check_release_cites(bundle: BundleManifest, transcript: Transcript) -> None:
    """Check that a verified release says of its run what the run's transcript says.

    Raises:
        ReleaseMismatch: another run, manifest, head or number of rounds.
    """
    cited = (bundle.run_id, bundle.run_manifest_hash, bundle.transcript_head, bundle.rounds)
    published = (
        transcript.run_id,
        transcript.manifest_hash,
        transcript.head,
        transcript.rounds_summed(),
    )
    if cited != published:
        raise ReleaseMismatch("the release cites another run or transcript than the one audited")


def check_rounds(transcript: Transcript, verified: VerifiedManifest) -> int:
    """Hold every record against the run's manifest; return how many certificates were verified.

    Raises:
        OutsideManifest: a round, member, cohort, slot or first model the manifest does not allow.
        CertificateInvalid: fewer than t valid signatures of survivors where members were lost.
    """
    manifest = verified.manifest
    records = transcript.records
    if (transcript.run_id, transcript.manifest_hash) != (manifest.run_id, verified.hash):
        raise OutsideManifest("the transcript is of another run or manifest")
    if records and records[0].model_sha256 != manifest.initial_model:
        raise OutsideManifest("the first round did not start from the manifest's first model")
    sessions: dict[int, _Sessions] = {}
    certified = 0
    for record in records:
        _check_bounds(record, manifest)
        own = sessions.setdefault(record.group, _Sessions(verified, record.group))
        own.enter(record)
        certified += own.certify(record)
    if manifest.grouped:
        _check_quorum(records, manifest)
    return certified


def _check_quorum(records: tuple[RoundRecord, ...], manifest: RunManifest) -> None:
    """Check that each round used the sums of enough groups, or none and left the model alone."""
    for number, found in groupby(records, lambda record: record.round):
        groups = list(found)
        used = sum(record.outcome is Outcome.SUMMED for record in groups)
        moved = groups[0].model_sha256 != groups[0].next_model_sha256
        if 0 < used < quorum(len(manifest.groups)) or (moved and not used):
            raise OutsideManifest(f"round {number} was made of the sums of {used} groups")


def _check_bounds(record: RoundRecord, manifest: RunManifest) -> None:
    try:
        listed = set(manifest.peers_of(record.group))
    except NotFound as error:
        raise OutsideManifest(f"round {record.round}: {error.message}") from error
    if record.round > manifest.rounds:
        raise OutsideManifest(f"the manifest has {manifest.rounds} rounds, not {record.round}")
    if not listed.issuperset(record.participants):
        raise OutsideManifest(f"round {record.round} has participants the manifest does not list")
    if len(record.survivors) < manifest.secure_sum.n_min:
        raise OutsideManifest(f"round {record.round} has fewer survivors than the manifest allows")
    if record.slot >= manifest.secure_sum.slots:
        raise OutsideManifest(f"round {record.round} uses a slot that no session has")


@dataclass
class _Sessions:
    """A group's sessions in order: none comes back, and each uses a slot once, upwards."""

    verified: VerifiedManifest
    group: int
    session_id: bytes = b""
    ordinal: int = 0
    slot: int = -1

    def enter(self, record: RoundRecord) -> None:
        if record.session_id != self.session_id:
            if record.ordinal <= self.ordinal:
                raise OutsideManifest(f"round {record.round} reopens a session that was closed")
            self.session_id, self.ordinal, self.slot = record.session_id, record.ordinal, -1
        if record.ordinal != self.ordinal:
            raise OutsideManifest(f"round {record.round} counts its session differently")
        if record.slot <= self.slot:
            raise OutsideManifest(f"round {record.round} uses a slot again, or a lower one")
        self.slot = record.slot

    def certify(self, record: RoundRecord) -> bool:
        """Verify the record's certificate; tell whether one was due.

        A burnt round may have been given up before enough survivors had signed.
        """
        if not record.certificate:
            if record.outcome is not Outcome.BURNT and record.survivors != record.participants:
                raise CertificateInvalid(f"round {record.round} lost members without certificate")
            return False
        with _attributed(record):
            terms = session_terms(self.verified, record.session_id, record.ordinal, self.group)
            request = ReleaseRequest(SurvivorSet(record.t2, record.bitmap()), record.certificate)
            check_certificate(terms, request, record.survivors)
        return True


@contextmanager
def _attributed(record: RoundRecord) -> Iterator[None]:
    try:
        yield
    except (UnmaskRefused, TermsRefused, BadSignature) as error:
        raise CertificateInvalid(
            f"the certificate of round {record.round}: {error.message}",
            hint="the coordinator claims a survivor set that its members did not sign",
        ) from error
