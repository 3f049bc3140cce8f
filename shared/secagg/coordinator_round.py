"""One round's book at the coordinator: uploads into one accumulator, then shares, then the sum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage, VerificationError
from shared.limits import MAX_GROUP
from shared.secagg import keys, wire
from shared.secagg.coordinator_setup import SetupBook
from shared.secagg.errors import BadMessage, BadShare, BadUpload, OutOfOrder, RequestChanged, TooFew
from shared.secagg.evidence import RoundEvidence
from shared.secagg.messages import HASH, parse
from shared.secagg.round_messages import (
    MaskedHeader,
    MaskedRequest,
    ReleaseRequest,
    Reveal,
    SurvivorSet,
)
from shared.secagg.shamir import decode_element
from shared.secagg.terms import DOMAIN

_CHUNK_WORDS = 1 << 16
"""Words hashed and added at a time: 512 KiB, which a second-level cache holds."""


@dataclass
class RoundBook:
    """What the coordinator knows of the open slot.

    Attributes:
        setup: the session's set-up.
        request: exchange 1.
        sum: the accumulator, uint64[words]; holds the masked sum until the round is opened.
        headers: signed headers by member.
        survivors: U3 once uploads are closed, else empty.
        digests: SHA-256 of the masked vectors by member, as their headers say.
        sum_checksum: of the accumulator when uploads were closed.
        signatures: signatures over the survivor set by member.
        certified: the certificate once it was sent, else empty.
        reveals: share answers by member.
        shares: decoded (share, dealer order as U) by member.
    """

    setup: SetupBook
    request: MaskedRequest
    sum: NDArray[np.uint64]
    headers: dict[int, bytes] = field(default_factory=dict)
    survivors: tuple[int, ...] = ()
    digests: dict[int, bytes] = field(default_factory=dict)
    sum_checksum: bytes = b""
    signatures: dict[int, bytes] = field(default_factory=dict)
    certified: tuple[tuple[int, bytes], ...] = ()
    reveals: dict[int, bytes] = field(default_factory=dict)
    shares: dict[int, list[int]] = field(default_factory=dict)

    @cached_property
    def t2(self) -> bytes:
        """The round's binding."""
        return self.request.t2(self.setup.t1c)

    @property
    def lost(self) -> tuple[int, ...]:
        """Participants outside U3."""
        alive = set(self.survivors)
        return tuple(u for u in self.request.participants if u not in alive)

    @property
    def floor(self) -> int:
        """Fewest survivors a sum may have."""
        return max(self.setup.terms.n_min, self.setup.terms.threshold)

    def survivor_set(self) -> SurvivorSet:
        """Return T2 and the bitmap; raises OutOfOrder while uploads are open."""
        if not self.survivors:
            raise OutOfOrder("the survivor set is not fixed yet")
        return self._fixed_set

    @cached_property
    def _fixed_set(self) -> SurvivorSet:
        return SurvivorSet.of(self.t2, self.request.participants, self.survivors)

    def add_upload(self, index: int, header: bytes, vector: NDArray[np.uint64]) -> None:
        """Check one upload and add it; a bad one leaves no trace, a repeated one counts once."""
        if index in self.headers:
            if self.headers[index] != header:
                raise RequestChanged(f"member {index} masked twice", culprit=index)
            return
        if self.survivors:
            raise OutOfOrder(f"member {index}'s vector came too late and stays masked")
        signed = self._check_header(index, header)
        if vector.dtype != np.uint64 or vector.shape != (self.request.words,):
            raise BadUpload(f"member {index}'s vector has a wrong length", culprit=index)
        if self._hash_and_add(vector) != signed.vector_sha256:
            np.subtract(self.sum, vector, out=self.sum)
            raise BadUpload(f"member {index}'s vector is not what it signed", culprit=index)
        self.headers[index], self.digests[index] = header, signed.vector_sha256

    def _hash_and_add(self, vector: NDArray[np.uint64]) -> bytes:
        """Add ``vector`` to the accumulator and return its SHA-256, in one pass over it.

        What was just hashed is still in a near cache when it is added. Modulo 2^64 a subtraction
        takes back exactly what was added, so a vector may be refused afterwards.
        """
        digest = hashlib.sha256()
        for start in range(0, vector.size, _CHUNK_WORDS):
            part = np.ascontiguousarray(vector[start : start + _CHUNK_WORDS])
            total = self.sum[start : start + _CHUNK_WORDS]
            digest.update(part.data)
            if self.headers:
                np.add(total, part, out=total)
            else:  # adding to fresh zeros would touch every page twice, to read and to write
                np.copyto(total, part)
        return digest.digest()

    def _check_header(self, index: int, header: bytes) -> MaskedHeader:
        if index not in self.request.participants:
            raise OutOfOrder(f"member {index} has no part in this round", culprit=index)
        body = wire.open_signed(header, wire.MASKED + "-reply", self.setup.terms, index)
        signed = parse(MaskedHeader.decode, body, index)
        if signed.t2 != self.t2 or signed.words != self.request.words:
            raise BadUpload(f"member {index} masked under another view", culprit=index)
        return signed

    def summed_digests(self) -> tuple[tuple[int, bytes], ...]:
        """Return (index, SHA-256 of the masked vector) of U3."""
        return tuple((u, self.digests[u]) for u in self.survivors)

    def evidence(self) -> RoundEvidence:
        """Return what anyone needs to recompute the round, as far as it got."""
        slot, records = self.request.slot, self.setup.records
        return RoundEvidence(
            headers=tuple((u, self.headers[u]) for u in self.survivors),
            answers=tuple(sorted(self.reveals.items())),
            records=tuple((u, records[u][slot]) for u in self.lost),
        )

    def close(self) -> tuple[int, ...]:
        """Fix U3; raises TooFew and leaves the slot open to be abandoned."""
        if not self.survivors:
            if len(self.headers) < self.floor:
                raise TooFew(
                    f"{len(self.headers)} vectors arrived, {self.floor} are needed",
                    hint="the slot is given up and the round tried again",
                )
            self.survivors = tuple(sorted(self.headers))
            self.sum_checksum = keys.checksum(self.sum.data.cast("B"))
        return self.survivors

    def add_unmask(self, index: int, reply: bytes) -> None:
        """Take an unmask answer: shares when nobody was lost, else a signature."""
        survivor_set = self.survivor_set()
        if not self.lost:
            self._add_reveal(index, reply, wire.UNMASK + "-reply")
            return
        self._from_survivor(index)
        body = wire.open_signed(reply, wire.SURVIVORS, self.setup.terms, index)
        if body != survivor_set.encode():
            raise BadMessage(f"member {index} signed another survivor set", culprit=index)
        self.signatures[index] = wire.signature_of(reply)

    def certify(self) -> ReleaseRequest:
        """Return the release request's body; the first certificate of t signatures stays."""
        if not self.lost:
            raise OutOfOrder("nobody was lost: no release is due")
        threshold = self.setup.terms.threshold
        if not self.certified:
            if len(self.signatures) < threshold:
                raise TooFew(f"{len(self.signatures)} survivors signed, {threshold} are needed")
            self.certified = tuple(sorted(self.signatures.items())[:threshold])
        return ReleaseRequest(self.survivor_set(), self.certified)

    def add_release(self, index: int, reply: bytes) -> None:
        """Take a release answer."""
        if not self.certified:
            raise OutOfOrder("no release was asked for")
        self._add_reveal(index, reply, wire.RELEASE + "-reply")

    def _from_survivor(self, index: int) -> None:
        if index not in self.survivors:
            raise OutOfOrder(f"member {index} is not among the survivors", culprit=index)

    def _add_reveal(self, index: int, reply: bytes, kind: str) -> None:
        if index in self.reveals:
            if self.reveals[index] != reply:
                raise RequestChanged(f"member {index} answered twice, differently", culprit=index)
            return
        survivor_set = self.survivor_set()
        self._from_survivor(index)
        body = wire.open_signed(reply, kind, self.setup.terms, index)
        reveal = parse(Reveal.decode, body, index)
        dealers, alive = self.request.participants, frozenset(self.survivors)
        if reveal.survivor_set != survivor_set or len(reveal.shares) != len(dealers):
            raise BadMessage(f"member {index} answered for another survivor set", culprit=index)
        self.shares[index] = [
            self._check_share(index, dealer, share, leaf, alive=dealer in alive)
            for dealer, (share, leaf) in zip(dealers, reveal.shares, strict=True)
        ]
        self.reveals[index] = reply

    def _check_share(
        self, index: int, dealer: int, share: bytes, leaf: bytes, *, alive: bool
    ) -> int:
        """Return a share that matches what its dealer signed; else name who revealed it."""
        if alive:
            found = keys.share_hash(keys.share_leaf("b", share), leaf)
        else:
            found = keys.share_hash(leaf, keys.share_leaf("rho", share))
        hashes = self.setup.parts[dealer, index].share_hashes
        at = self.request.slot * HASH
        if found != hashes[at : at + HASH]:
            raise BadShare(f"member {index} revealed a wrong share", culprit=index)
        try:
            return decode_element(share)
        except ValueError as error:
            raise BadShare("a share is no element of the field", pair=(dealer, index)) from error

    def encode(self) -> bytes:
        """Return the book without the accumulator."""
        writer = Writer(DOMAIN + "round").blob(self.request.encode()).u32s(self.survivors)
        writer.blob(self.sum_checksum)
        tables = (self.headers, self.signatures, dict(self.certified), self.reveals)
        for table in tables:
            writer.u32(len(table))
            for index in sorted(table):
                writer.u32(index).blob(table[index])
        return writer.done()

    @classmethod
    def decode(cls, data: bytes, setup: SetupBook, accumulator: bytes) -> RoundBook:
        """Read :meth:`encode`'s bytes, checking every answer again.

        Args:
            data: the book.
            setup: the session it belongs to.
            accumulator: the stored accumulator; ignored while uploads were open.

        Raises:
            MalformedMessage: the book is damaged or belongs to another set-up.
            VerificationError: an answer does not hold, or the accumulator is not the closed one.
        """
        reader = Reader(data, DOMAIN + "round")
        request = MaskedRequest.decode(reader.blob())
        survivors, sum_checksum = reader.u32s(MAX_GROUP), reader.blob(keys.CHECKSUM_BYTES)
        tables = [_read_table(reader) for _ in range(4)]
        reader.end()
        book = cls(setup, request, np.zeros(0, dtype=np.uint64), headers=tables[0])
        if not survivors:
            return book
        _check_places(setup, request, survivors, tables)
        book.sum = _stored_sum(accumulator, sum_checksum, request.words)
        book.survivors, book.sum_checksum = survivors, sum_checksum
        book.signatures, book.certified = tables[1], tuple(sorted(tables[2].items()))
        kind = (wire.RELEASE if book.lost else wire.UNMASK) + "-reply"
        for index in survivors:
            book.digests[index] = book._check_header(index, tables[0][index]).vector_sha256
        for index, reply in tables[3].items():
            book._add_reveal(index, reply, kind)
        return book


def _stored_sum(accumulator: bytes, checksum: bytes, words: int) -> NDArray[np.uint64]:
    """Return the accumulator that was written when uploads were closed, uint64[words]."""
    try:
        keys.check_checksum(accumulator, checksum)
        stored = np.frombuffer(accumulator, dtype="<u8").reshape(words)
    except ValueError as error:
        raise VerificationError(
            "the stored accumulator is not the one that was closed",
            hint="restore the run's journal; the round cannot be finished without it",
        ) from error
    return stored.astype(np.uint64)


def _check_places(
    setup: SetupBook,
    request: MaskedRequest,
    survivors: tuple[int, ...],
    tables: list[dict[int, bytes]],
) -> None:
    """Refuse a stored book in which somebody stands where nobody can; raises MalformedMessage."""
    headers, _, _, reveals = tables
    if (
        not set(setup.records).issuperset(request.participants)
        or not set(request.participants).issuperset(survivors)
        or tuple(headers) != survivors
        or any(not set(survivors).issuperset(table) for table in tables)
        or request.slot >= setup.terms.slots
        or bool(reveals and survivors != request.participants and not tables[2])
    ):
        raise MalformedMessage("the stored round does not fit its set-up")


def _read_table(reader: Reader) -> dict[int, bytes]:
    table = {reader.u32(): reader.blob() for _ in range(reader.u32(MAX_GROUP))}
    if list(table) != sorted(table):
        raise MalformedMessage("a table of the round is out of order")
    return table
