"""What the two state machines hand to their adapters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.secagg.evidence import RoundEvidence


@dataclass(frozen=True)
class OpenRound:
    """A round the member has agreed to mask for.

    Attributes:
        round: round of the run, from 1.
        slot: one-time slot.
        participants: U, ascending.
        config: the training config's bytes, hashed into T2.
        model_sha256: SHA-256 of the model that came along.
        words: length the vector must have.
        t2: 32 bytes, what this round is bound to.
        already_answered: the vector was masked before; send the stored one (see
            :meth:`Member.restore_upload`), train nothing.
    """

    round: int
    slot: int
    participants: tuple[int, ...]
    config: bytes
    model_sha256: bytes
    words: int
    t2: bytes
    already_answered: bool


@dataclass(frozen=True)
class MaskedUpload:
    """What leaves for the coordinator.

    Attributes:
        header: signed; names T2, length and SHA-256 of the vector.
        vector: masked words, uint64; on the wire little-endian.
    """

    header: bytes
    vector: NDArray[np.uint64]


@dataclass(frozen=True)
class AnsweredRound:
    """What a member was told, and sent, in the round it answered last.

    Attributes:
        round: round of the run.
        slot: its slot.
        t2: 32 bytes.
        bitmap: the survivor bitmap it stands by.
        vector_sha256: SHA-256 of the vector it uploaded, 32 bytes.
    """

    round: int
    slot: int
    t2: bytes
    bitmap: bytes
    vector_sha256: bytes


@dataclass(frozen=True)
class RoundSum:
    """A finished round: the sum, and everything its transcript publishes.

    Attributes:
        round: round of the run.
        slot: its slot.
        session_id: 16 bytes.
        t2: 32 bytes.
        participants: U.
        survivors: U3; ``vector`` is the sum over exactly these.
        bitmap: over U, bit i of byte i // 8, low bit first.
        vector: uint64[words], canaries checked; open it with :func:`~shared.secagg.check_sum`.
        digests: (index, SHA-256 of the masked vector) of U3.
        certificate: (index, Ed25519 signature) over the survivor set; empty if nobody was lost.
        evidence: signed headers and the shares that opened the sum.
        sum_sha256: SHA-256 of ``vector``'s little-endian bytes.
    """

    round: int
    slot: int
    session_id: bytes
    t2: bytes
    participants: tuple[int, ...]
    survivors: tuple[int, ...]
    bitmap: bytes
    vector: NDArray[np.uint64]
    digests: tuple[tuple[int, bytes], ...]
    certificate: tuple[tuple[int, bytes], ...]
    evidence: RoundEvidence
    sum_sha256: bytes


@dataclass(frozen=True)
class RoundFacts:
    """A closed round as far as it got, for the transcript of one that is never summed.

    Attributes:
        slot: its slot.
        t2: 32 bytes.
        participants: U.
        survivors: U3.
        digests: (index, SHA-256 of the masked vector) of U3.
        certificate: (index, Ed25519 signature) over the survivor set, if one was sent.
        evidence: signed headers, and the shares that were revealed so far.
    """

    slot: int
    t2: bytes
    participants: tuple[int, ...]
    survivors: tuple[int, ...]
    digests: tuple[tuple[int, bytes], ...]
    certificate: tuple[tuple[int, bytes], ...]
    evidence: RoundEvidence
