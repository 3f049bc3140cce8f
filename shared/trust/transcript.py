"""The transcript of a run: what the coordinator says happened, round by round, in one chain.

Each record is bound to everything before it by a hash, the head is signed, and the release
cites the head. A member that kept what it was told in a round (its :class:`Witness`) holds it
against the published record: a coordinator that told two members different things, or left a
round out, cannot publish one transcript that satisfies both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from numpy.typing import NDArray

from shared.encoding import Reader, Writer, digest
from shared.errors import MalformedMessage, VerificationError
from shared.limits import MAX_TRANSCRIPT_BYTES, MAX_TRANSCRIPT_ROUNDS
from shared.trust.round_record import Outcome, RoundRecord

FILE_DOMAIN = "touchstone/transcript/v1"
HEAD_DOMAIN = "touchstone/transcript/v1/head"
LINK_DOMAIN = "touchstone/transcript/v1/link"
START_DOMAIN = "touchstone/transcript/v1/start"
_MAX_RECORD_BYTES = 1024 * 1024


class TranscriptError(VerificationError):
    """A transcript does not hold together, or is not the one that was signed or cited."""

    code = "transcript"


class WitnessContradicted(TranscriptError):
    """A round was published otherwise than this member was told, or not at all."""

    code = "witness_contradicted"


class AnotherModel(TranscriptError):
    """A model is not the one that a run's transcript ends in."""

    code = "transcript_model"


@dataclass(frozen=True)
class Witness:
    """What one member was told, and sent, in one round.

    Attributes:
        index: the member.
        round: the round, from 1.
        slot: the one-time slot it masked under.
        t2: 32 bytes, the hash that binds slot, participants, model and config.
        bitmap: the survivor bitmap it answered, over the participants in ascending order.
        vector_sha256: SHA-256 of the masked vector it uploaded.
    """

    index: int
    round: int
    slot: int
    t2: bytes
    bitmap: bytes
    vector_sha256: bytes


@dataclass(frozen=True)
class Transcript:
    """A chain of round records of one run; grows by :meth:`append`, never changes.

    Attributes:
        run_id: 16 bytes.
        manifest_hash: 32 bytes, SHA-256 of the run manifest.
        records: ascending by round.
        head: 32 bytes, the hash that stands for all of it.
    """

    run_id: bytes
    manifest_hash: bytes
    records: tuple[RoundRecord, ...] = ()
    head: bytes = field(default=b"")

    @classmethod
    def start(cls, run_id: bytes, manifest_hash: bytes) -> Transcript:
        """Return the empty transcript of a run."""
        return cls(run_id, manifest_hash, (), digest(START_DOMAIN, run_id, manifest_hash))

    def append(self, record: RoundRecord) -> Transcript:
        """Return this transcript with one more record.

        Raises:
            TranscriptError: the round is not later than the last one (a released round is never
                repeated) nor a later group of the same, the model is not the one the last round
                ended with, or the record is not a truthful one of its outcome.
        """
        record.check()
        if self.records:
            _check_follows(self.records[-1], record)
        head = digest(LINK_DOMAIN, self.head, record.encode())
        return replace(self, records=(*self.records, record), head=head)

    def rounds_summed(self) -> int:
        """Return how many rounds entered the model."""
        return len({record.round for record in self.records if record.outcome is Outcome.SUMMED})

    def rounds(self) -> int:
        """Return how many rounds were released, summed or not."""
        return len({record.round for record in self.records})

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """Return the transcript's file: its records and the coordinator's signature on the head."""
        writer = Writer(FILE_DOMAIN).fixed(self.run_id, 16).fixed(self.manifest_hash, 32)
        writer.u32(len(self.records))
        for record in self.records:
            writer.blob(record.encode())
        return writer.fixed(self.head, 32).fixed(key.sign(self._head_message()), 64).done()

    def check_witness(self, witness: Witness) -> None:
        """Hold what a member was told against what was published.

        Raises:
            WitnessContradicted: the round is missing, or differs in any point.
        """
        records = [
            record
            for record in self.records
            if record.round == witness.round
            and (not record.group or witness.index in record.participants)
        ]
        if not records:
            raise WitnessContradicted(
                f"round {witness.round} is missing, though this member answered in it",
                hint="the coordinator published another story than it told; tell your peers",
            )
        told = (witness.slot, witness.t2, witness.bitmap)
        record = records[0]
        sent = dict(record.vectors).get(witness.index)
        if (record.slot, record.t2, record.bitmap()) != told or sent != witness.vector_sha256:
            raise WitnessContradicted(
                f"round {witness.round} was published differently from what this member was told",
                hint="the coordinator published another story than it told; tell your peers",
            )

    def check_model(self, vector: NDArray[np.float32]) -> None:
        """Check that a model is the one the last round ended with.

        Args:
            vector: float32[P].

        Raises:
            AnotherModel: it is another model, or there was no round at all.
        """
        if not self.records:
            raise AnotherModel("a transcript without rounds leads to no model")
        if self.records[-1].next_model_sha256 != model_sha256(vector):
            raise AnotherModel("the released model is not the one the last round ended with")

    def check_witnesses(self, witnesses: Iterable[Witness]) -> None:
        """Check every witness; see :meth:`check_witness`."""
        for witness in witnesses:
            self.check_witness(witness)

    def _head_message(self) -> bytes:
        count = len(self.records).to_bytes(4, "big")
        return Writer(HEAD_DOMAIN).blob(self.run_id).blob(count).blob(self.head).done()


def _check_follows(last: RoundRecord, record: RoundRecord) -> None:
    if record.round == last.round and last.group:
        models = (last.model_sha256, last.next_model_sha256)
        if record.group <= last.group or (record.model_sha256, record.next_model_sha256) != models:
            raise TranscriptError(f"the groups of round {record.round} contradict each other")
    elif record.round <= last.round:
        raise TranscriptError(f"round {record.round} follows round {last.round}")
    elif record.model_sha256 != last.next_model_sha256:
        raise TranscriptError(
            f"round {record.round} did not start from the model round {last.round} left"
        )


@dataclass(frozen=True, repr=False)
class UnverifiedTranscript:
    """Bytes that claim to be a run's transcript."""

    data: bytes

    def verify(
        self,
        coordinator_public_key: bytes,
        *,
        run_id: bytes,
        manifest_hash: bytes,
        head: bytes | None = None,
    ) -> Transcript:
        """Rebuild the chain and return the transcript.

        Args:
            coordinator_public_key: raw Ed25519 key, 32 bytes.
            run_id: the run it must be of, 16 bytes.
            manifest_hash: the run manifest it must be under, 32 bytes.
            head: the head it must end in, usually the one a verified release cites.

        Raises:
            MalformedMessage: the bytes are no transcript, or larger than any may be.
            TranscriptError: another run, a broken chain, another head, or a wrong signature.
        """
        if len(self.data) > MAX_TRANSCRIPT_BYTES:
            raise MalformedMessage("the transcript is larger than any run's may be")
        reader = Reader(self.data, FILE_DOMAIN)
        if (reader.fixed(16), reader.fixed(32)) != (run_id, manifest_hash):
            raise TranscriptError("the transcript belongs to another run")
        transcript = Transcript.start(run_id, manifest_hash)
        for _ in range(reader.u32(MAX_TRANSCRIPT_ROUNDS)):
            transcript = transcript.append(RoundRecord.decode(reader.blob(_MAX_RECORD_BYTES)))
        claimed, signature = reader.fixed(32), reader.fixed(64)
        reader.end()
        if claimed != transcript.head or head not in (None, claimed):
            raise TranscriptError("the transcript's records do not lead to the head that is cited")
        _check_signature(coordinator_public_key, signature, transcript._head_message())
        return transcript


def _check_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise TranscriptError("the transcript is not signed by this coordinator") from error


def model_sha256(vector: NDArray[np.float32]) -> bytes:
    """Return the 32-byte name of a model: SHA-256 of its little-endian float32 values."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").data).digest()
