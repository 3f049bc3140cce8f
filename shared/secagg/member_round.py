"""A round as a member does it: check, mask once, then give shares for one survivor set at most."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from shared.errors import MalformedMessage
from shared.secagg import keys, wire
from shared.secagg.errors import BadVector, UnmaskRefused, ViewMismatch
from shared.secagg.guard import RunGuard
from shared.secagg.member_setup import Me
from shared.secagg.member_state import CELL, SlotState
from shared.secagg.messages import SIGNATURE, parse
from shared.secagg.round_messages import (
    MaskedHeader,
    MaskedRequest,
    ReleaseRequest,
    Reveal,
    SurvivorSet,
)
from shared.secagg.shamir import decode_element
from shared.secagg.stream import apply_masks
from shared.secagg.tail import CANARY
from shared.secagg.terms import COORDINATOR, SessionTerms


def check_masked(me: Me, body: bytes, model: bytes | memoryview) -> MaskedRequest:
    """Check a 'masked' request against the session, the policy and the model that came along.

    Raises:
        BadMessage, ViewMismatch: the request contradicts the session or the model.
        TermsRefused: U is too small or has too few pinned peers.
    """
    state = me.state
    request = parse(MaskedRequest.decode, body, COORDINATOR)
    if request.slot >= state.terms.slots:
        raise ViewMismatch("the slot is beyond the session's", culprit=COORDINATOR)
    if request.quantiser != state.terms.quantiser.encode():
        raise ViewMismatch("the quantiser is not the manifest's", culprit=COORDINATOR)
    if me.index not in request.participants or not set(state.dealers).issuperset(
        request.participants
    ):
        raise ViewMismatch("U lacks this member or has one that dealt nothing", culprit=COORDINATOR)
    if hashlib.sha256(model).digest() != request.model_sha256:
        raise ViewMismatch("the model is not the one the request names", culprit=COORDINATOR)
    me.limits.check_set(state.terms, request.participants, me.index, "U")
    return request


def open_slot(me: Me, request: MaskedRequest, request_sha256: bytes, guard: RunGuard) -> None:
    """Open the slot for good: earlier ones, and set-up's stored answers, are wiped."""
    state = me.state
    limit = me.limits.burnt_rounds
    guard.open_slot(request.slot, request.round, request.model_sha256, limit)
    state.wipe_before(request.slot)
    state.answers.clear()
    state.slot = SlotState(
        request.slot, request.round, request_sha256, request.participants,
        request.model_sha256, request.config, request.words, request.t2(state.t1c),
    )  # fmt: skip


def mask(me: Me, slot: SlotState, vector: NDArray[np.uint64]) -> bytes:
    """Mask ``vector`` in place, forget its masks, and return the signed header.

    Raises:
        BadVector: wrong length, type or canaries.
    """
    usable = vector.dtype == np.uint64 and vector.flags.c_contiguous and vector.flags.writeable
    if not usable or vector.shape != (slot.words,):
        raise BadVector(f"the round takes a writable vector of {slot.words} unsigned 64-bit words")
    if int(vector[0]) != CANARY or int(vector[-1]) != CANARY:
        raise BadVector("a vector begins and ends with its canary")
    add, subtract = _mask_keys(me, slot)
    apply_masks(vector, add, subtract)
    digest = hashlib.sha256(vector.data).digest()
    header = MaskedHeader(slot.t2, digest, slot.words)
    slot.header = me.seal(wire.MASKED + "-reply", header.encode())
    me.state.wipe_masks(slot.slot)
    return slot.header


def _mask_keys(me: Me, slot: SlotState) -> tuple[list[bytes], list[bytes]]:
    state, at = me.state, slot.slot
    b = decode_element(state.own[2 * at * CELL : (2 * at + 1) * CELL])
    add = [keys.self_mask_key(b, slot.t2, me.index)]
    subtract: list[bytes] = []
    for v in slot.participants:
        if v == me.index:
            continue
        low, high = sorted((v, me.index))
        seed = bytes(state.seeds[v][at * CELL : (at + 1) * CELL])
        key = keys.pair_mask_key(seed, slot.t2, low, high)
        (add if v < me.index else subtract).append(key)
    return add, subtract


def unmask(me: Me, slot: SlotState, body: bytes, guard: RunGuard) -> bytes:
    """Answer the survivor set: shares if nobody was lost, a signature over it otherwise."""
    survivor_set = parse(SurvivorSet.decode, body, COORDINATOR)
    survivors = _check_survivors(me, slot, survivor_set)
    slot.bitmap = survivor_set.bitmap
    if survivors != slot.participants:
        return me.seal(wire.SURVIVORS, survivor_set.encode())
    return _reveal(me, slot, wire.UNMASK + "-reply", survivor_set, survivors, guard)


def release(me: Me, slot: SlotState, body: bytes, guard: RunGuard) -> bytes:
    """Give shares for a survivor set that t of its members have signed."""
    request = parse(ReleaseRequest.decode, body, COORDINATOR)
    survivors = _check_survivors(me, slot, request.survivor_set)
    if survivors == slot.participants:
        raise UnmaskRefused("nobody was lost: no certificate is due", culprit=COORDINATOR)
    check_certificate(me.state.terms, request, survivors)
    slot.bitmap = request.survivor_set.bitmap
    return _reveal(me, slot, wire.RELEASE + "-reply", request.survivor_set, survivors, guard)


def _check_survivors(me: Me, slot: SlotState, claim: SurvivorSet) -> tuple[int, ...]:
    """Return U3 if this member may stand by it; see secure-sum.md, Unmask."""
    if claim.t2 != slot.t2:
        raise UnmaskRefused("the request is of another round or view", culprit=COORDINATOR)
    if not slot.header or slot.lost:
        raise UnmaskRefused("this member has not masked in this slot", culprit=COORDINATOR)
    if slot.bitmap not in (b"", claim.bitmap):
        raise UnmaskRefused("another survivor set was answered before", culprit=COORDINATOR)
    try:
        survivors = claim.survivors(slot.participants)
    except MalformedMessage as error:
        raise UnmaskRefused(error.message, culprit=COORDINATOR) from error
    if me.index not in survivors:
        raise UnmaskRefused("the survivor set leaves this member out", culprit=COORDINATOR)
    me.limits.check_set(me.state.terms, survivors, me.index, "the survivor set")
    return survivors


def check_certificate(
    terms: SessionTerms, request: ReleaseRequest, survivors: tuple[int, ...]
) -> None:
    """Check that at least t distinct survivors signed exactly this survivor set.

    Raises:
        UnmaskRefused: too few, or a signer is no survivor.
        BadSignature: a signature does not hold.
    """
    signers = [index for index, _ in request.certificate]
    if len(set(signers)) < terms.threshold or not set(survivors).issuperset(signers):
        raise UnmaskRefused(
            f"a certificate needs {terms.threshold} survivors' signatures", culprit=COORDINATOR
        )
    body = request.survivor_set.encode()
    for index, signature in request.certificate:
        signed = wire.signed_bytes(wire.SURVIVORS, terms, index, body)
        wire.verify(terms.key_of(index), signature[:SIGNATURE], signed, COORDINATOR)


def _reveal(
    me: Me,
    slot: SlotState,
    kind: str,
    survivor_set: SurvivorSet,
    survivors: tuple[int, ...],
    guard: RunGuard,
) -> bytes:
    guard.release(slot.round, slot.model_sha256)
    alive, at = set(survivors), 2 * slot.slot * CELL
    shares = []
    for dealer in slot.participants:
        row = me.state.shares[dealer]
        b, rho = bytes(row[at : at + CELL]), bytes(row[at + CELL : at + 2 * CELL])
        if dealer in alive:
            shares.append((b, keys.share_leaf("rho", rho)))
        else:
            shares.append((rho, keys.share_leaf("b", b)))
    return me.seal(kind, Reveal(survivor_set, tuple(shares)).encode())
