"""One message as frames: a start that announces size and SHA-256, then chunks in order.

Memory is taken as chunks arrive, never on the word of an announcement. A message is handed over
only when it is whole and its digest holds; anything else raises and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from alliance.v1 import fleet_pb2 as pb

from shared.errors import MalformedMessage
from shared.fleet.errors import DigestMismatch, MessageTooLarge
from shared.limits import CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_ID_CHARS

DIGEST_BYTES = 32


def opening(data: bytes, *, message_id: str = "", reply_to: str = "", kind: str) -> pb.MessageStart:
    """Return the frame that announces ``data``, with its size and SHA-256.

    Raises:
        MessageTooLarge: the message exceeds what the other side accepts.
    """
    check_size(len(data))
    return pb.MessageStart(
        message_id=message_id,
        reply_to=reply_to,
        type=kind,
        total_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
    )


def pieces(data: bytes, size: int = CHUNK_BYTES) -> Iterator[pb.Chunk]:
    """Yield ``data`` in chunks of at most ``size`` bytes, in order."""
    return pieces_of([data], size)


def pieces_of(parts: Iterable[bytes], size: int = CHUNK_BYTES) -> Iterator[pb.Chunk]:
    """Yield ``parts``, one after the other, in chunks of at most ``size`` bytes."""
    offset, waiting = 0, b""
    for part in parts:
        view = memoryview(part)
        while len(waiting) + len(view) > size:
            room = size - len(waiting)
            yield pb.Chunk(offset=offset, data=waiting + view[:room])
            offset, waiting, view = offset + size, b"", view[room:]
        waiting += view
    if waiting:
        yield pb.Chunk(offset=offset, data=waiting)


def check_size(total: int, limit: int = MAX_MESSAGE_BYTES) -> None:
    """Refuse a message of no bytes or of more than ``limit``.

    Raises:
        MalformedMessage: the message is empty.
        MessageTooLarge: it is larger than ``limit``.
    """
    if total < 1:
        raise MalformedMessage("a message of no bytes is no message")
    if total > limit:
        raise MessageTooLarge(f"a message of {total} bytes is above the limit of {limit}")


class Assembly:
    """One message in the making."""

    def __init__(self, start: pb.MessageStart, limit: int = MAX_MESSAGE_BYTES) -> None:
        check_size(start.total_bytes, limit)
        if len(start.sha256) != DIGEST_BYTES:
            raise MalformedMessage("a message needs a SHA-256 digest of 32 bytes")
        if max(len(start.message_id), len(start.reply_to)) > MAX_MESSAGE_ID_CHARS:
            raise MalformedMessage("a message id is too long")
        self.start = start
        # Grows in place: joining parts in the end would hold the message twice.
        self._data = bytearray()
        self._digest = hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether every announced byte has arrived."""
        return len(self._data) == self.start.total_bytes

    def add(self, chunk: pb.Chunk) -> None:
        """Take the next chunk.

        Raises:
            MalformedMessage: it is empty, too large, out of order or beyond the announced end.
        """
        size = len(chunk.data)
        if not 0 < size <= CHUNK_BYTES:
            raise MalformedMessage(f"a chunk of {size} bytes is not acceptable")
        if chunk.offset != len(self._data):
            raise MalformedMessage("a chunk is missing, repeated or out of order")
        if len(self._data) + size > self.start.total_bytes:
            raise MalformedMessage("a message is longer than announced")
        self._digest.update(chunk.data)
        self._data += chunk.data

    def finish(self) -> bytearray:
        """Return the whole message; it is the caller's from now on.

        Raises:
            MalformedMessage: chunks are missing.
            DigestMismatch: the bytes are not those that were announced.
        """
        if not self.complete:
            raise MalformedMessage("a message ends too early")
        if self._digest.digest() != self.start.sha256:
            raise DigestMismatch("a message was damaged on its way: its digest does not hold")
        return self._data
