"""What bodies of the secure sum's messages have in common: lists, and who is to blame.

Decoders raise :class:`MalformedMessage`; who is to blame is known one level up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_GROUP, MAX_SECAGG_FIELD_BYTES
from shared.secagg.errors import BadMessage

HASH = 32
SIGNATURE = 64
_T = TypeVar("_T")


def ascending(indices: Iterable[int]) -> tuple[int, ...]:
    """Return the indices; raise MalformedMessage unless strictly ascending from 1."""
    given = tuple(indices)
    if list(given) != sorted(set(given)) or (given and given[0] < 1):
        raise MalformedMessage("member indices are not strictly ascending from 1")
    return given


def parse(decode: Callable[[bytes], _T], body: bytes, culprit: int) -> _T:
    """Decode ``body``; a defect is a BadMessage that names ``culprit``."""
    try:
        return decode(body)
    except MalformedMessage as error:
        raise BadMessage(error.message, culprit=culprit) from error


def encode_blobs(blobs: Iterable[bytes]) -> bytes:
    """Return a counted list of byte strings."""
    items = list(blobs)
    writer = Writer().u32(len(items))
    for item in items:
        writer.blob(item)
    return writer.done()


def decode_blobs(body: bytes, limit: int = MAX_GROUP) -> tuple[bytes, ...]:
    """Read a counted list of at most ``limit`` byte strings."""
    reader = Reader(body)
    items = tuple(reader.blob(MAX_SECAGG_FIELD_BYTES) for _ in range(reader.u32(limit)))
    reader.end()
    return items
