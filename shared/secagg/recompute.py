"""A round recomputed by somebody who took no part in it, from what was published and signed.

The set-up's signed messages give T1c, and T1c with the round's request gives T2. Each survivor has
signed T2 together with the hash of its masked vector, and enough of them have signed the shares
that open the masks. b is checked against what its owner committed to. rho of a lost member is not
(its commitments lie among the boxes, which are not published): a wrong one leaves the sum uniform,
which no canary, lane or tail survives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.secagg import keys, wire
from shared.secagg.errors import BadMessage, BadShare, BadUpload, InconsistentDealer, TooFew
from shared.secagg.evidence import RoundEvidence, SetupEvidence
from shared.secagg.member_setup import record_context
from shared.secagg.messages import HASH, parse
from shared.secagg.round_messages import MaskedHeader, MaskedRequest, Reveal, SurvivorSet
from shared.secagg.setup_messages import Advertisement, ShareCore, hash_t1, hash_t1c
from shared.secagg.shamir import decode_element
from shared.secagg.stream import apply_masks
from shared.secagg.tail import check_canaries
from shared.secagg.terms import COORDINATOR, SessionTerms
from shared.secagg.unmask import MaskKeys, left_over, reconstruct, seeds_of_lost


@dataclass(frozen=True)
class PublishedSetup:
    """A session's set-up whose every signature holds.

    Attributes:
        terms: the session's.
        t1c: what its rounds are bound to, 32 bytes.
        members: U1.
        commitments: H(b) of every slot, by dealer.
    """

    terms: SessionTerms
    t1c: bytes
    members: tuple[int, ...]
    commitments: Mapping[int, bytes]


def verify_setup(terms: SessionTerms, evidence: SetupEvidence) -> PublishedSetup:
    """Rebuild T1 and T1c from the members' signed messages.

    Args:
        terms: built from the run's manifest.
        evidence: as published.

    Raises:
        BadMessage, BadSignature, TermsRefused: a message is not its member's, or of another view.
    """
    for index, message in evidence.advertisements:
        body = wire.open_signed(message, wire.ADVERTISE + "-reply", terms, index)
        parse(Advertisement.decode, body, index)
    members = tuple(index for index, _ in evidence.advertisements)
    t1 = hash_t1(terms, (message for _, message in evidence.advertisements))
    dealers = tuple(index for index, _ in evidence.cores)
    if not set(members).issuperset(dealers) or dealers != tuple(u for u, _ in evidence.commitments):
        raise BadMessage("the set-up's tables name different members", culprit=COORDINATOR)
    for (index, core), (_, commitments) in zip(evidence.cores, evidence.commitments, strict=True):
        body = wire.open_signed(core, wire.SHARE + "-core", terms, index)
        signed = parse(ShareCore.decode, body, index)
        if signed.t1 != t1 or tuple(v for v, _ in signed.digests) != members:
            raise BadMessage(f"member {index} dealt under another view", culprit=COORDINATOR)
        digest = hashlib.sha256(commitments).digest()
        if len(commitments) != terms.slots * HASH or digest != signed.self_hashes_digest:
            raise BadMessage(f"member {index} signed other commitments", culprit=COORDINATOR)
    return PublishedSetup(terms, hash_t1c(t1, evidence.cores), members, dict(evidence.commitments))


@dataclass(frozen=True)
class PublishedRound:
    """A round as published.

    Attributes:
        request: what the members were asked, rebuilt from the manifest and the record.
        survivors: U3.
        evidence: as published.
    """

    request: MaskedRequest
    survivors: tuple[int, ...]
    evidence: RoundEvidence

    @property
    def lost(self) -> tuple[int, ...]:
        """Participants outside U3."""
        alive = set(self.survivors)
        return tuple(u for u in self.request.participants if u not in alive)


def verify_headers(setup: PublishedSetup, published: PublishedRound) -> dict[int, bytes]:
    """Return the hash of each survivor's masked vector, as the survivor signed it.

    That it was signed under this T2 proves that the member was shown this very model, config and
    set of participants.

    Raises:
        BadMessage, BadSignature, BadUpload: a header is missing, or not what its member signed.
    """
    request = published.request
    t2, found = request.t2(setup.t1c), {}
    if tuple(u for u, _ in published.evidence.headers) != published.survivors or not set(
        setup.commitments
    ).issuperset(request.participants):
        raise BadMessage("the headers are not the survivors'", culprit=COORDINATOR)
    for index, header in published.evidence.headers:
        body = wire.open_signed(header, wire.MASKED + "-reply", setup.terms, index)
        signed = parse(MaskedHeader.decode, body, index)
        if (signed.t2, signed.words) != (t2, request.words):
            raise BadUpload(f"member {index} masked under another view", culprit=COORDINATOR)
        found[index] = signed.vector_sha256
    return found


def open_masks(setup: PublishedSetup, published: PublishedRound) -> MaskKeys:
    """Reconstruct the round's masks from the published shares.

    Raises:
        TooFew: fewer than t members' shares were published.
        BadMessage, BadSignature: an answer is not its member's, or of another survivor set.
        BadShare: a share is no element of the field.
        InconsistentDealer: the shares do not give what their dealer committed to.
    """
    request, evidence = published.request, published.evidence
    t2, slot = request.t2(setup.t1c), request.slot
    secrets = dict(
        zip(
            request.participants,
            reconstruct(_shares(setup, published, t2), setup.terms.threshold),
            strict=True,
        )
    )
    for u in published.survivors:
        committed = setup.commitments[u][slot * HASH : (slot + 1) * HASH]
        if keys.commit_self(secrets[u]) != committed:
            raise InconsistentDealer(f"the shares of member {u} open another secret", culprit=u)
    if tuple(u for u, _ in evidence.records) != published.lost:
        raise BadMessage("the records are not those of the lost members", culprit=COORDINATOR)
    seeds = {}
    for u, record in evidence.records:
        context = record_context(setup.t1c, u, slot)
        try:
            seeds[u] = seeds_of_lost(
                u, secrets[u], record, context, t1c=setup.t1c, members=setup.members
            )
        except ValueError as error:
            raise InconsistentDealer(
                f"the shares of member {u} do not open its record", culprit=u
            ) from error
    return left_over(t2, published.survivors, secrets, seeds)


def _shares(setup: PublishedSetup, published: PublishedRound, t2: bytes) -> dict[int, list[int]]:
    kind = (wire.RELEASE if published.lost else wire.UNMASK) + "-reply"
    participants, alive = published.request.participants, set(published.survivors)
    expected = SurvivorSet.of(t2, participants, published.survivors)
    found = {}
    for index, answer in published.evidence.answers:
        body = wire.open_signed(answer, kind, setup.terms, index)
        reveal = parse(Reveal.decode, body, index)
        if (
            index not in alive
            or reveal.survivor_set != expected
            or len(reveal.shares) != len(participants)
        ):
            raise BadMessage(f"member {index} answered for another set", culprit=COORDINATOR)
        try:
            found[index] = [decode_element(share) for share, _ in reveal.shares]
        except ValueError as error:
            raise BadShare("a share is no element of the field", culprit=index) from error
    if len(found) < setup.terms.threshold:
        raise TooFew(f"{len(found)} members' shares are published, {setup.terms.threshold} open")
    return found


def recompute_sum(
    published: PublishedRound,
    masks: MaskKeys,
    vector_of: Callable[[int], NDArray[np.uint64]],
) -> NDArray[np.uint64]:
    """Add up the survivors' masked vectors, one at a time, and take the masks off.

    Args:
        published: the round.
        masks: of :func:`open_masks`.
        vector_of: returns a survivor's masked vector, uint64[words], its hash checked.

    Returns:
        uint64[words], canaries checked.

    Raises:
        SumRejected: the canaries do not count the survivors.
    """
    total = np.zeros(published.request.words, dtype=np.uint64)
    for index in published.survivors:
        np.add(total, vector_of(index), out=total)
    apply_masks(total, masks.missing, masks.present)
    check_canaries(total, len(published.survivors))
    return total
