"""What this node was asked and what it answered: pure state, owned by the event loop.

An instruction is held from its arrival until the coordinator has acknowledged the reply, so a
connection may break at any point and nothing is computed twice: the same bytes are sent again. Its
own bytes are held until work on it begins, and go with it when it is withdrawn.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from shared.limits import GRANT_BYTES, MAX_HELD_BYTES, MAX_HELD_MESSAGES

REMEMBERED = 1024
"""Ids of finished instructions kept to recognise a repetition; more than a long run has rounds."""


@dataclass
class Held:
    """One instruction: its kind, its bytes until work begins, the reply's once it is computed."""

    kind: str
    data: bytes | bytearray | None = None
    reply: bytes | None = None
    granted: bool = False

    @property
    def needs_grant(self) -> bool:
        """Whether the reply is so large that it waits for its turn."""
        return self.reply is not None and len(self.reply) > GRANT_BYTES and not self.granted


class Inbox:
    """Instructions by id, in order of arrival."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._done: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def has_room(self, size: int) -> bool:
        """Whether one more instruction, of ``size`` bytes, is taken in."""
        waiting = sum(len(held.data) for held in self._held.values() if held.data is not None)
        return len(self._held) < MAX_HELD_MESSAGES and waiting + size <= MAX_HELD_BYTES

    def held(self) -> list[str]:
        """Return ids of instructions that need not be sent again."""
        return list(self._held)

    def is_done(self, key: str) -> bool:
        """Return whether an instruction was answered, and the answer acknowledged."""
        return key in self._done

    def take(self, key: str, kind: str, data: bytes | bytearray) -> None:
        """Hold a new instruction."""
        self._held[key] = Held(kind, data)

    def next(self) -> tuple[str, bytes | bytearray] | None:
        """Hand out the oldest instruction that nobody works on yet; its bytes are the caller's."""
        for key, held in self._held.items():
            if held.data is not None:
                data, held.data = held.data, None
                return key, data
        return None

    def answer(self, key: str, reply: bytes) -> None:
        """Keep the reply until it is acknowledged; nothing to keep if it was withdrawn."""
        if key in self._held:
            self._held[key].reply = reply

    def finish(self, key: str) -> None:
        """The reply was acknowledged or is not wanted: forget everything but the id."""
        if self._held.pop(key, None) is not None:
            self._done[key] = None
            while len(self._done) > REMEMBERED:
                self._done.popitem(last=False)

    def grant(self, key: str) -> None:
        """It is the turn of the reply to ``key``."""
        if key in self._held:
            self._held[key].granted = True

    def ungrant(self, key: str) -> None:
        """The upload did not succeed: ask for another turn."""
        if key in self._held:
            self._held[key].granted = False

    def forget(self, key: str) -> None:
        """Let the instruction go without an answer, so that it may come again."""
        self._held.pop(key, None)

    def revoke_grants(self) -> None:
        """The connection was lost, and with it every grant."""
        for held in self._held.values():
            held.granted = False

    def ready(self) -> list[tuple[str, Held]]:
        """Return instructions whose reply has been computed, oldest first."""
        return [(key, held) for key, held in self._held.items() if held.reply is not None]
