"""The grid's memory of what was asked of whom, and what came back: pure, no sockets, no locks.

An instruction is open until its reply arrives or its time is up; either way exactly one reply is
handed out for it, and then it is forgotten.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from coordinator.fleet.allowance import reply_limit
from coordinator.fleet.outgoing import Body, Outgoing
from shared.clock import Clock
from shared.errors import MalformedMessage
from shared.fleet.messages import (
    ERROR_NO_REPLY,
    ERROR_UNDELIVERED,
    Message,
    Metadata,
    adopt_reply,
    decode,
    error_reply,
    stamped,
)

UNFETCHED_S = 3600.0
"""Seconds an error reply is kept for an application that may still ask for it."""


class Fit(Enum):
    """How an announced reply relates to what was asked."""

    EXPECTED = auto()
    STALE = auto()
    """Nobody waits for it: answered, expired, withdrawn, or asked before a restart."""
    FOREIGN = auto()
    """It answers an instruction that another member was given."""


@dataclass
class Entry:
    """One instruction and, once there is one, the raw bytes or the error that answers it."""

    metadata: Metadata
    wire: Outgoing
    expires: float
    delivered: bool = False
    answer: bytes | bytearray | Message | None = None
    intruders: set[int] = field(default_factory=set)

    @property
    def index(self) -> int:
        """The member it is addressed to."""
        return int(self.metadata.dst_node_id)

    @property
    def key(self) -> str:
        """Id of the instruction."""
        return str(self.metadata.message_id)

    @property
    def reply_limit(self) -> int:
        """The most bytes its reply may have."""
        return reply_limit(str(self.metadata.message_type), self.wire.size)

    @property
    def is_error(self) -> bool:
        """Whether the answer is an error of our own making."""
        return isinstance(self.answer, Message)

    def reply(self) -> tuple[Message, bool]:
        """Return the reply to hand out, once, and whether what the member sent was usable."""
        if isinstance(self.answer, Message):
            return self.answer, True
        try:
            return adopt_reply(self, decode(self._give_up_bytes())), True
        except MalformedMessage as error:
            return error_reply(self, ERROR_NO_REPLY, error.message), False

    def _give_up_bytes(self) -> bytes | bytearray:
        """Return the answer's bytes and let go of them: who decodes them may free them early."""
        data, self.answer = self.answer, b""
        return b"" if data is None or isinstance(data, Message) else data


class Mailbox:
    """Instructions by id, in the order in which they were posted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}

    def post(self, message: Message, body: Body | None = None) -> str:
        """Take an instruction in and return its new id; its ``ttl`` starts now.

        Args:
            message: the instruction; only its metadata is kept.
            body: its records in wire form; encoded here if left out.
        """
        key = uuid.uuid4().hex
        metadata = stamped(message, key)
        expires = self._clock.monotonic() + metadata.ttl
        self._entries[key] = Entry(metadata, Outgoing(metadata, body or Body(message)), expires)
        return key

    def open_for(self, index: int) -> list[str]:
        """Return ids of the member's instructions that still lack an answer, oldest first."""
        return [
            key
            for key, entry in self._entries.items()
            if entry.index == index and entry.answer is None
        ]

    def open_entry(self, key: str, index: int) -> Entry | None:
        """Return the member's instruction if it is still without an answer."""
        entry = self._entries.get(key)
        return entry if entry and entry.index == index and entry.answer is None else None

    def fit(self, key: str, index: int) -> Fit:
        """Judge a reply that member ``index`` announces for instruction ``key``."""
        entry = self._entries.get(key)
        if entry is not None and entry.index != index:
            return Fit.FOREIGN
        return Fit.EXPECTED if entry is not None and entry.answer is None else Fit.STALE

    def note_intruder(self, key: str, index: int) -> bool:
        """Note who answered in another member's place; return whether that is news."""
        entry = self._entries.get(key)
        if entry is None or index in entry.intruders:
            return False
        entry.intruders.add(index)
        return True

    def mark_delivered(self, key: str, index: int) -> None:
        """Note that the member has the instruction."""
        if entry := self.open_entry(key, index):
            entry.delivered = True

    def answer(self, key: str, index: int, data: bytes | bytearray) -> None:
        """Keep the bytes of a complete, digest-checked reply; a second one is ignored."""
        if entry := self.open_entry(key, index):
            entry.answer = data

    def refuse(self, key: str, index: int, reason: str) -> None:
        """Answer for a member that could not accept the instruction."""
        if entry := self.open_entry(key, index):
            entry.answer = error_reply(entry, ERROR_UNDELIVERED, reason)

    def expire(self) -> list[tuple[str, int]]:
        """End what is overdue; return (id, member) of each instruction that ended now.

        An instruction without a reply, or with one that nobody fetched, is answered with an error.
        An error that nobody fetches either is forgotten after ``UNFETCHED_S``.
        """
        now = self._clock.monotonic()
        ended = [(k, e) for k, e in self._entries.items() if e.expires <= now and not e.is_error]
        for _, entry in ended:
            entry.answer = _expiry(entry)
        for key in [k for k, e in self._entries.items() if e.expires + UNFETCHED_S <= now]:
            del self._entries[key]
        return [(key, entry.index) for key, entry in ended]

    def take(self, keys: Iterable[str], large: Collection[str] = frozenset()) -> list[Entry]:
        """Remove and return those of ``keys`` that have an answer; unknown keys are skipped.

        Args:
            keys: ids of instructions.
            large: ids of which no more than one is taken at a time.
        """
        found = {k: self._entries[k] for k in keys if k in self._entries}
        ready = [key for key, entry in found.items() if entry.answer is not None]
        held_back = [key for key in ready if key in large][1:]
        return [self._entries.pop(key) for key in ready if key not in held_back]

    def is_answered(self, key: str) -> bool:
        """Return whether a reply to ``key`` is ready to be taken."""
        entry = self._entries.get(key)
        return entry is not None and entry.answer is not None

    def known(self, keys: Iterable[str]) -> list[str]:
        """Return those of ``keys`` that have neither been taken nor withdrawn."""
        return [key for key in keys if key in self._entries]

    def withdraw(self, keys: Iterable[str]) -> list[tuple[str, int]]:
        """Forget instructions; return (id, member) of those that were still without an answer."""
        gone = [(key, self._entries.pop(key)) for key in keys if key in self._entries]
        return [(key, entry.index) for key, entry in gone if entry.answer is None]


def _expiry(entry: Entry) -> Message:
    if entry.answer is not None:
        return error_reply(entry, ERROR_NO_REPLY, "the reply was not fetched in time")
    if entry.delivered:
        return error_reply(entry, ERROR_NO_REPLY, "no reply within the time to live")
    return error_reply(entry, ERROR_UNDELIVERED, "not delivered within the time to live")
