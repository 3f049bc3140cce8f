"""The roster: who belongs to the alliance in one epoch, with index and public key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.errors import BadInput, MalformedMessage, NotFound
from shared.limits import MAX_MEMBERS, MAX_NAME
from shared.trust.names import check_member_id

DOMAIN = "touchstone/roster/v1"


@dataclass(frozen=True, order=True)
class RosterEntry:
    """One member.

    Attributes:
        index: from 1, never reused within an alliance; 0 is the coordinator.
        member_id: the name the member was invited under.
        public_key: raw Ed25519 identity key, 32 bytes.
    """

    index: int
    member_id: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse a name that nobody can have been invited under; people compare by it."""
        try:
            check_member_id(self.member_id)
        except BadInput as error:
            raise MalformedMessage(f"a member's name is none: {error.message}") from error


@dataclass(frozen=True)
class Roster:
    """The members of one epoch, sorted by index.

    Attributes:
        alliance_id: first 16 bytes of the SHA-256 fingerprint of the alliance's CA certificate.
        epoch: grows by one whenever a member joins or leaves.
        entries: one entry a member, strictly ascending by index.
    """

    alliance_id: bytes
    epoch: int
    entries: tuple[RosterEntry, ...]

    def __post_init__(self) -> None:
        """Refuse rosters that two honest parties could read differently."""
        indices = [entry.index for entry in self.entries]
        if any(index < 1 for index in indices) or indices != sorted(set(indices)):
            raise MalformedMessage("the roster's indices are not distinct, ascending and above 0")
        if len({entry.public_key for entry in self.entries}) != len(self.entries):
            raise MalformedMessage("two members of the roster share a public key")
        if len({entry.member_id for entry in self.entries}) != len(self.entries):
            raise MalformedMessage("two members of the roster share a name")
        if len(self.entries) > MAX_MEMBERS:
            raise MalformedMessage("the roster is too long")

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).fixed(self.alliance_id, 16).u32(self.epoch).u32(len(self.entries))
        for entry in self.entries:
            writer.u32(entry.index).text(entry.member_id).fixed(entry.public_key, 32)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Roster:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        alliance_id, epoch = reader.fixed(16), reader.u32()
        entries = tuple(
            RosterEntry(reader.u32(), reader.text(4 * MAX_NAME), reader.fixed(32))
            for _ in range(reader.u32(MAX_MEMBERS))
        )
        reader.end()
        return cls(alliance_id, epoch, entries)

    def hash(self) -> bytes:
        """Return R, the SHA-256 of the encoding."""
        return hashlib.sha256(self.encode()).digest()

    def by_index(self, index: int) -> RosterEntry:
        """Return the entry of ``index``; raises :class:`NotFound`."""
        for entry in self.entries:
            if entry.index == index:
                return entry
        raise NotFound(f"the roster has no member {index}")

    def by_name(self, member_id: str) -> RosterEntry:
        """Return the entry of ``member_id``; raises :class:`NotFound`."""
        for entry in self.entries:
            if entry.member_id == member_id:
                return entry
        raise NotFound(f"the roster has no member named {member_id!r}")
