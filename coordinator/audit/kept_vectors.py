"""The masked vectors a run kept, held against what members signed and the transcript says."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from coordinator.rounds.journal import Journal
from shared.errors import VerificationError
from shared.secagg import peek
from shared.secagg.round_messages import MaskedHeader
from shared.secagg.wire import MASKED, open_signed
from shared.trust.manifest import VerifiedManifest
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.session import session_terms
from shared.trust.transcript import Transcript, TranscriptError


class KeptVectorMismatch(TranscriptError):
    """A kept masked vector is gone, or is not the one its member signed or the round names."""

    code = "kept_vector"


def check_kept(journal: Journal, transcript: Transcript, verified: VerifiedManifest) -> int:
    """Recompute the digest of every masked vector that was summed; return how many there were.

    Raises:
        KeptVectorMismatch: one is missing, altered, or not signed by its member for this round.
    """
    checked = 0
    for record in transcript.records:
        if record.outcome is not Outcome.BURNT:
            for index, digest in record.vectors:
                _check_vector(journal, record, verified, index, digest)
                checked += 1
    return checked


def _check_vector(
    journal: Journal, record: RoundRecord, verified: VerifiedManifest, index: int, digest: bytes
) -> None:
    where = f"member {index}'s vector of round {record.round}"
    try:
        header, vector = journal.of_group(record.group).masked(record.round, index)
    except FileNotFoundError as error:
        raise KeptVectorMismatch(f"{where} is gone, though the run kept them") from error
    if hashlib.sha256(vector).digest() != digest:
        raise KeptVectorMismatch(f"{where} is not the one the transcript names")
    try:
        terms = session_terms(verified, record.session_id, 1, record.group)
        terms = replace(terms, ordinal=peek(header).ordinal)
        signed = MaskedHeader.decode(open_signed(header, f"{MASKED}-reply", terms, index))
    except VerificationError as error:
        raise KeptVectorMismatch(f"{where}: {error.message}") from error
    if (signed.t2, signed.vector_sha256) != (record.t2, digest):
        raise KeptVectorMismatch(f"{where} was signed for another round or view")
