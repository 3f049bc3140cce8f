"""Instructions as bytes, encoded when they are posted: once, however many members they go to.

An instruction to a member is the records, which members share, followed by metadata of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from alliance.v1 import fleet_pb2 as pb

from shared.fleet.chunks import check_size, pieces_of
from shared.fleet.messages import Message, Metadata, encode_body, encode_metadata
from shared.limits import MAX_INSTRUCTION_BYTES


class Body:
    """Records in wire form, and the state of SHA-256 after them.

    The data of arrays is the sender's own, which Flower never changes in place.
    """

    def __init__(self, message: Message) -> None:
        self.parts = encode_body(message)
        self.size = sum(map(len, self.parts))
        self.sha256 = hashlib.sha256()
        for part in self.parts:
            self.sha256.update(part)


class Outgoing:
    """One instruction in wire form; insulated from what its sender does with the records later.

    Args:
        metadata: this member's, with the instruction's id.
        body: the records, shared.
    """

    def __init__(self, metadata: Metadata, body: Body) -> None:
        self._kind = str(metadata.message_type)
        self._key = str(metadata.message_id)
        self._body = body
        self._tail = encode_metadata(metadata)

    @property
    def size(self) -> int:
        """Bytes on the wire, frames apart."""
        return self._body.size + len(self._tail)

    @property
    def data(self) -> bytes:
        """The whole message; a copy."""
        return b"".join([*self._body.parts, self._tail])

    def start(self) -> pb.MessageStart:
        """Return the frame that announces it.

        Raises:
            MessageTooLarge: it exceeds what a member accepts.
        """
        check_size(self.size, MAX_INSTRUCTION_BYTES)
        sha256 = self._body.sha256.copy()
        sha256.update(self._tail)
        return pb.MessageStart(
            message_id=self._key,
            type=self._kind,
            total_bytes=self.size,
            sha256=sha256.digest(),
        )

    def pieces(self) -> Iterator[pb.Chunk]:
        """Yield it in chunks, each made when it is asked for."""
        return pieces_of([*self._body.parts, self._tail])


def bodies(messages: Iterable[Message]) -> list[Body]:
    """Return the body of each message; messages with the very same records share one."""
    made: dict[int, Body] = {}
    found: list[Body] = []
    for message in messages:
        key = id(message.content) if message.has_content() else id(message)
        found.append(made.get(key) or made.setdefault(key, Body(message)))
    return found
