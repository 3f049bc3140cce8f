"""Bodies of the secure sum's messages, as frozen values with one encoding each.

Decoders raise :class:`MalformedMessage`; who is to blame is known one level up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import (
    MAX_GROUP,
    MAX_ROUND_CONFIG_BYTES,
    MAX_SECAGG_FIELD_BYTES,
    MAX_SECAGG_SLOTS,
    MAX_VECTOR_WORDS,
)
from shared.secagg.errors import BadMessage
from shared.secagg.keys import (
    KEM_CIPHERTEXT_BYTES,
    KEM_KEY_BYTES,
    TAG_BYTES,
    X25519_BYTES,
    sha256,
)
from shared.secagg.terms import DOMAIN, SessionTerms

HASH = 32
SIGNATURE = 64
_T = TypeVar("_T")


def ascending(indices: Iterable[int]) -> tuple[int, ...]:
    """Return the indices; raise MalformedMessage unless strictly ascending from 1."""
    given = tuple(indices)
    if list(given) != sorted(set(given)) or (given and given[0] < 1):
        raise MalformedMessage("member indices are not strictly ascending from 1")
    return given


@dataclass(frozen=True)
class Advertisement:
    """Session keys of one member: X25519 (32 bytes) and ML-KEM-768 (1184 bytes)."""

    x25519: bytes
    kem: bytes

    def encode(self) -> bytes:
        """Return the body."""
        return Writer().fixed(self.x25519, X25519_BYTES).fixed(self.kem, KEM_KEY_BYTES).done()

    @classmethod
    def decode(cls, body: bytes) -> Advertisement:
        """Read a body."""
        reader = Reader(body)
        value = cls(reader.fixed(X25519_BYTES), reader.fixed(KEM_KEY_BYTES))
        reader.end()
        return value


def encode_blobs(blobs: Iterable[bytes]) -> bytes:
    """Return a counted list of byte strings."""
    items = list(blobs)
    writer = Writer().u32(len(items))
    for item in items:
        writer.blob(item)
    return writer.done()


def decode_blobs(body: bytes, limit: int = MAX_GROUP) -> tuple[bytes, ...]:
    """Read a counted list of at most ``limit`` byte strings."""
    reader = Reader(body)
    items = tuple(reader.blob(MAX_SECAGG_FIELD_BYTES) for _ in range(reader.u32(limit)))
    reader.end()
    return items


def hash_t1(terms: SessionTerms, advertisements: Iterable[bytes]) -> bytes:
    """Return T1 over the terms and the signed advertisements, sorted by index."""
    return sha256("t1", terms.encode(), *advertisements)


def hash_t1c(t1: bytes, cores: Iterable[tuple[int, bytes]]) -> bytes:
    """Return T1c over T1 and sorted (dealer, signed share core)."""
    writer = Writer()
    for dealer, core in cores:
        writer.u32(dealer).fixed(hashlib.sha256(core).digest(), HASH)
    return sha256("t1c", t1, writer.done())


@dataclass(frozen=True)
class Part:
    """What a dealer sends one recipient; box and ciphertext are empty for itself.

    Attributes:
        box: AEAD of b-share, rho-share (and kappa if dealer < recipient) for every slot.
        ciphertext: ML-KEM-768 ciphertext.
        share_hashes: one hash per slot, see :func:`~shared.secagg.keys.share_hash`.
        pair_hashes: H(kappa) per slot if dealer < recipient, else empty.
    """

    box: bytes
    ciphertext: bytes
    share_hashes: bytes
    pair_hashes: bytes

    def digest(self, dealer: int, recipient: int) -> bytes:
        """Return what the dealer signs for this recipient."""
        ends = Writer().u32(dealer).u32(recipient).done()
        return sha256("part", ends, *self._fields())

    def _fields(self) -> tuple[bytes, bytes, bytes, bytes]:
        return self.box, self.ciphertext, self.share_hashes, self.pair_hashes

    def write(self, writer: Writer) -> None:
        """Append the four fields."""
        for value in self._fields():
            writer.blob(value)

    @classmethod
    def read(cls, reader: Reader) -> Part:
        """Read the four fields."""
        return cls(*(reader.blob(MAX_SECAGG_FIELD_BYTES) for _ in range(4)))

    def check_sizes(self, dealer: int, recipient: int, slots: int) -> None:
        """Raise MalformedMessage unless every field has its one possible length."""
        pairs = slots if dealer < recipient else 0
        own = dealer == recipient
        box = 0 if own else slots * 2 * HASH + pairs * HASH + TAG_BYTES
        sizes = (box, 0 if own else KEM_CIPHERTEXT_BYTES, slots * HASH, pairs * HASH)
        if tuple(map(len, self._fields())) != sizes:
            raise MalformedMessage("a share part has fields of the wrong length")


@dataclass(frozen=True)
class ShareCore:
    """The signed core of a dealer's share message.

    Attributes:
        t1: the view it dealt under.
        self_hashes_digest: SHA-256 of H(b) of all slots.
        digests: (recipient, part digest) for all of U1, ascending.
    """

    t1: bytes
    self_hashes_digest: bytes
    digests: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Return the body."""
        writer = Writer().fixed(self.t1, HASH).fixed(self.self_hashes_digest, HASH)
        writer.u32(len(self.digests))
        for index, value in self.digests:
            writer.u32(index).fixed(value, HASH)
        return writer.done()

    @classmethod
    def decode(cls, body: bytes) -> ShareCore:
        """Read a body."""
        reader = Reader(body)
        t1, selfs = reader.fixed(HASH), reader.fixed(HASH)
        digests = tuple((reader.u32(), reader.fixed(HASH)) for _ in range(reader.u32(MAX_GROUP)))
        reader.end()
        ascending(index for index, _ in digests)
        return cls(t1, selfs, digests)


@dataclass(frozen=True)
class ShareBundle:
    """A dealer's whole share message: the signed core and what its digests cover."""

    core: bytes
    self_hashes: bytes
    parts: tuple[tuple[int, Part], ...]

    def encode(self) -> bytes:
        """Return the message."""
        writer = Writer(DOMAIN + "share-bundle").blob(self.core).blob(self.self_hashes)
        writer.u32(len(self.parts))
        for index, part in self.parts:
            part.write(writer.u32(index))
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> ShareBundle:
        """Read a message."""
        reader = Reader(data, DOMAIN + "share-bundle")
        core, selfs = reader.blob(), reader.blob(MAX_SECAGG_FIELD_BYTES)
        parts = tuple((reader.u32(), Part.read(reader)) for _ in range(reader.u32(MAX_GROUP)))
        reader.end()
        ascending(index for index, _ in parts)
        return cls(core, selfs, parts)


@dataclass(frozen=True)
class Delivery:
    """What S2 brings one recipient from one dealer; no part for the recipient's own core."""

    core: bytes
    part: Part | None


def encode_deliveries(deliveries: Iterable[tuple[int, Delivery]]) -> bytes:
    """Return the body of a confirm request."""
    items = list(deliveries)
    writer = Writer().u32(len(items))
    for dealer, delivery in items:
        writer.u32(dealer).blob(delivery.core).u8(int(delivery.part is not None))
        if delivery.part is not None:
            delivery.part.write(writer)
    return writer.done()


def decode_deliveries(body: bytes) -> dict[int, Delivery]:
    """Read the body of a confirm request, dealers ascending."""
    reader = Reader(body)
    found: list[tuple[int, Delivery]] = []
    for _ in range(reader.u32(MAX_GROUP)):
        dealer, core, flag = reader.u32(), reader.blob(), reader.u8()
        if flag > 1:
            raise MalformedMessage("a flag is neither 0 nor 1")
        found.append((dealer, Delivery(core, Part.read(reader) if flag else None)))
    reader.end()
    ascending(dealer for dealer, _ in found)
    return dict(found)


@dataclass(frozen=True)
class Confirmation:
    """A member's S2 answer: Rec for each slot under T1c."""

    t1c: bytes
    records: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the body."""
        return Writer().fixed(self.t1c, HASH).blob(encode_blobs(self.records)).done()

    @classmethod
    def decode(cls, body: bytes) -> Confirmation:
        """Read a body."""
        reader = Reader(body)
        t1c, blobs = reader.fixed(HASH), reader.blob(MAX_SECAGG_FIELD_BYTES)
        reader.end()
        return cls(t1c, decode_blobs(blobs, MAX_SECAGG_SLOTS))


@dataclass(frozen=True)
class MaskedRequest:
    """Exchange 1 of a round, as signed by the coordinator."""

    round: int
    slot: int
    participants: tuple[int, ...]
    model_sha256: bytes
    config: bytes
    words: int
    quantiser: bytes

    def encode(self) -> bytes:
        """Return the body."""
        writer = Writer().u32(self.round).u32(self.slot).u32s(self.participants)
        writer.fixed(self.model_sha256, HASH).blob(self.config).u32(self.words)
        return writer.blob(self.quantiser).done()

    @classmethod
    def decode(cls, body: bytes) -> MaskedRequest:
        """Read a body."""
        reader = Reader(body)
        value = cls(
            reader.u32(), reader.u32(MAX_SECAGG_SLOTS - 1), ascending(reader.u32s(MAX_GROUP)),
            reader.fixed(HASH), reader.blob(MAX_ROUND_CONFIG_BYTES),
            reader.u32(MAX_VECTOR_WORDS), reader.blob(256),
        )  # fmt: skip
        reader.end()
        if value.round < 1 or value.words < 3:
            raise MalformedMessage("a round counts from 1 and has at least three words")
        return value

    def t2(self, t1c: bytes) -> bytes:
        """Return T2: what every mask, header, bitmap and share of this round is bound to."""
        head = Writer().u32(self.round).u32(self.slot).u32s(self.participants).u32(self.words)
        config = hashlib.sha256(self.config).digest()
        return sha256("t2", t1c, head.done(), self.model_sha256, config, self.quantiser)


@dataclass(frozen=True)
class MaskedHeader:
    """What a member signs about its masked vector."""

    t2: bytes
    vector_sha256: bytes
    words: int

    def encode(self) -> bytes:
        """Return the body."""
        writer = Writer().fixed(self.t2, HASH).fixed(self.vector_sha256, HASH)
        return writer.u32(self.words).done()

    @classmethod
    def decode(cls, body: bytes) -> MaskedHeader:
        """Read a body."""
        reader = Reader(body)
        value = cls(reader.fixed(HASH), reader.fixed(HASH), reader.u32(MAX_VECTOR_WORDS))
        reader.end()
        return value


@dataclass(frozen=True)
class SurvivorSet:
    """T2 and the bitmap over U, bit i of byte i // 8, low bit first."""

    t2: bytes
    bitmap: bytes

    def encode(self) -> bytes:
        """Return the body; also what a survivor-set signature covers."""
        return Writer().fixed(self.t2, HASH).blob(self.bitmap).done()

    @classmethod
    def read(cls, reader: Reader) -> SurvivorSet:
        """Read from a larger body."""
        return cls(reader.fixed(HASH), reader.blob(MAX_GROUP // 8))

    @classmethod
    def decode(cls, body: bytes) -> SurvivorSet:
        """Read a body."""
        reader = Reader(body)
        value = cls.read(reader)
        reader.end()
        return value

    @classmethod
    def of(cls, t2: bytes, participants: tuple[int, ...], alive: Iterable[int]) -> SurvivorSet:
        """Build the bitmap of ``alive`` over ``participants``."""
        chosen = set(alive)
        bits = sum(1 << place for place, index in enumerate(participants) if index in chosen)
        return cls(t2, bits.to_bytes((len(participants) + 7) // 8, "little"))

    def survivors(self, participants: tuple[int, ...]) -> tuple[int, ...]:
        """Return the members whose bit is 1; raise MalformedMessage for a wrong length or bits."""
        bits = int.from_bytes(self.bitmap, "little")
        if len(self.bitmap) != (len(participants) + 7) // 8 or bits >> len(participants):
            raise MalformedMessage("the survivor bitmap does not fit the participants")
        return tuple(index for place, index in enumerate(participants) if bits >> place & 1)


@dataclass(frozen=True)
class ReleaseRequest:
    """The survivor set with its certificate: (index, signature), ascending."""

    survivor_set: SurvivorSet
    certificate: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Return the body."""
        writer = Writer().blob(self.survivor_set.encode()).u32(len(self.certificate))
        for index, signature in self.certificate:
            writer.u32(index).fixed(signature, SIGNATURE)
        return writer.done()

    @classmethod
    def decode(cls, body: bytes) -> ReleaseRequest:
        """Read a body."""
        reader = Reader(body)
        survivor_set = SurvivorSet.decode(reader.blob(128))
        certificate = tuple(
            (reader.u32(), reader.fixed(SIGNATURE)) for _ in range(reader.u32(MAX_GROUP))
        )
        reader.end()
        ascending(index for index, _ in certificate)
        return cls(survivor_set, certificate)


@dataclass(frozen=True)
class Reveal:
    """A member's shares for one round: of b for survivors, of rho for the lost.

    Attributes:
        survivor_set: what the shares are released under.
        shares: (share, the other share's leaf) by participant, in the order of U.
    """

    survivor_set: SurvivorSet
    shares: tuple[tuple[bytes, bytes], ...]

    def encode(self) -> bytes:
        """Return the body."""
        writer = Writer().blob(self.survivor_set.encode()).u32(len(self.shares))
        for share, leaf in self.shares:
            writer.fixed(share, HASH).fixed(leaf, HASH)
        return writer.done()

    @classmethod
    def decode(cls, body: bytes) -> Reveal:
        """Read a body."""
        reader = Reader(body)
        survivor_set = SurvivorSet.decode(reader.blob(128))
        shares = tuple(
            (reader.fixed(HASH), reader.fixed(HASH)) for _ in range(reader.u32(MAX_GROUP))
        )
        reader.end()
        return cls(survivor_set, shares)


def parse(decode: Callable[[bytes], _T], body: bytes, culprit: int) -> _T:
    """Decode ``body``; a defect is a BadMessage that names ``culprit``."""
    try:
        return decode(body)
    except MalformedMessage as error:
        raise BadMessage(error.message, culprit=culprit) from error
