"""What the coordinator signed when it told a member of a round: proof, if it later says otherwise.

A witness is a member's own note: with it the member can refuse, but nobody else need believe it.
The coordinator's signature on the very requests can be shown to anybody who has its public key.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.limits import MAX_SECAGG_FIELD_BYTES
from shared.secagg import wire
from shared.secagg.errors import BadSignature
from shared.secagg.messages import parse
from shared.secagg.round_messages import MaskedRequest, ReleaseRequest, SurvivorSet
from shared.secagg.terms import COORDINATOR
from shared.trust.transcript import Transcript

DOMAIN = "touchstone/told-round/v1"


@dataclass(frozen=True)
class Told:
    """One story of one round, as the coordinator signed it.

    Attributes:
        run_id: 16 bytes.
        session_id: 16 bytes.
        ordinal: the session's number.
        t2: 32 bytes, stands for round, slot, participants, model and config.
        bitmap: the survivors, over the participants.
        request: what T2 is said to stand for. Signed, but bound to T2 only by the session's T1c:
            nothing that a contradiction rests on.
    """

    run_id: bytes
    session_id: bytes
    ordinal: int
    t2: bytes
    bitmap: bytes
    request: MaskedRequest

    def holds_for(self, transcript: Transcript) -> bool:
        """Tell whether a transcript has the very same round in it.

        A run that was released has published every round in which shares were asked for. In a run
        that was ended before, the last one may be missing.
        """
        told = (self.session_id, self.ordinal, self.t2, self.bitmap)
        published = (
            (record.session_id, record.ordinal, record.t2, record.bitmap())
            for record in transcript.records
        )
        return transcript.run_id == self.run_id and told in published


@dataclass(frozen=True)
class SignedRound:
    """Two requests of the coordinator, byte for byte as they came; not verified.

    Attributes:
        masked: the request to mask, which names round, slot, participants and model.
        answered: the request for shares, which names T2 and the survivors: unmask, or release.
    """

    masked: bytes
    answered: bytes

    def encode(self) -> bytes:
        """Return the file's content."""
        return Writer(DOMAIN).blob(self.masked).blob(self.answered).done()

    @classmethod
    def decode(cls, data: bytes) -> SignedRound:
        """Read a file's content; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        value = cls(reader.blob(MAX_SECAGG_FIELD_BYTES), reader.blob(MAX_SECAGG_FIELD_BYTES))
        reader.end()
        return value

    def verify(self, coordinator_key: bytes) -> Told:
        """Check both signatures and return what was told.

        Two requests of one session that do not belong together pass, and prove no more than the
        second one does: nobody can make a contradiction of honest ones.

        Args:
            coordinator_key: raw Ed25519 key, 32 bytes.

        Raises:
            MalformedMessage, BadMessage: they are no such requests.
            BadSignature: not this coordinator's, or of two sessions.
        """
        head, body = _opened(self.masked, (wire.MASKED,), coordinator_key)
        other, answer = _opened(self.answered, (wire.UNMASK, wire.RELEASE), coordinator_key)
        where = (head.run_id, head.session_id, head.ordinal)
        if (other.run_id, other.session_id, other.ordinal) != where:
            raise BadSignature("the two requests are of different sessions")
        request = parse(MaskedRequest.decode, body, COORDINATOR)
        if other.kind == wire.RELEASE:
            claim = parse(ReleaseRequest.decode, answer, COORDINATOR).survivor_set
        else:
            claim = parse(SurvivorSet.decode, answer, COORDINATOR)
        return Told(*where, claim.t2, claim.bitmap, request)


def _opened(data: bytes, kinds: tuple[str, ...], key: bytes) -> tuple[wire.Peek, bytes]:
    head = wire.peek(data)
    if head.kind not in kinds or head.sender != COORDINATOR:
        raise BadSignature(f"this is no {' or '.join(kinds)} request of the coordinator")
    signature = wire.signature_of(data)
    wire.verify(key, signature, data[: -len(signature)], COORDINATOR)
    return head, wire.verified_body(data)
