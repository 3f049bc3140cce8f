"""What a message's bytes will take in memory, judged before anything is decoded.

Decoding can multiply a message: a packed list of small integers takes eight bytes for each of its
own in protobuf and as much again as Python objects. Vectors travel as plain bytes, so that lists,
texts and the number of fields can be held to a few of each: whatever a peer sends, decoded it
takes little more than its size. This reads the wire format of
https://protobuf.dev/programming-guides/encoding/ by the message's own description.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from shared.errors import MalformedMessage
from shared.limits import MAX_MESSAGE_FIELDS, MAX_MESSAGE_LIST_BYTES, MAX_MESSAGE_TEXT_BYTES

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10


def check_shape(data: bytes | bytearray, descriptor: Any) -> None:
    """Refuse bytes that would take much more memory decoded than they have.

    Args:
        data: an encoded message.
        descriptor: protobuf's description of what it claims to be.

    Raises:
        MalformedMessage: too many fields, a long list or text, or not the wire format.
    """
    _Walk(memoryview(data)).message(descriptor, 0, len(data))


class _Walk:
    """One pass over a message's fields; the payloads themselves are skipped."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._fields = 0

    def message(self, descriptor: Any, at: int, end: int) -> None:
        while at < end:
            self._fields += 1
            if self._fields > MAX_MESSAGE_FIELDS:
                raise MalformedMessage("a message has too many fields")
            tag, at = self._varint(at, end)
            at = self._skip(descriptor.fields_by_number.get(tag >> 3), tag & 7, at, end)
        if at != end:
            raise MalformedMessage("a field of a message ends after the message")

    def _skip(self, field: Any, wire_type: int, at: int, end: int) -> int:
        """Return where the field ends; look into it where it has parts."""
        if wire_type == _VARINT:
            return self._varint(at, end)[1]
        if wire_type in _FIXED_BYTES:
            return at + _FIXED_BYTES[wire_type]
        if wire_type != _LENGTH:
            raise MalformedMessage("a message has a field of an unknown form")
        size, at = self._varint(at, end)
        if at + size > end:
            raise MalformedMessage("a field of a message ends after the message")
        if field is not None:  # protobuf keeps the bytes of unknown ones as they are
            self._inside(field, at, at + size)
        return at + size

    def _inside(self, field: Any, at: int, end: int) -> None:
        if field.message_type is not None:
            self.message(field.message_type, at, end)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            return
        elif field.type == FieldDescriptor.TYPE_STRING:
            if end - at > MAX_MESSAGE_TEXT_BYTES:
                raise MalformedMessage("a message has too long a text")
        elif end - at > MAX_MESSAGE_LIST_BYTES:
            raise MalformedMessage("a message has too long a list of numbers")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for byte in self._data[at : min(end, at + _MAX_VARINT_BYTES)]:
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise MalformedMessage("a number in a message does not end")
