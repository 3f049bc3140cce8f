"""Bodies of the set-up's messages, as frozen values with one encoding each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_GROUP, MAX_SECAGG_FIELD_BYTES, MAX_SECAGG_SLOTS
from shared.secagg.keys import (
    KEM_CIPHERTEXT_BYTES,
    KEM_KEY_BYTES,
    TAG_BYTES,
    X25519_BYTES,
    sha256,
)
from shared.secagg.messages import HASH, ascending, decode_blobs, encode_blobs
from shared.secagg.terms import DOMAIN, SessionTerms


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
        return writer.hashes(self.digests).done()

    @classmethod
    def decode(cls, body: bytes) -> ShareCore:
        """Read a body."""
        reader = Reader(body)
        t1, selfs = reader.fixed(HASH), reader.fixed(HASH)
        digests = reader.hashes(MAX_GROUP)
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
