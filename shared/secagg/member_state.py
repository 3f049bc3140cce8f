"""A member's secret state of one session, and its one encoding.

Shares and seeds lie in bytearrays, slot after slot, so that a closed slot can be overwritten in
place. Overwriting is best effort: Python may have copied a value elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_GROUP, MAX_ROUND_CONFIG_BYTES, MAX_SECAGG_FIELD_BYTES
from shared.secagg.messages import HASH, ascending
from shared.secagg.terms import DOMAIN, SessionTerms

CELL = 32
"""One seed or one share; a slot's own or foreign row is two cells, b then rho."""


class Phase(IntEnum):
    """How far the session is."""

    NEW = 0
    ADVERTISED = 1
    SHARED = 2
    READY = 3
    CLOSED = 4


@dataclass
class SlotState:
    """The one open slot.

    Attributes:
        slot: its number.
        round: the round it serves.
        request_sha256: the 'masked' request that opened it.
        participants: U.
        model_sha256: the model that came along.
        config: the training config.
        words: length of the vector.
        t2: the round's binding.
        header: the signed header once masked, else empty.
        bitmap: the survivor bitmap once answered, else empty.
        lost: the stored answer is gone; nothing is masked or restored any more.
        answers: unmask and release answers by kind: (request hash, reply).
    """

    slot: int
    round: int
    request_sha256: bytes
    participants: tuple[int, ...]
    model_sha256: bytes
    config: bytes
    words: int
    t2: bytes
    header: bytes = b""
    bitmap: bytes = b""
    lost: bool = False
    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u32(self.slot).u32(self.round).fixed(self.request_sha256, HASH)
        writer.u32s(self.participants).fixed(self.model_sha256, HASH).blob(self.config)
        writer.u32(self.words).fixed(self.t2, HASH).blob(self.header).blob(self.bitmap)
        writer.u8(int(self.lost))
        _write_answers(writer, self.answers)

    @classmethod
    def read(cls, reader: Reader) -> SlotState:
        """Read the encoding."""
        return cls(
            reader.u32(), reader.u32(), reader.fixed(HASH), reader.u32s(MAX_GROUP),
            reader.fixed(HASH), reader.blob(MAX_ROUND_CONFIG_BYTES), reader.u32(),
            reader.fixed(HASH), reader.blob(), reader.blob(64), _read_flag(reader),
            _read_answers(reader),
        )  # fmt: skip


@dataclass
class MemberState:
    """Everything a member knows of a session besides its signing key.

    Attributes:
        terms: of the session.
        index: this member.
        phase: how far it is.
        x25519: private key, wiped after S2.
        kem_seed: ML-KEM private seed, wiped after S2.
        advertisement: its own signed Adv.
        advertised: U1's (index, signed Adv), ascending.
        t1: binding of S0; empty before S1.
        core: its own signed share core.
        t1c: binding of S1; empty before S2.
        dealers: who dealt, ascending.
        own: b and rho by slot.
        seeds: kappa by slot, by peer.
        shares: b-share and rho-share by slot, by dealer.
        answers: set-up answers by kind: (request hash, reply).
        slot: the open slot.
    """

    terms: SessionTerms
    index: int
    phase: Phase = Phase.NEW
    x25519: bytearray = field(default_factory=bytearray)
    kem_seed: bytearray = field(default_factory=bytearray)
    advertisement: bytes = b""
    advertised: tuple[tuple[int, bytes], ...] = ()
    t1: bytes = b""
    core: bytes = b""
    t1c: bytes = b""
    dealers: tuple[int, ...] = ()
    own: bytearray = field(default_factory=bytearray)
    seeds: dict[int, bytearray] = field(default_factory=dict)
    shares: dict[int, bytearray] = field(default_factory=dict)
    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    slot: SlotState | None = None

    def _rows(self) -> Iterator[tuple[bytearray, int]]:
        yield self.own, 2 * CELL
        yield from ((seeds, CELL) for seeds in self.seeds.values())
        yield from ((shares, 2 * CELL) for shares in self.shares.values())

    def wipe_before(self, slot: int) -> None:
        """Overwrite every secret of the slots below ``slot``."""
        for row, width in self._rows():
            _zero(row, 0, slot * width)

    def wipe_masks(self, slot: int) -> None:
        """Overwrite what masked ``slot``, once: its own secrets and seeds, not others' shares."""
        _zero(self.own, slot * 2 * CELL, (slot + 1) * 2 * CELL)
        for seeds in self.seeds.values():
            _zero(seeds, slot * CELL, (slot + 1) * CELL)

    def wipe_session_keys(self) -> None:
        """Overwrite the keys that open boxes."""
        _zero(self.x25519, 0, len(self.x25519))
        _zero(self.kem_seed, 0, len(self.kem_seed))

    def wipe(self) -> None:
        """Overwrite every secret and close the session."""
        self.wipe_session_keys()
        for row, _ in self._rows():
            _zero(row, 0, len(row))
        self.phase, self.slot = Phase.CLOSED, None

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN + "member-state").blob(self.terms.encode()).u32(self.index)
        writer.u8(self.phase).blob(self.x25519).blob(self.kem_seed).blob(self.advertisement)
        writer.u32(len(self.advertised))
        for index, message in self.advertised:
            writer.u32(index).blob(message)
        writer.blob(self.t1).blob(self.core).blob(self.t1c).u32s(self.dealers).blob(self.own)
        for table in (self.seeds, self.shares):
            writer.u32(len(table))
            for index in sorted(table):
                writer.u32(index).blob(table[index])
        _write_answers(writer, self.answers)
        writer.u8(int(self.slot is not None))
        if self.slot is not None:
            self.slot.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> MemberState:
        """Read :meth:`encode`'s bytes; raises MalformedMessage."""
        reader = Reader(data, DOMAIN + "member-state")
        terms = SessionTerms.decode(reader.blob())
        index, phase = reader.u32(), reader.u8()
        if phase > Phase.CLOSED:
            raise MalformedMessage("the member's phase is not known")
        state = cls(terms, index, Phase(phase))
        state.x25519, state.kem_seed = bytearray(reader.blob()), bytearray(reader.blob())
        state.advertisement = reader.blob()
        state.advertised = tuple(
            (reader.u32(), reader.blob()) for _ in range(reader.u32(MAX_GROUP))
        )
        state.t1, state.core, state.t1c = reader.blob(), reader.blob(), reader.blob()
        state.dealers = ascending(reader.u32s(MAX_GROUP))
        state.own = bytearray(reader.blob())
        state.seeds, state.shares = _read_table(reader), _read_table(reader)
        state.answers = _read_answers(reader)
        state.slot = SlotState.read(reader) if _read_flag(reader) else None
        reader.end()
        return state


def _zero(row: bytearray, start: int, stop: int) -> None:
    row[start:stop] = bytes(max(0, min(stop, len(row)) - start))


def _read_flag(reader: Reader) -> bool:
    value = reader.u8()
    if value > 1:
        raise MalformedMessage("a flag is neither 0 nor 1")
    return bool(value)


def _read_table(reader: Reader) -> dict[int, bytearray]:
    items = [(reader.u32(), bytearray(reader.blob())) for _ in range(reader.u32(MAX_GROUP))]
    ascending(index for index, _ in items)
    return dict(items)


def _write_answers(writer: Writer, answers: dict[str, tuple[bytes, bytes]]) -> None:
    writer.u32(len(answers))
    for kind in sorted(answers):
        request, reply = answers[kind]
        writer.text(kind).fixed(request, HASH).blob(reply)


def _read_answers(reader: Reader) -> dict[str, tuple[bytes, bytes]]:
    items = [
        (reader.text(32), (reader.fixed(HASH), reader.blob(MAX_SECAGG_FIELD_BYTES)))
        for _ in range(reader.u32(8))
    ]
    if [kind for kind, _ in items] != sorted({kind for kind, _ in items}):
        raise MalformedMessage("the stored answers are out of order")
    return dict(items)
