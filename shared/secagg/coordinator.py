"""The coordinator's side of the secure sum: one object per session."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.encoding import Reader, Writer
from shared.limits import MAX_SECAGG_MESSAGE_BYTES
from shared.secagg import wire
from shared.secagg.coordinator_round import RoundBook
from shared.secagg.coordinator_setup import SetupBook, SetupOutcome
from shared.secagg.errors import OutOfOrder, SlotsUsedUp, TermsRefused, TooFew
from shared.secagg.evidence import SetupEvidence
from shared.secagg.results import RoundFacts, RoundSum
from shared.secagg.round_messages import MaskedRequest
from shared.secagg.stream import apply_masks
from shared.secagg.tail import METRIC_WORDS, check_canaries
from shared.secagg.terms import COORDINATOR, DOMAIN, SessionTerms
from shared.secagg.unmask import mask_keys


class Coordinator:
    """One session as the coordinator runs it. Not thread-safe.

    Every ``on_*`` takes the same bytes again without effect, raises for other bytes from the
    same member, and leaves no trace of a reply it refuses; the caller goes on without that
    member. Write ``dump_setup`` before the first round; write ``dump_round`` after ``open_round``
    and each later step *before* acting on it, and ``accumulator`` (first) after ``close_masked``.
    """

    def __init__(self, setup: SetupBook, signing_key: Ed25519PrivateKey) -> None:
        self._setup = setup
        self._key = signing_key
        self._next_slot = 0
        self._book: RoundBook | None = None
        self._lent: weakref.ref[NDArray[np.uint64]] | None = None
        self._spare: NDArray[np.uint64] | None = None

    @classmethod
    def begin(cls, *, terms: SessionTerms, signing_key: Ed25519PrivateKey) -> Coordinator:
        """Start a session.

        Raises:
            TermsRefused: the terms are unsafe, or name another coordinator key.
        """
        terms.validate()
        if signing_key.public_key().public_bytes_raw() != terms.coordinator_key:
            raise TermsRefused("the terms name another coordinator key")
        return cls(SetupBook(terms), signing_key)

    @property
    def terms(self) -> SessionTerms:
        """The session's terms."""
        return self._setup.terms

    def _seal(self, kind: str, body: bytes) -> bytes:
        return wire.seal(kind, self.terms, COORDINATOR, body, self._key)

    def advertise_request(self) -> bytes:
        """Return S0's request, the same for every listed member."""
        return self._seal(wire.ADVERTISE, self.terms.digest())

    def on_advertise(self, index: int, reply: bytes) -> None:
        """Take a member's session keys.

        Raises:
            BadMessage, BadSignature, BadKey, RequestChanged: with the member as culprit.
            OutOfOrder: S0 is over.
        """
        self._setup.add_advertisement(index, reply)

    def share_request(self) -> bytes:
        """Close S0 (U1 = who advertised) and return S1's request, the same for all of U1.

        Raises:
            TooFew: |U1| is below the minimum cohort; wait, or start a new session.
        """
        return self._seal(wire.SHARE, self._setup.close_advertising())

    @property
    def advertised(self) -> tuple[int, ...]:
        """U1 so far."""
        return tuple(sorted(self._setup.advertised))

    def on_share(self, index: int, reply: bytes) -> None:
        """Take a member's boxes and commitments; raises as :meth:`on_advertise`."""
        self._setup.add_shares(index, reply)

    @property
    def dealers(self) -> tuple[int, ...]:
        """Who has dealt so far."""
        return tuple(sorted(self._setup.bundles))

    def confirm_request(self, index: int) -> bytes:
        """Close S1 (dealers = who dealt) and return S2's request for one dealer.

        Raises:
            TooFew: fewer than the minimum cohort dealt.
        """
        return self._seal(wire.CONFIRM, self._setup.confirm_body(index))

    def on_confirm(self, index: int, reply: bytes) -> None:
        """Take a confirmation or a signed complaint; raises as :meth:`on_advertise`."""
        self._setup.add_confirmation(index, reply)

    def finish_setup(self) -> SetupOutcome:
        """Close S2 and say who may take part, or whom a complaint excludes.

        Raises:
            TooFew: nobody complained and fewer than the minimum cohort confirmed.
        """
        return self._setup.finish()

    @property
    def confirmed(self) -> tuple[int, ...]:
        """U2 once set-up is finished."""
        return tuple(sorted(self._setup.records)) if self._setup.ready else ()

    @property
    def slots_left(self) -> int:
        """Slots that can still be opened."""
        return self.terms.slots - self._next_slot

    @property
    def round_open(self) -> bool:
        """A slot is open and neither finished nor abandoned."""
        return self._book is not None

    def open_round(
        self,
        round_no: int,
        participants: Sequence[int],
        model_sha256: bytes,
        config: bytes,
        words: int,
    ) -> bytes:
        """Open the next slot.

        Args:
            round_no: round of the run, from 1.
            participants: U, a subset of U2.
            model_sha256: SHA-256 of the model sent along, 32 bytes.
            config: the training config; members hash its very bytes.
            words: length of the vector, ``Layout.words``.

        Returns:
            The 'masked' request, the same for every participant.

        Raises:
            OutOfOrder: set-up is not usable, or a round is open.
            SlotsUsedUp: a new session is due.
            TooFew: U is below the minimum cohort.
            TermsRefused: U has members outside U2.
        """
        if not self._setup.ready or self._book is not None:
            raise OutOfOrder("a round needs a usable set-up and no other open round")
        if self.slots_left == 0:
            raise SlotsUsedUp("every slot of this session is used", hint="start a new session")
        chosen = tuple(sorted(set(participants)))
        if not set(self.confirmed).issuperset(chosen):
            raise TermsRefused("a participant has not confirmed the set-up")
        request = MaskedRequest(
            round_no, self._next_slot, chosen, model_sha256, config, words,
            self.terms.quantiser.encode(),
        )  # fmt: skip
        MaskedRequest.decode(request.encode())
        book = RoundBook(self._setup, request, self._zeros(words))
        if len(chosen) < book.floor:
            raise TooFew(f"{len(chosen)} participants, {book.floor} are needed")
        self._book, self._lent, self._spare = book, None, None
        self._next_slot += 1
        return self.masked_request()

    def _zeros(self, words: int) -> NDArray[np.uint64]:
        spare = self._spare
        if spare is None or spare.size < words:
            # With room for an evaluating round, so that all rounds of a run can share it.
            spare = np.zeros(words + METRIC_WORDS, dtype=np.uint64)
        return spare[:words]

    def _open(self) -> RoundBook:
        if self._book is None:
            raise OutOfOrder("no round is open")
        return self._book

    def masked_request(self) -> bytes:
        """Return the open round's 'masked' request again, the same bytes."""
        return self._seal(wire.MASKED, self._open().request.encode())

    def on_masked(self, index: int, header: bytes, vector: NDArray[np.uint64]) -> None:
        """Check one complete upload and add it to the accumulator.

        Args:
            index: who sent it, as the transport authenticated it.
            header: its signed header.
            vector: uint64[words]; may be discarded afterwards.

        Raises:
            BadMessage, BadSignature, BadUpload, RequestChanged: with the member as culprit.
            OutOfOrder: uploads are closed (the vector stays masked for ever).
        """
        self._open().add_upload(index, header, vector)

    @property
    def uploaded(self) -> tuple[int, ...]:
        """Who has uploaded in the open round."""
        return tuple(sorted(self._open().headers))

    def close_masked(self) -> tuple[int, ...]:
        """Fix U3 = who uploaded, and return it.

        Raises:
            TooFew: below the minimum cohort; wait for more or :meth:`abandon_slot`.
        """
        return self._open().close()

    @property
    def open_survivors(self) -> tuple[int, ...]:
        """U3 of the open round once it is fixed, else empty."""
        return self._book.survivors if self._book else ()

    def round_facts(self) -> RoundFacts:
        """Return what the transcript says of the open round; raises OutOfOrder without one."""
        book = self._open()
        return RoundFacts(
            book.request.slot, book.t2, book.request.participants, book.survivors,
            book.summed_digests(), book.certified, book.evidence(),
        )  # fmt: skip

    def unmask_request(self) -> bytes:
        """Return the one unmask request, for every survivor, the same bytes each time."""
        return self._seal(wire.UNMASK, self._open().survivor_set().encode())

    def on_unmask(self, index: int, reply: bytes) -> None:
        """Take shares (nobody lost) or a signature over the survivor set (somebody lost).

        Raises:
            BadMessage, BadSignature, BadShare, RequestChanged: with the culprit.
            OutOfOrder: uploads are open, or the member is no survivor.
        """
        self._open().add_unmask(index, reply)

    @property
    def needs_release(self) -> bool:
        """Somebody was lost: after t signatures, send :meth:`release_request`."""
        book = self._open()
        return bool(book.survivors and book.lost)

    @property
    def can_release(self) -> bool:
        """At least t survivors have signed."""
        return self.needs_release and len(self._open().signatures) >= self.terms.threshold

    def release_request(self) -> bytes:
        """Return the release request, for every survivor, the same bytes each time.

        Raises:
            TooFew: fewer than t survivors have signed.
            OutOfOrder: nobody was lost.
        """
        return self._seal(wire.RELEASE, self._open().certify().encode())

    def on_release(self, index: int, reply: bytes) -> None:
        """Take a survivor's b- and rho-shares; raises as :meth:`on_unmask`."""
        self._open().add_release(index, reply)

    @property
    def can_finish(self) -> bool:
        """At least t members' shares are in."""
        return len(self._open().shares) >= self.terms.threshold

    def finish_round(self) -> RoundSum:
        """Take the masks off and close the slot.

        Raises:
            TooFew: fewer than t members' shares are in; ask again, nothing has changed.
            InconsistentDealer: names the dealer; the round is burnt, nothing has changed.
            SumRejected: the canaries do not count U3; the round is burnt and closed.
        """
        book = self._open()
        survivor_set = book.survivor_set()
        masks = mask_keys(book)
        self._book = None
        apply_masks(book.sum, masks.missing, masks.present)
        check_canaries(book.sum, len(book.survivors))
        self._lent = weakref.ref(book.sum)
        return RoundSum(
            book.request.round, book.request.slot, self.terms.session_id, book.t2,
            book.request.participants, book.survivors, survivor_set.bitmap, book.sum,
            book.summed_digests(), book.certified, book.evidence(),
            hashlib.sha256(book.sum.data).digest(),
        )  # fmt: skip

    def take_back(self, result: RoundSum) -> None:
        """Wipe the last round's sum and let the next round use its memory; optional.

        Fresh memory costs as much as twenty additions into it. ``result.vector`` is zeros from
        now on and must not be used any more.

        Raises:
            OutOfOrder: it is not the last round's sum, or came back before.
        """
        lent = self._lent() if self._lent is not None else None
        if lent is None or result.vector is not lent:
            raise OutOfOrder("only the last round's sum can be taken back, and once")
        lent.fill(0)
        self._lent, self._spare = None, lent if lent.base is None else lent.base

    def abandon_slot(self) -> None:
        """Close the open slot without a sum; the next round takes the next slot."""
        self._book = None

    def setup_evidence(self) -> SetupEvidence:
        """Return what of the finished set-up anyone needs to recompute its rounds."""
        return self._setup.evidence()

    def dump_setup(self) -> bytes:
        """Return the finished set-up; write it once, before the first round."""
        return self._setup.encode()

    def dump_round(self) -> bytes:
        """Return the slots used and the open round without its accumulator; small."""
        writer = Writer(DOMAIN + "rounds").u32(self._next_slot)
        return writer.blob(self._book.encode() if self._book else b"").done()

    def accumulator(self) -> memoryview:
        """Return the open round's accumulator, little-endian u64 words, not copied."""
        return self._open().sum.data.cast("B")

    @classmethod
    def load(
        cls,
        *,
        signing_key: Ed25519PrivateKey,
        setup: bytes,
        round_state: bytes = b"",
        accumulator: bytes = b"",
    ) -> Coordinator:
        """Resume after a restart.

        A round whose survivor set was not fixed is abandoned (its vectors are gone): the caller
        opens the same round again, in the next slot. One whose set was fixed goes on: ask again,
        with the same bytes, and finish.

        Raises:
            MalformedMessage, VerificationError: a file is damaged, or the accumulator is missing.
        """
        coordinator = cls(SetupBook.decode(setup), signing_key)
        if round_state:
            reader = Reader(round_state, DOMAIN + "rounds")
            coordinator._next_slot = reader.u32(coordinator.terms.slots)
            book = reader.blob(MAX_SECAGG_MESSAGE_BYTES)
            reader.end()
            if book:
                resumed = RoundBook.decode(book, coordinator._setup, accumulator)
                coordinator._book = resumed if resumed.survivors else None
        return coordinator
