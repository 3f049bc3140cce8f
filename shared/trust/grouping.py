"""Drawing the groups of a roster: everybody commits to a nonce, then everybody reveals it.

The order of members is a hash of all nonces. A member reveals its own only after it has seen, and
written down, the whole list of commitments, so whoever asks it to reveal has nothing left to
choose but to draw again, and members count the drawings (docs: decision 0011).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from shared.encoding import Reader, Writer, digest
from shared.errors import MalformedMessage, VerificationError
from shared.limits import MAX_MEMBERS
from shared.secagg.groups import assign_groups

DOMAIN = "touchstone/group-drawing/v1/"
HASH = 32
NONCE_BYTES = 32
COMMIT = "commit"
REVEAL = "reveal"


MIN_DRAWN = Fraction(3, 4)
"""Part of a roster that a drawing must hold, see :func:`enough_drawn`."""


class DrawingRefused(VerificationError):
    """A drawing of groups, or a manifest that cites one, is not as this member saw it."""

    code = "group_drawing"


@dataclass(frozen=True)
class Drawing:
    """How a manifest's members were dealt out to groups.

    Attributes:
        number: which drawing of the roster this is, from 1; 0 where nobody is grouped.
        count: groups.
        nonces: 32 bytes from each listed member, in the order of the list.
    """

    number: int = 0
    count: int = 1
    nonces: tuple[bytes, ...] = ()

    def check(self, members: int) -> None:
        """Refuse what no drawing can have made; raises :class:`MalformedMessage`."""
        drawn = (self.number, self.count, len(self.nonces)) != (0, 1, 0)
        if drawn and not (self.number >= 1 and self.count >= 2 and len(self.nonces) == members):
            raise MalformedMessage("the groups' drawing does not fit the members listed")

    def write(self, writer: Writer) -> None:
        """Append the canonical encoding."""
        writer.u32(self.number).u32(self.count).u32(len(self.nonces))
        for nonce in self.nonces:
            writer.fixed(nonce, NONCE_BYTES)

    @classmethod
    def read(cls, reader: Reader) -> Drawing:
        """Read a canonical encoding."""
        number, count = reader.u32(), reader.u32(MAX_MEMBERS)
        return cls(
            number,
            count,
            tuple(reader.fixed(NONCE_BYTES) for _ in range(reader.u32(MAX_MEMBERS))),
        )

    def groups(self, roster_hash: bytes, indices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return the members of each group, as they follow from the nonces.

        Args:
            roster_hash: 32 bytes.
            indices: the members listed, ascending.
        """
        if not self.number:
            return (tuple(indices),)
        writer = Writer(DOMAIN + "seed").fixed(roster_hash, HASH).u32(self.number).u32(self.count)
        for index, nonce in zip(indices, self.nonces, strict=True):
            writer.u32(index).fixed(nonce, NONCE_BYTES)
        return assign_groups(digest(DOMAIN + "order", writer.done()), indices, self.count)

    def list_digest(self, roster_hash: bytes, indices: Sequence[int]) -> bytes:
        """Return the digest of the commitments that these nonces open; see :class:`CommitList`."""
        opened = tuple(
            (index, commitment(roster_hash, self.number, index, nonce))
            for index, nonce in zip(indices, self.nonces, strict=True)
        )
        return CommitList(roster_hash, self.number, self.count, opened).digest()


UNGROUPED = Drawing()
"""Of a run that sums everybody in one group."""


def enough_drawn(drawn: int, roster: int) -> bool:
    """Tell whether a drawing of ``drawn`` members stands for a roster of ``roster``.

    Who calls the drawing also says who has answered. Leaving out honest members would raise the
    share of colluders in every group, so it may not leave out many.
    """
    return drawn >= MIN_DRAWN * roster


def commitment(roster_hash: bytes, number: int, index: int, nonce: bytes) -> bytes:
    """Return what a member commits to, 32 bytes; hiding, as the nonce is random."""
    place = Writer().u32(number).u32(index).done()
    return digest(DOMAIN + "commitment", roster_hash, place, nonce)


@dataclass(frozen=True)
class CommitCall:
    """Asks the members of a roster to commit: drawing ``number`` begins."""

    roster_hash: bytes
    number: int

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return Writer(DOMAIN + COMMIT).fixed(self.roster_hash, HASH).u32(self.number).done()

    @classmethod
    def decode(cls, data: bytes) -> CommitCall:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN + COMMIT)
        call = cls(reader.fixed(HASH), reader.u32())
        reader.end()
        return call


@dataclass(frozen=True)
class CommitList:
    """Who is drawn, into how many groups, and what each has committed to; asks all to reveal.

    Attributes:
        roster_hash: 32 bytes.
        number: the drawing.
        count: groups.
        commitments: (index, 32 bytes), ascending.
    """

    roster_hash: bytes
    number: int
    count: int
    commitments: tuple[tuple[int, bytes], ...]

    def digest(self) -> bytes:
        """Return the 32 bytes that a member writes down before it reveals."""
        return digest(DOMAIN + "list", self.encode())

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN + REVEAL).fixed(self.roster_hash, HASH).u32(self.number)
        return writer.u32(self.count).hashes(self.commitments).done()

    @classmethod
    def decode(cls, data: bytes) -> CommitList:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN + REVEAL)
        roster_hash, number, count = reader.fixed(HASH), reader.u32(), reader.u32(MAX_MEMBERS)
        commitments = reader.hashes(MAX_MEMBERS)
        reader.end()
        indices = [index for index, _ in commitments]
        if indices != sorted(set(indices)) or (indices and indices[0] < 1):
            raise MalformedMessage("the commitments are not in order, each member once")
        return cls(roster_hash, number, count, commitments)


def sign_call(body: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a call with the coordinator's signature."""
    return _signed("call", body, key)


def open_call(data: bytes, coordinator_key: bytes) -> bytes:
    """Return the body of a call; raises :class:`DrawingRefused` if another key signed it."""
    return _opened("call", data, coordinator_key)


def call_body(data: bytes) -> bytes:
    """Return the body of a call that its reader has made itself."""
    return Reader(data, DOMAIN + "call").blob()


def sign_answer(call: bytes, index: int, value: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a member's answer to a signed call: a commitment or a nonce, 32 bytes."""
    body = Writer().fixed(digest(DOMAIN + "answers", call), HASH).u32(index).fixed(value, HASH)
    return _signed("answer", body.done(), key)


def answer_index(data: bytes) -> int:
    """Return who an answer claims to be from, not verified; raises :class:`MalformedMessage`."""
    reader = Reader(Reader(data, DOMAIN + "answer").blob(256))
    reader.fixed(HASH)
    return reader.u32()


def open_answer(data: bytes, call: bytes, index: int, public_key: bytes) -> bytes:
    """Return the value in a member's answer.

    Raises:
        MalformedMessage: the bytes are no answer.
        DrawingRefused: it answers another call, or is another member's.
    """
    reader = Reader(_opened("answer", data, public_key))
    answered, sender, value = reader.fixed(HASH), reader.u32(), reader.fixed(HASH)
    reader.end()
    if (answered, sender) != (digest(DOMAIN + "answers", call), index):
        raise DrawingRefused("the answer belongs to another drawing or member")
    return value


def _signed(label: str, body: bytes, key: Ed25519PrivateKey) -> bytes:
    signature = key.sign(Writer(DOMAIN + label + "/signed").blob(body).done())
    return Writer(DOMAIN + label).blob(body).fixed(signature, 64).done()


def _opened(label: str, data: bytes, public_key: bytes) -> bytes:
    reader = Reader(data, DOMAIN + label)
    body, signature = reader.blob(1 << 20), reader.fixed(64)
    reader.end()
    message = Writer(DOMAIN + label + "/signed").blob(body).done()
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise DrawingRefused("a message of the drawing is not signed by its sender") from error
    return body


def opens(call: CommitList, revealed: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """Return those nonces that open their member's commitment; the others are left out."""
    committed = dict(call.commitments)
    return {
        index: nonce
        for index, nonce in revealed
        if committed.get(index) == commitment(call.roster_hash, call.number, index, nonce)
    }
