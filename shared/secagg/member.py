"""A member's side of the secure sum: one object per session, bytes in, bytes out, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.secagg.guard import RunGuard
from shared.secagg.terms import MemberLimits, SessionTerms


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
    """What leaves for the coordinator: a signed header and the masked vector (u64 LE words)."""

    header: bytes
    vector: NDArray[np.uint64]


class Member:
    """See the module. Not thread-safe. ``guard`` is shared by all sessions of a run.

    After every call that changes state: write ``guard.dump()``, then ``member.dump()`` (fsync),
    then send the answer.
    """

    index: int
    terms: SessionTerms
    guard: RunGuard

    @classmethod
    def begin(
        cls,
        *,
        index: int,
        signing_key: Ed25519PrivateKey,
        terms: SessionTerms,
        limits: MemberLimits,
        guard: RunGuard,
    ) -> Member:
        """Start a session. Raises TermsRefused, SlotClosed."""
        raise NotImplementedError

    def handle(self, request: bytes) -> bytes:
        """Answer an advertise, share, confirm, unmask or release request.

        The same request gets the same stored answer; an answer to a confirm request may be a
        signed complaint, after which the session is unusable.
        """
        raise NotImplementedError

    def open_round(self, request: bytes, model: bytes | memoryview) -> OpenRound:
        """Check a 'masked' request against everything and open its slot (closing earlier ones)."""
        raise NotImplementedError

    def mask(self, vector: NDArray[np.uint64]) -> MaskedUpload:
        """Mask the open round's vector IN PLACE and sign it. Raises BadVector, OutOfOrder."""
        raise NotImplementedError

    def restore_upload(self, vector: NDArray[np.uint64]) -> MaskedUpload:
        """Return the answered round's upload from the stored vector bytes.

        Raises SlotClosed (and loses the slot) when the bytes are not those that were masked.
        """
        raise NotImplementedError

    def lose_slot(self) -> None:
        """Give up the open slot: its stored answer is gone. It is never masked again."""
        raise NotImplementedError

    def dump(self) -> bytes:
        """Return the whole secret state (no signing key, no guard, no vectors)."""
        raise NotImplementedError

    @classmethod
    def load(
        cls, data: bytes, *, signing_key: Ed25519PrivateKey, limits: MemberLimits, guard: RunGuard
    ) -> Member:
        """Resume from :meth:`dump`."""
        raise NotImplementedError

    def wipe(self) -> None:
        """Overwrite every secret, best effort; nothing is answered any more."""
        raise NotImplementedError
