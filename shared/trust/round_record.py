"""One round as the coordinator publishes it: who, under which hash, and what came of it.

A run in groups has one record for each group that was asked to unmask; they share the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_MEMBERS

DOMAIN = "touchstone/transcript/v1/round"
NO_SUM = bytes(32)
_SIGNATURE_BYTES = 64


class Outcome(IntEnum):
    """What came of a round in which members were asked to unmask."""

    SUMMED = 1
    BURNT = 2
    UNUSED = 3
    """A group's sum that entered no model, since too few other groups were summed."""


@dataclass(frozen=True)
class RoundRecord:
    """What was said and done in one round.

    Attributes:
        round: from 1.
        attempt: from 1; how often this round was tried before and including this time.
        session_id: 16 bytes, the secure-sum session.
        ordinal: number of that session in the run, or in the group; from 1.
        slot: the one-time slot of the session.
        t2: 32 bytes, binds slot, participants, model, config and quantiser.
        participants: U, member indices, ascending.
        survivors: U3, the members of ``participants`` whose vectors were summed, ascending.
        vectors: ``(index, SHA-256 of the masked vector)`` of each survivor, ascending.
        certificate: ``(index, signature)`` of the survivors' signatures over (T2, bitmap),
            ascending; empty when nobody was lost.
        outcome: summed, or burnt (unmasked in part, never summed).
        sum_sha256: 32 bytes, hash of the unmasked sum; zeros for a burnt round.
        model_sha256: 32 bytes, the model that was sent out.
        next_model_sha256: 32 bytes, the model that came of it; the same one for a burnt round.
        setup_sha256: 32 bytes, hash of the session's published set-up.
        evidence_sha256: 32 bytes, hash of the round's published headers and shares.
        group: from 1 in a run in groups, else 0.
    """

    round: int
    attempt: int
    session_id: bytes
    ordinal: int
    slot: int
    t2: bytes
    participants: tuple[int, ...]
    survivors: tuple[int, ...]
    vectors: tuple[tuple[int, bytes], ...]
    certificate: tuple[tuple[int, bytes], ...]
    outcome: Outcome
    sum_sha256: bytes
    model_sha256: bytes
    next_model_sha256: bytes
    setup_sha256: bytes
    evidence_sha256: bytes
    group: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Where the record stands in the transcript: round, then group."""
        return self.round, self.group

    def bitmap(self) -> bytes:
        """Return the survivor bitmap over the participants; bit i of byte i // 8, low bit first."""
        bits = bytearray((len(self.participants) + 7) // 8)
        alive = set(self.survivors)
        for place, index in enumerate(self.participants):
            if index in alive:
                bits[place // 8] |= 1 << (place % 8)
        return bytes(bits)

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).u32(self.round).u32(self.attempt)
        writer.fixed(self.session_id, 16).u32(self.ordinal).u32(self.slot).fixed(self.t2, 32)
        writer.u32s(self.participants).blob(self.bitmap())
        for _, sha256 in self.vectors:
            writer.fixed(sha256, 32)
        writer.u32(len(self.certificate))
        for index, signature in self.certificate:
            writer.u32(index).fixed(signature, _SIGNATURE_BYTES)
        writer.u8(self.outcome).fixed(self.sum_sha256, 32)
        writer.fixed(self.model_sha256, 32).fixed(self.next_model_sha256, 32)
        writer.fixed(self.setup_sha256, 32).fixed(self.evidence_sha256, 32)
        return writer.u32(self.group).done()

    @classmethod
    def decode(cls, data: bytes) -> RoundRecord:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        round_, attempt = reader.u32(), reader.u32()
        session_id, ordinal = reader.fixed(16), reader.u32()
        slot, t2 = reader.u32(), reader.fixed(32)
        participants = reader.u32s(MAX_MEMBERS)
        survivors = _read_bitmap(reader.blob(MAX_MEMBERS // 8), participants)
        record = cls(
            round=round_,
            attempt=attempt,
            session_id=session_id,
            ordinal=ordinal,
            slot=slot,
            t2=t2,
            participants=participants,
            survivors=survivors,
            vectors=tuple((index, reader.fixed(32)) for index in survivors),
            certificate=tuple(
                (reader.u32(), reader.fixed(_SIGNATURE_BYTES))
                for _ in range(reader.u32(MAX_MEMBERS))
            ),
            outcome=_read_outcome(reader.u8()),
            sum_sha256=reader.fixed(32),
            model_sha256=reader.fixed(32),
            next_model_sha256=reader.fixed(32),
            setup_sha256=reader.fixed(32),
            evidence_sha256=reader.fixed(32),
            group=reader.u32(MAX_MEMBERS),
        )
        reader.end()
        record.check()
        return record

    def check(self) -> None:
        """Refuse a record that contradicts itself; raises :class:`MalformedMessage`."""
        if min(self.round, self.attempt, self.ordinal) < 1:
            raise MalformedMessage("rounds, attempts and sessions count from 1")
        for name, indices in (
            ("participants", list(self.participants)),
            ("survivors", list(self.survivors)),
            ("certificate", [index for index, _ in self.certificate]),
        ):
            if indices != sorted(set(indices)) or (indices and indices[0] < 1):
                raise MalformedMessage(f"the {name} of a round are not ascending, each once")
        if not set(self.survivors) <= set(self.participants):
            raise MalformedMessage("a survivor took no part in the round")
        if tuple(index for index, _ in self.vectors) != self.survivors:
            raise MalformedMessage("a round needs one vector hash for each survivor")
        if not {index for index, _ in self.certificate} <= set(self.survivors):
            raise MalformedMessage("a lost member signed the survivor set")
        if (self.outcome is Outcome.BURNT) != (self.sum_sha256 == NO_SUM):
            raise MalformedMessage("a burnt round has no sum and any other has one")
        # In groups the model may have moved on by the sums of the others.
        moved = self.model_sha256 != self.next_model_sha256
        if self.outcome is Outcome.BURNT and moved and not self.group:
            raise MalformedMessage("a burnt round leaves the model unchanged")
        if self.outcome is Outcome.UNUSED and (moved or not self.group):
            raise MalformedMessage("only a group's sum may go unused, and then no model moves")


def _read_bitmap(bitmap: bytes, participants: tuple[int, ...]) -> tuple[int, ...]:
    if len(bitmap) != (len(participants) + 7) // 8:
        raise MalformedMessage("the survivor bitmap does not fit the participants")
    if int.from_bytes(bitmap, "little") >> len(participants):
        raise MalformedMessage("the survivor bitmap has bits beyond the participants")
    return tuple(
        index for place, index in enumerate(participants) if bitmap[place // 8] >> (place % 8) & 1
    )


def _read_outcome(value: int) -> Outcome:
    try:
        return Outcome(value)
    except ValueError as error:
        raise MalformedMessage("the outcome of a round is not known") from error
