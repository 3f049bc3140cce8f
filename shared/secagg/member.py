"""A member's side of the secure sum: one object per session, bytes in, bytes out, or a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.errors import MalformedMessage
from shared.secagg import member_round, member_setup, wire
from shared.secagg.errors import (
    BadMessage,
    BadSignature,
    OutOfOrder,
    RequestChanged,
    SlotClosed,
    TermsRefused,
)
from shared.secagg.guard import RunGuard
from shared.secagg.member_setup import Me
from shared.secagg.member_state import MemberState, Phase, SlotState
from shared.secagg.messages import parse
from shared.secagg.results import AnsweredRound, MaskedUpload, OpenRound
from shared.secagg.round_messages import MaskedHeader
from shared.secagg.terms import COORDINATOR, MemberLimits, SessionTerms


class Member:
    """One member in one session. Not thread-safe; ``guard`` is shared by a run's sessions.

    After every call that returns something to send: write ``guard.dump()``, then the upload's
    bytes if there are any, then ``dump()`` (each with fsync), and only then send. Delete an older
    session's dump once a newer session's first answer is written. A refusal changes nothing,
    except that a session found closed is wiped.
    """

    def __init__(self, me: Me, guard: RunGuard) -> None:
        self._me = me
        self.guard = guard

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
        """Start a session; it closes every earlier one when S0 is answered.

        Args:
            index: this member's roster index.
            signing_key: its long-term identity key.
            terms: from the signed manifest and the session's id and ordinal.
            limits: its own policy.
            guard: the run's guard, loaded from disk or new.

        Raises:
            TermsRefused: the terms are weaker than the policy, or name another key for us.
            SlotClosed: this or a newer session was joined before.
        """
        limits.check_terms(terms, index)
        if terms.key_of(index) != signing_key.public_key().public_bytes_raw():
            raise TermsRefused("the manifest lists another identity key for this member")
        if guard.run_id != terms.run_id:
            raise TermsRefused("the guard is of another run")
        if terms.ordinal <= guard.session_ordinal:
            raise SlotClosed("a session as new as this one was joined before")
        return cls(Me(signing_key, limits, MemberState(terms, index)), guard)

    @property
    def index(self) -> int:
        """This member's roster index."""
        return self._me.index

    @property
    def terms(self) -> SessionTerms:
        """The session's terms."""
        return self._me.state.terms

    def hold_to(self, limits: MemberLimits) -> None:
        """Check rounds from now on by these limits: a person may have changed them meanwhile."""
        self._me.limits = limits

    @property
    def closed(self) -> bool:
        """The session is over for this member: wiped, complained about or replaced."""
        state = self._me.state
        replaced = state.phase is not Phase.NEW and self.guard.session_ordinal != self.terms.ordinal
        return replaced or state.phase is Phase.CLOSED

    def handle(self, request: bytes) -> bytes:
        """Answer an advertise, share, confirm, unmask or release request.

        The same request gets the same stored bytes until the set-up or the slot closes. The
        answer to a confirm request may be a signed complaint; :attr:`closed` is then true.

        Raises:
            BadMessage, BadSignature, ViewMismatch: malformed, forged or inconsistent.
            RequestChanged: this step was answered for other bytes.
            OutOfOrder, SlotClosed: not the step, slot or session at hand.
            TermsRefused: a set is too small or has too few pinned peers.
            UnmaskRefused: the survivor set is not one this member may stand by.
        """
        kind = parse(wire.peek, request, COORDINATOR).kind
        if kind not in wire.REQUESTS or kind == wire.MASKED:
            raise BadMessage(f"a {kind!r} message is no request", culprit=COORDINATOR)
        body = wire.open_signed(request, kind, self.terms, COORDINATOR)
        digest = hashlib.sha256(request).digest()
        if kind in _SETUP:
            return self._answer_setup(kind, body, digest)
        return self._answer_round(kind, body, digest)

    def _answer_setup(self, kind: str, body: bytes, digest: bytes) -> bytes:
        state = self._me.state
        if state.phase is not Phase.NEW:
            self._check_newest()
        stored = _stored(state.answers, kind, digest)
        if stored is not None:
            return stored
        due, answer = _SETUP[kind]
        if state.phase is not due:
            raise OutOfOrder(f"a {kind} request is not due")
        if kind == wire.ADVERTISE and self.terms.ordinal <= self.guard.session_ordinal:
            raise SlotClosed("a session as new as this one was joined before")
        reply = answer(self._me, body)
        if kind == wire.ADVERTISE:
            self.guard.join(self.terms.ordinal)
        state.answers[kind] = (digest, reply)
        return reply

    def _answer_round(self, kind: str, body: bytes, digest: bytes) -> bytes:
        self._check_newest()
        slot = self._me.state.slot
        if slot is None:
            raise OutOfOrder(f"a {kind} request without a masked vector")
        stored = _stored(slot.answers, kind, digest)
        if stored is not None:
            return stored
        answer = member_round.unmask if kind == wire.UNMASK else member_round.release
        reply = answer(self._me, slot, body, self.guard)
        slot.answers[kind] = (digest, reply)
        return reply

    def _check_newest(self) -> None:
        if self._me.state.phase is Phase.NEW:
            raise OutOfOrder("this session was not joined yet")
        try:
            self.guard.check_session(self.terms.ordinal)
        except SlotClosed:
            self._me.state.wipe()
            raise

    def open_round(self, request: bytes, model: bytes | memoryview) -> OpenRound:
        """Check a 'masked' request and open its slot; every earlier slot closes for good.

        Opening the same request again is allowed: before masking it returns the same round,
        after masking ``already_answered`` is set.

        Args:
            request: the coordinator's signed request.
            model: the model bytes that came with it; their SHA-256 must be the request's.

        Raises:
            BadMessage, BadSignature, ViewMismatch: malformed, forged or inconsistent.
            TermsRefused: U is too small, too unknown, or the model was released too often.
            RoundReleased: a share of this or a later round was given before.
            SlotClosed: the slot, a later one or a newer session was used, or its answer is gone.
            RequestChanged: the slot is open for another request.
            OutOfOrder: set-up is not complete.
        """
        body = wire.open_signed(request, wire.MASKED, self.terms, COORDINATOR)
        self._check_newest()
        if self._me.state.phase is not Phase.READY:
            raise OutOfOrder("a round before set-up is complete")
        wanted = member_round.check_masked(self._me, body, model)
        digest = hashlib.sha256(request).digest()
        slot = self._me.state.slot
        if slot is None or slot.slot != wanted.slot:
            member_round.open_slot(self._me, wanted, digest, self.guard)
            slot = self._slot()
        elif slot.request_sha256 != digest:
            raise RequestChanged("the slot was opened for other bytes", culprit=COORDINATOR)
        elif slot.lost:
            raise SlotClosed("the slot's answer is gone")
        elif not slot.header:
            self.guard.check_round(slot.round)
        return OpenRound(
            slot.round, slot.slot, slot.participants, slot.config, slot.model_sha256,
            slot.words, slot.t2, bool(slot.header),
        )  # fmt: skip

    def _slot(self) -> SlotState:
        slot = self._me.state.slot
        if slot is None:
            raise OutOfOrder("no round is open")
        return slot

    def mask(self, vector: NDArray[np.uint64]) -> MaskedUpload:
        """Mask the open round's vector IN PLACE and sign it; only once in a slot.

        Args:
            vector: uint64[words] from :func:`~shared.secagg.build_vector`; overwritten.

        Raises:
            BadVector: wrong length, type or canaries; the slot stays open.
            OutOfOrder: no round is open, or it was masked already.
            RoundReleased, SlotClosed: meanwhile released, or closed by a newer session.
        """
        self._check_newest()
        slot = self._slot()
        if slot.header or slot.lost:
            raise OutOfOrder("a vector was masked in this slot already")
        self.guard.check_round(slot.round)
        header = member_round.mask(self._me, slot, vector)
        return MaskedUpload(header, vector)

    def restore_upload(self, vector: NDArray[np.uint64]) -> MaskedUpload:
        """Return the answered round's upload from the bytes the adapter has stored.

        Args:
            vector: what :meth:`mask` left, read back from disk.

        Raises:
            OutOfOrder: nothing was masked in the open slot.
            SlotClosed: these are other bytes; the slot is lost from now on.
        """
        slot = self._slot()
        if not slot.header or slot.lost:
            raise OutOfOrder("nothing was masked in this slot")
        body = wire.open_signed(slot.header, wire.MASKED + "-reply", self.terms, self.index)
        if hashlib.sha256(np.ascontiguousarray(vector).data).digest() != (
            MaskedHeader.decode(body).vector_sha256
        ):
            self.lose_slot()
            raise SlotClosed("the stored answer's bytes are not what was masked")
        return MaskedUpload(slot.header, vector)

    def answered_round(self) -> AnsweredRound | None:
        """Return the open slot's round once its survivor set was answered, else None."""
        slot = self._me.state.slot
        if slot is None or not slot.bitmap or not slot.header:
            return None
        body = wire.open_signed(slot.header, wire.MASKED + "-reply", self.terms, self.index)
        sha256 = MaskedHeader.decode(body).vector_sha256
        return AnsweredRound(slot.round, slot.slot, slot.t2, slot.bitmap, sha256)

    def lose_slot(self) -> None:
        """Give up the open slot: its stored answer is gone. It is never masked again."""
        slot = self._slot()
        slot.lost = True
        self._me.state.wipe_before(slot.slot + 1)

    def dump(self) -> bytes:
        """Return the whole secret state: no signing key, no guard, no vectors."""
        return self._me.state.encode()

    @classmethod
    def load(
        cls, data: bytes, *, signing_key: Ed25519PrivateKey, limits: MemberLimits, guard: RunGuard
    ) -> Member:
        """Resume from :meth:`dump`; a session the guard has left behind is wiped at once.

        Raises:
            MalformedMessage: not a member's state.
            BadSignature: the state is of another run than the guard.
        """
        state = MemberState.decode(data)
        if guard.run_id != state.terms.run_id:
            raise BadSignature("the secret state is of another run than the guard")
        own = signing_key.public_key().public_bytes_raw()
        if state.terms.key_of(state.index) != own:
            raise MalformedMessage("the secret state is of another identity")
        member = cls(Me(signing_key, limits, state), guard)
        if member.closed:
            state.wipe()
        return member

    def wipe(self) -> None:
        """Overwrite every secret, best effort; only stored set-up answers are repeated."""
        self._me.state.wipe()


_SETUP: dict[str, tuple[Phase, Callable[[Me, bytes], bytes]]] = {
    wire.ADVERTISE: (Phase.NEW, member_setup.advertise),
    wire.SHARE: (Phase.ADVERTISED, member_setup.share),
    wire.CONFIRM: (Phase.SHARED, member_setup.confirm),
}


def _stored(answers: dict[str, tuple[bytes, bytes]], kind: str, digest: bytes) -> bytes | None:
    """Return the stored answer to the same bytes; raise RequestChanged for other bytes."""
    if kind not in answers:
        return None
    request, reply = answers[kind]
    if request != digest:
        raise RequestChanged(f"a {kind} request was answered for other bytes", culprit=COORDINATOR)
    return reply
