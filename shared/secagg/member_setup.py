"""Set-up as a member does it: S0 advertise, S1 share, S2 confirm or complain.

Each function checks everything, then changes the state; a refusal leaves it as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared.encoding import Writer
from shared.errors import MalformedMessage
from shared.secagg import keys, wire
from shared.secagg.errors import BadKey, BadSignature, ViewMismatch
from shared.secagg.member_state import CELL, MemberState, Phase
from shared.secagg.messages import decode_blobs, parse
from shared.secagg.setup_messages import (
    Advertisement,
    Confirmation,
    Delivery,
    Part,
    ShareBundle,
    ShareCore,
    decode_deliveries,
    hash_t1,
    hash_t1c,
)
from shared.secagg.shamir import deal, decode_element, encode_element, random_element
from shared.secagg.terms import COORDINATOR, MemberLimits, SessionTerms


@dataclass
class Me:
    """A member in a session: identity, policy, state."""

    signing_key: Ed25519PrivateKey
    limits: MemberLimits
    state: MemberState

    @property
    def index(self) -> int:
        """The member's roster index."""
        return self.state.index

    def seal(self, kind: str, body: bytes) -> bytes:
        """Return a message signed by this member."""
        return wire.seal(kind, self.state.terms, self.index, body, self.signing_key)


def advertise(me: Me, body: bytes) -> bytes:
    """S0: make session keys and sign them; the request must name the very terms we hold."""
    state = me.state
    if body != state.terms.digest():
        raise ViewMismatch("the session's terms are not those of the manifest", culprit=COORDINATOR)
    x25519, kem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    public = Advertisement(
        x25519.public_key().public_bytes_raw(), kem.public_key().public_bytes_raw()
    )
    state.x25519 = bytearray(x25519.private_bytes_raw())
    state.kem_seed = bytearray(kem.private_bytes_raw())
    state.advertisement = me.seal(wire.ADVERTISE + "-reply", public.encode())
    state.phase = Phase.ADVERTISED
    return state.advertisement


def check_advertisements(
    terms: SessionTerms, messages: Sequence[bytes]
) -> dict[int, Advertisement]:
    """Verify U1's signed Advs: listed senders, ascending, no key twice.

    An honest coordinator has checked each on arrival, so every defect names the coordinator.

    Raises:
        BadMessage, BadSignature: an Adv is malformed or not its sender's.
        BadKey: a key appears twice; ``pair`` names both owners.
        ViewMismatch: the list is out of order, repeats a member or has a stranger.
    """
    found: dict[int, Advertisement] = {}
    owners: dict[bytes, int] = {}
    for message in messages:
        sender = parse(wire.peek, message, COORDINATOR).sender
        if sender not in terms.indices or sender <= max(found, default=0):
            raise ViewMismatch("U1 has a stranger or is out of order", culprit=COORDINATOR)
        kind = wire.ADVERTISE + "-reply"
        body = wire.open_signed(message, kind, terms, sender, blame=COORDINATOR)
        adv = parse(Advertisement.decode, body, COORDINATOR)
        for key in (adv.x25519, adv.kem):
            if key in owners:
                raise BadKey(
                    "two members have the same key",
                    culprit=COORDINATOR,
                    pair=(owners[key], sender),
                )
            owners[key] = sender
        found[sender] = adv
    return found


def share(me: Me, body: bytes) -> bytes:
    """S1: check U1, draw every slot's secrets, deal and box them."""
    state = me.state
    messages = parse(decode_blobs, body, COORDINATOR)
    peers = check_advertisements(state.terms, messages)
    if state.advertisement not in messages:
        raise ViewMismatch("our own keys are missing or changed in U1", culprit=COORDINATOR)
    me.limits.check_set(state.terms, peers, me.index, "U1")
    t1 = hash_t1(state.terms, messages)
    dealing = _Dealing(me, t1, peers)
    bundle = dealing.bundle()
    state.advertised = tuple(zip(peers, messages, strict=True))
    state.t1, state.core = t1, bundle.core
    state.own, state.seeds = dealing.own, dealing.seeds
    state.shares = {me.index: dealing.rows[me.index]}
    dealing.forget_others()
    state.phase = Phase.SHARED
    return bundle.encode()


class _Dealing:
    """One member's secrets for all slots, and the parts it makes of them."""

    def __init__(self, me: Me, t1: bytes, peers: dict[int, Advertisement]) -> None:
        self._me, self._t1, self._peers = me, t1, peers
        members, terms = list(peers), me.state.terms
        self._box_keys = keys.BoxKeys(bytes(me.state.x25519))
        self.own = bytearray()
        self.rows = {v: bytearray() for v in members}
        self.seeds = {v: bytearray() for v in members if v > me.index}
        self._self_hashes = bytearray()
        for _ in range(terms.slots):
            b, rho = random_element(), random_element()
            self.own += encode_element(b) + encode_element(rho)
            self._self_hashes += keys.commit_self(b)
            b_shares = deal(b, members, terms.threshold)
            rho_shares = deal(rho, members, terms.threshold)
            for v, b_share, rho_share in zip(members, b_shares, rho_shares, strict=True):
                self.rows[v] += encode_element(b_share) + encode_element(rho_share)
            for v, seeds in self.seeds.items():
                seeds += keys.pair_seed(rho, v)

    def bundle(self) -> ShareBundle:
        """Box everything and sign the digests."""
        parts = tuple((v, self._part(v)) for v in self._peers)
        digests = tuple((v, part.digest(self._me.index, v)) for v, part in parts)
        selfs = bytes(self._self_hashes)
        core = ShareCore(self._t1, hashlib.sha256(selfs).digest(), digests)
        return ShareBundle(self._me.seal(wire.SHARE + "-core", core.encode()), selfs, parts)

    def forget_others(self) -> None:
        """Overwrite the shares dealt to others: t rows rebuild every secret of this member."""
        for v, row in self.rows.items():
            if v != self._me.index:
                row[:] = bytes(len(row))

    def _part(self, v: int) -> Part:
        me, row, seeds = self._me, self.rows[v], bytes(self.seeds.get(v, b""))
        pair_hashes = b"".join(keys.commit_pair(seed) for seed in _cells(seeds))
        hashes = share_hashes(row)
        if v == me.index:
            return Part(b"", b"", hashes, pair_hashes)
        try:
            secret = self._box_keys.agree(self._peers[v].x25519)
            kem_secret, ciphertext = keys.encapsulate(self._peers[v].kem)
        except ValueError as error:
            raise BadKey(f"member {v} advertised an unusable key", culprit=v) from error
        key = keys.box_key(secret, kem_secret, self._t1, me.index, v)
        box = keys.encrypt(key, bytes(row) + seeds, _box_context(self._t1, me.index, v))
        return Part(box, ciphertext, hashes, pair_hashes)


def _cells(data: bytes | bytearray) -> list[bytes]:
    return [bytes(data[at : at + CELL]) for at in range(0, len(data), CELL)]


def share_hashes(row: bytes | bytearray) -> bytes:
    """Return the hash per slot of a row of (b-share, rho-share) cells."""
    cells = _cells(row)
    return b"".join(
        keys.share_hash(keys.share_leaf("b", b), keys.share_leaf("rho", rho))
        for b, rho in zip(cells[::2], cells[1::2], strict=True)
    )


def _box_context(t1: bytes, dealer: int, to: int) -> bytes:
    return Writer().fixed(t1, 32).u32(dealer).u32(to).done()


def record_context(t1c: bytes, index: int, slot: int) -> bytes:
    """Return the associated data of Rec."""
    return Writer().fixed(t1c, 32).u32(index).u32(slot).done()


def check_core(core: bytes, state: MemberState, dealer: int) -> ShareCore:
    """Verify a dealer's signed core against our view; a failure names the coordinator.

    An honest coordinator has checked all of this when the core arrived, so it alone can be
    blamed for passing on one that does not hold.
    """
    try:
        body = wire.open_signed(core, wire.SHARE + "-core", state.terms, dealer)
        value = ShareCore.decode(body)
    except (BadSignature, MalformedMessage) as error:
        raise ViewMismatch(
            f"the shares said to be dealer {dealer}'s are not signed by it", culprit=COORDINATOR
        ) from error
    if value.t1 != state.t1 or [i for i, _ in value.digests] != [i for i, _ in state.advertised]:
        raise ViewMismatch(f"dealer {dealer} dealt under another view", culprit=COORDINATOR)
    return value


def confirm(me: Me, body: bytes) -> bytes:
    """S2: open every box; confirm with Rec, or complain about dealers whose boxes are wrong."""
    state = me.state
    deliveries = parse(decode_deliveries, body, COORDINATOR)
    members = {index for index, _ in state.advertised}
    own = deliveries.get(me.index)
    if own is None or own.core != state.core or own.part is not None:
        raise ViewMismatch("our own shares are missing or changed", culprit=COORDINATOR)
    if not members.issuperset(deliveries):
        raise ViewMismatch("a dealer is not in U1", culprit=COORDINATOR)
    me.limits.check_set(state.terms, deliveries, me.index, "the set of dealers")
    box_keys = keys.BoxKeys(bytes(state.x25519), bytes(state.kem_seed))
    adverts = dict(state.advertised)
    opened: dict[int, bytes] = {}
    blamed: list[int] = []
    for dealer, delivery in deliveries.items():
        if dealer == me.index:
            continue
        _check_delivery(me, dealer, delivery)
        try:
            opened[dealer] = _open_box(me, box_keys, dealer, delivery, adverts[dealer])
        except ValueError:
            blamed.append(dealer)
    if blamed:
        complaint = me.seal(wire.COMPLAINT, Writer().u32s(blamed).done())
        state.wipe()
        return complaint
    _accept(state, deliveries, opened)
    reply = me.seal(wire.CONFIRM + "-reply", Confirmation(state.t1c, _records(state)).encode())
    state.phase = Phase.READY
    return reply


def _check_delivery(me: Me, dealer: int, delivery: Delivery) -> None:
    core = check_core(delivery.core, me.state, dealer)
    digest = delivery.part and delivery.part.digest(dealer, me.index)
    if digest != dict(core.digests)[me.index]:
        raise ViewMismatch(f"dealer {dealer}'s box was exchanged", culprit=COORDINATOR)


def _open_box(
    me: Me, box_keys: keys.BoxKeys, dealer: int, delivery: Delivery, advertisement: bytes
) -> bytes:
    """Return a box's plaintext; raises ValueError for anything only the dealer can have done."""
    state, part = me.state, delivery.part
    if part is None:
        raise ValueError("no box")
    part.check_sizes(dealer, me.index, state.terms.slots)
    adv = Advertisement.decode(wire.verified_body(advertisement))
    secret = box_keys.agree(adv.x25519)
    kem_secret = box_keys.decapsulate(part.ciphertext)
    key = keys.box_key(secret, kem_secret, state.t1, dealer, me.index)
    plain = keys.decrypt(key, part.box, _box_context(state.t1, dealer, me.index))
    row = plain[: state.terms.slots * 2 * CELL]
    for cell in _cells(row):
        decode_element(cell)
    seeds = _cells(plain[len(row) :])
    if share_hashes(row) != part.share_hashes:
        raise ValueError("shares do not match their hashes")
    if b"".join(keys.commit_pair(seed) for seed in seeds) != part.pair_hashes:
        raise ValueError("seeds do not match their hashes")
    return plain


def _accept(state: MemberState, deliveries: dict[int, Delivery], opened: dict[int, bytes]) -> None:
    width = state.terms.slots * 2 * CELL
    for dealer, plain in opened.items():
        state.shares[dealer] = bytearray(plain[:width])
        if dealer < state.index:
            state.seeds[dealer] = bytearray(plain[width:])
    state.dealers = tuple(deliveries)
    state.t1c = hash_t1c(state.t1, ((d, delivery.core) for d, delivery in deliveries.items()))
    state.wipe_session_keys()


def _records(state: MemberState) -> tuple[bytes, ...]:
    """Return Rec per slot: the lower peers' seeds, readable only with rho."""
    lower = [index for index, _ in state.advertised if index < state.index]
    records = []
    for slot in range(state.terms.slots):
        cells = b"".join(
            bytes(state.seeds[v][slot * CELL : (slot + 1) * CELL])
            if v in state.seeds
            else bytes(CELL)
            for v in lower
        )
        rho = decode_element(state.own[(2 * slot + 1) * CELL : (2 * slot + 2) * CELL])
        key = keys.recovery_key(rho, state.t1c)
        records.append(keys.encrypt(key, cells, record_context(state.t1c, state.index, slot)))
    return tuple(records)
