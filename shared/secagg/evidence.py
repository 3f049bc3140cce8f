"""What a round leaves behind for anyone who wants to recompute it: signed, and none of it secret.

Nothing here says more than the coordinator knows already: the messages of set-up that fix T1c and
every commitment, and of each round the signed headers and the shares that opened its sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.limits import MAX_GROUP, MAX_SECAGG_FIELD_BYTES
from shared.secagg.messages import ascending
from shared.secagg.terms import DOMAIN

Table = tuple[tuple[int, bytes], ...]
"""(roster index, bytes), ascending."""


@dataclass(frozen=True)
class SetupEvidence:
    """A session's set-up without its boxes.

    Attributes:
        advertisements: U1 and their signed session keys; with the terms they make T1.
        cores: the dealers' signed share cores; with T1 they make T1c.
        commitments: H(b) of every slot, 32 bytes each, by dealer; each core signs their hash.
    """

    advertisements: Table
    cores: Table
    commitments: Table

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        tables = (self.advertisements, self.cores, self.commitments)
        return _write(Writer(DOMAIN + "setup-evidence"), tables)

    @classmethod
    def decode(cls, data: bytes) -> SetupEvidence:
        """Read a canonical encoding; raises MalformedMessage."""
        return cls(*_read(Reader(data, DOMAIN + "setup-evidence"), 3))

    def digest(self) -> bytes:
        """Return SHA-256 of :meth:`encode`, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True)
class RoundEvidence:
    """One round of a session.

    Attributes:
        headers: of each survivor, what it signed about its masked vector.
        answers: of each member that was heard, its signed shares of every participant's secret.
        records: of each lost member, its Rec for the slot: pair seeds under a key made of its rho.
    """

    headers: Table
    answers: Table
    records: Table

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        tables = (self.headers, self.answers, self.records)
        return _write(Writer(DOMAIN + "round-evidence"), tables)

    @classmethod
    def decode(cls, data: bytes) -> RoundEvidence:
        """Read a canonical encoding; raises MalformedMessage."""
        return cls(*_read(Reader(data, DOMAIN + "round-evidence"), 3))

    def digest(self) -> bytes:
        """Return SHA-256 of :meth:`encode`, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()


def _write(writer: Writer, tables: Sequence[Table]) -> bytes:
    for table in tables:
        writer.u32(len(table))
        for index, data in table:
            writer.u32(index).blob(data)
    return writer.done()


def _read(reader: Reader, count: int) -> list[Table]:
    tables = []
    for _ in range(count):
        table = tuple(
            (reader.u32(), reader.blob(MAX_SECAGG_FIELD_BYTES))
            for _ in range(reader.u32(MAX_GROUP))
        )
        ascending(index for index, _ in table)
        tables.append(table)
    reader.end()
    return tables
