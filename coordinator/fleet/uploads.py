"""A member's replies as they come in: announced, granted, assembled, acknowledged.

What a member sends is judged against what it was asked. The member is the one mutual TLS named when
the stream opened; nothing in a frame can make it another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alliance.v1 import fleet_pb2 as pb

from coordinator.fleet.hub import Hub
from coordinator.fleet.mailbox import Fit
from shared.errors import MalformedMessage, TouchstoneError
from shared.fleet.chunks import Assembly, check_size
from shared.fleet.errors import MessageTooLarge
from shared.limits import GRANT_BYTES, MAX_SEND_ATTEMPTS, MIN_TRANSFER_BYTES_S

Frame = pb.CoordinatorFrame


@dataclass
class _Owed:
    """An upload that has a place: when it last made progress, and when it must be done."""

    progress: float
    deadline: float


class Uploads:
    """The receiving half of one stream; lives on the event loop."""

    def __init__(
        self,
        hub: Hub,
        index: int,
        queue: Callable[[pb.CoordinatorFrame], None],
        monotonic: Callable[[], float],
        stall_s: float,
    ) -> None:
        self._hub = hub
        self._index = index
        self._queue = queue
        self._monotonic = monotonic
        self._stall_s = stall_s
        self._assembly: Assembly | None = None
        self._announced: dict[str, int] = {}  # key -> bytes, until its grant comes
        self._owed: dict[str, _Owed] = {}
        self._damaged: dict[str, int] = {}

    @property
    def overdue(self) -> bool:
        """Whether an upload makes no progress, or too little to deserve its place."""
        now = self._monotonic()
        return any(
            now - owed.progress > self._stall_s or now > owed.deadline
            for owed in self._owed.values()
        )

    def _expect(self, key: str, total: int) -> None:
        now = self._monotonic()
        self._owed[key] = _Owed(now, now + self._stall_s + total / MIN_TRANSFER_BYTES_S)

    def intent(self, frame: pb.Intent) -> None:
        """A large reply is ready at the member and waits for its turn."""
        key = frame.reply_to
        if self._expected(key) and self._acceptable(key, frame.total_bytes):
            self._announced[key] = frame.total_bytes
            self._hub.request_grant(key, self._index)

    def granted(self, key: str) -> None:
        """It is the turn of the member's reply to ``key``."""
        self._expect(key, self._announced.pop(key, 0))
        self._queue(Frame(grant=pb.Grant(reply_to=key)))

    def forget(self, key: str) -> None:
        """Nobody waits for the reply to ``key`` any more, so it cannot stall."""
        self._owed.pop(key, None)
        self._announced.pop(key, None)

    def start(self, frame: pb.MessageStart) -> None:
        """A reply begins; one that was not complete is dropped without a trace."""
        self._assembly = None
        key = frame.reply_to
        if not self._expected(key) or not self._acceptable(key, frame.total_bytes):
            return
        if frame.total_bytes > GRANT_BYTES and not self._hub.has_grant(key):
            self._nack(key, "no_grant", "a reply of this size waits for a grant", retry=True)
            return
        try:
            self._assembly = Assembly(frame, self._hub.reply_limit(key, self._index))
        except TouchstoneError as error:
            self._damage(key, error)
        else:
            if key not in self._owed:
                self._expect(key, frame.total_bytes)

    def chunk(self, frame: pb.Chunk) -> None:
        """The next bytes; those of a reply that was turned down are ignored."""
        assembly = self._assembly
        if assembly is None:
            return
        key = assembly.start.reply_to
        if key in self._owed:
            self._owed[key].progress = self._monotonic()
        try:
            assembly.add(frame)
            if assembly.complete:
                self._finish(key, assembly.finish())
        except TouchstoneError as error:
            self._damage(key, error)

    def _finish(self, key: str, data: bytearray) -> None:
        self._assembly = None
        self._owed.pop(key, None)
        self._hub.answer(key, self._index, data)
        self._queue(Frame(ack=pb.Ack(message_id=key)))

    def _expected(self, key: str) -> bool:
        fit = self._hub.fit(key, self._index)
        if fit is Fit.FOREIGN:
            raise MalformedMessage("a reply to another member's instruction was refused")
        if fit is Fit.STALE:
            self._nack(key, "not_expected", "nobody waits for this reply", retry=False)
        return fit is Fit.EXPECTED

    def _acceptable(self, key: str, total: int) -> bool:
        try:
            check_size(total, self._hub.reply_limit(key, self._index))
        except TouchstoneError as error:
            self._hub.refuse(key, self._index, error.message)
            self._nack(key, error.code, error.message, retry=False)
            return False
        return True

    def _damage(self, key: str, error: TouchstoneError) -> None:
        """Drop a reply that is not what was announced; ask for it again, but not for ever."""
        self._assembly = None
        self._owed.pop(key, None)
        tries = self._damaged[key] = self._damaged.get(key, 0) + 1
        final = tries >= MAX_SEND_ATTEMPTS or isinstance(error, MessageTooLarge)
        if final:
            self._hub.refuse(key, self._index, f"the reply arrived damaged: {error.code}")
        self._nack(key, error.code, error.message, retry=not final)

    def _nack(self, key: str, code: str, text: str, *, retry: bool) -> None:
        self._queue(Frame(nack=pb.Nack(message_id=key[:64], code=code, text=text, retry=retry)))
