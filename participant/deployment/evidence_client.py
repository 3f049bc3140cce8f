"""The evidence behind a run's transcript, as the coordinator's registry hands it out."""

from __future__ import annotations

from dataclasses import dataclass

from alliance.v1 import registry_pb2 as pb

from participant.node.registry_client import RegistryClient
from shared.limits import MAX_MODEL_VALUES, MAX_VECTOR_WORDS
from shared.trust.round_record import RoundRecord


@dataclass(frozen=True)
class PublishedEvidence:
    """The evidence of one run; see :class:`~shared.trust.evidence.EvidenceSource`.

    Attributes:
        client: an open client.
        run_id: 16 bytes.
    """

    client: RegistryClient
    run_id: bytes

    def manifest(self) -> bytes:
        """Return the signed run manifest."""
        return self.client.evidence(self.run_id, pb.EVIDENCE_KIND_MANIFEST)

    def setup(self, record: RoundRecord) -> bytes:
        """Return the evidence of the record's session."""
        return self._of(record, pb.EVIDENCE_KIND_SETUP)

    def round(self, record: RoundRecord) -> bytes:
        """Return the record's own evidence."""
        return self._of(record, pb.EVIDENCE_KIND_ROUND)

    def first_model(self) -> bytes:
        """Return the first model's little-endian float32 bytes."""
        return self.client.evidence(
            self.run_id, pb.EVIDENCE_KIND_FIRST_MODEL, limit=4 * MAX_MODEL_VALUES
        )

    def vector(self, record: RoundRecord, index: int) -> bytes:
        """Return a survivor's masked vector, little-endian u64."""
        return self.client.evidence(
            self.run_id,
            pb.EVIDENCE_KIND_VECTOR,
            round_no=record.round,
            group=record.group,
            member=index,
            limit=8 * MAX_VECTOR_WORDS,
        )

    def _of(self, record: RoundRecord, kind: pb.EvidenceKind.ValueType) -> bytes:
        return self.client.evidence(self.run_id, kind, round_no=record.round, group=record.group)
