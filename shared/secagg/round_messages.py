"""Bodies of a round's messages, as frozen values with one encoding each."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_GROUP, MAX_ROUND_CONFIG_BYTES, MAX_SECAGG_SLOTS, MAX_VECTOR_WORDS
from shared.secagg.keys import sha256
from shared.secagg.messages import HASH, SIGNATURE, ascending


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
        pairs = reader.fixed(2 * HASH * reader.u32(MAX_GROUP))
        reader.end()
        return cls(survivor_set, tuple(struct.iter_unpack(f"{HASH}s{HASH}s", pairs)))
