"""The coordinator's side of the secure sum: one object per session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.secagg.terms import SessionTerms


@dataclass(frozen=True)
class SetupOutcome:
    """How set-up ended.

    Attributes:
        confirmed: U2, ascending; rounds choose participants from it. Empty after a complaint.
        complaints: (complainer, dealer) pairs, each signed by the complainer.
        culprits: members that are named alone: in complaints with more than m others.
        excluded: members the next session runs without (culprits, and both of each other pair).
        usable: no complaint was made.
    """

    confirmed: tuple[int, ...]
    complaints: tuple[tuple[int, int], ...]
    culprits: tuple[int, ...]
    excluded: tuple[int, ...]
    usable: bool


@dataclass(frozen=True)
class RoundSum:
    """A finished round: the ring sum over the survivors and what the transcript publishes."""

    round: int
    slot: int
    session_id: bytes
    t2: bytes
    participants: tuple[int, ...]
    survivors: tuple[int, ...]
    bitmap: bytes
    vector: NDArray[np.uint64]
    headers: tuple[tuple[int, bytes], ...]
    digests: tuple[tuple[int, bytes], ...]
    certificate: tuple[tuple[int, bytes], ...]
    answers: tuple[tuple[int, bytes], ...]
    sum_sha256: bytes


class Coordinator:
    """See the module. Not thread-safe. Every on_* is idempotent for the same bytes."""

    terms: SessionTerms

    @classmethod
    def begin(cls, *, terms: SessionTerms, signing_key: Ed25519PrivateKey) -> Coordinator:
        """Start a session over validated terms."""
        raise NotImplementedError

    def advertise_request(self) -> bytes:
        """Return S0's request, the same for all."""
        raise NotImplementedError

    def on_advertise(self, index: int, reply: bytes) -> None:
        """Take a member's keys."""
        raise NotImplementedError

    def share_request(self) -> bytes:
        """Close S0 (U1 is who advertised) and return S1's request, the same for all of U1."""
        raise NotImplementedError

    def on_share(self, index: int, reply: bytes) -> None:
        """Take a member's boxes and commitments."""
        raise NotImplementedError

    def confirm_request(self, index: int) -> bytes:
        """Close S1 and return S2's request for one member."""
        raise NotImplementedError

    def on_confirm(self, index: int, reply: bytes) -> None:
        """Take a confirmation or a complaint."""
        raise NotImplementedError

    def finish_setup(self) -> SetupOutcome:
        """Close S2. Raises TooFew."""
        raise NotImplementedError

    @property
    def slots_left(self) -> int:
        """Slots that can still be opened."""
        raise NotImplementedError

    def open_round(
        self,
        round_no: int,
        participants: Sequence[int],
        model_sha256: bytes,
        config: bytes,
        words: int,
    ) -> bytes:
        """Open the next slot; return the 'masked' request. Raises SlotsUsedUp, TooFew."""
        raise NotImplementedError

    def on_masked(self, index: int, header: bytes, vector: NDArray[np.uint64]) -> None:
        """Check one complete upload and add it to the accumulator; a bad one leaves no trace."""
        raise NotImplementedError

    def close_masked(self) -> tuple[int, ...]:
        """Fix U3 = who uploaded. Raises TooFew (then abandon_slot)."""
        raise NotImplementedError

    def unmask_request(self) -> bytes:
        """Return the one unmask request, for every survivor. Persist dump_round first."""
        raise NotImplementedError

    def on_unmask(self, index: int, reply: bytes) -> None:
        """Take shares (nobody lost) or a signature over the survivor set (somebody lost)."""
        raise NotImplementedError

    @property
    def needs_release(self) -> bool:
        """Somebody was lost: after t signatures, send :meth:`release_request`."""
        raise NotImplementedError

    @property
    def can_release(self) -> bool:
        """At least t survivors signed."""
        raise NotImplementedError

    def release_request(self) -> bytes:
        """Return the release request with its certificate, for every survivor. Raises TooFew."""
        raise NotImplementedError

    def on_release(self, index: int, reply: bytes) -> None:
        """Take a survivor's b- and rho-shares."""
        raise NotImplementedError

    @property
    def can_finish(self) -> bool:
        """At least t members' shares are in."""
        raise NotImplementedError

    def finish_round(self) -> RoundSum:
        """Unmask. Raises TooFew (ask again), InconsistentDealer or SumRejected (round burnt)."""
        raise NotImplementedError

    def abandon_slot(self) -> None:
        """Drop the open slot (too few masked, or burnt); the next round takes the next slot."""
        raise NotImplementedError

    def dump_setup(self) -> bytes:
        """Return the set-up's state; write once before the first round."""
        raise NotImplementedError

    def dump_round(self) -> bytes:
        """Return the round's state, small; write after every change, before acting on it."""
        raise NotImplementedError

    def accumulator(self) -> memoryview:
        """Return the bytes of the sum so far; write once, after close_masked."""
        raise NotImplementedError

    @classmethod
    def load(
        cls,
        *,
        signing_key: Ed25519PrivateKey,
        setup: bytes,
        round_state: bytes = b"",
        accumulator: bytes = b"",
    ) -> Coordinator:
        """Resume: an open slot without survivor set is abandoned, a closed one goes on."""
        raise NotImplementedError
