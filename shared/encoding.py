"""Canonical binary encoding of everything that is hashed, signed or authenticated.

Fixed field order, big-endian integers, ``u32`` length prefixes, a domain string first.
One value has one encoding and one encoding has one value: the reader refuses trailing
bytes, over-long fields and non-canonical flags, so a signature covers meaning, not layout.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from shared.errors import MalformedMessage


class Writer:
    """Builds one canonical encoding."""

    def __init__(self, domain: str = "") -> None:
        self._parts: list[bytes] = []
        if domain:
            self.text(domain)

    def u8(self, value: int) -> Writer:
        """Append one byte."""
        self._parts.append(struct.pack(">B", value))
        return self

    def u32(self, value: int) -> Writer:
        """Append a 32-bit unsigned integer."""
        self._parts.append(struct.pack(">I", value))
        return self

    def u64(self, value: int) -> Writer:
        """Append a 64-bit unsigned integer."""
        self._parts.append(struct.pack(">Q", value))
        return self

    def fixed(self, value: bytes, length: int) -> Writer:
        """Append exactly ``length`` bytes without a prefix."""
        if len(value) != length:
            raise ValueError(f"expected {length} bytes, got {len(value)}")
        self._parts.append(bytes(value))
        return self

    def blob(self, value: bytes | bytearray | memoryview) -> Writer:
        """Append a length-prefixed byte string."""
        self.u32(len(value))
        self._parts.append(bytes(value))
        return self

    def text(self, value: str) -> Writer:
        """Append a length-prefixed UTF-8 string."""
        return self.blob(value.encode("utf-8"))

    def u32s(self, values: Sequence[int]) -> Writer:
        """Append a counted list of 32-bit integers."""
        self.u32(len(values))
        for value in values:
            self.u32(value)
        return self

    def hashes(self, values: Sequence[tuple[int, bytes]]) -> Writer:
        """Append a counted list of (32-bit integer, 32 bytes)."""
        self.u32(len(values))
        for number, value in values:
            self.u32(number).fixed(value, 32)
        return self

    def done(self) -> bytes:
        """Return the encoding."""
        return b"".join(self._parts)


class Reader:
    """Reads one canonical encoding; every defect is a :class:`MalformedMessage`."""

    def __init__(self, data: bytes, domain: str = "") -> None:
        self._data = bytes(data)
        self._at = 0
        if domain and self.text(limit=256) != domain:
            raise MalformedMessage(f"this is not a {domain!r} message")

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise MalformedMessage("the message ends too early")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def u8(self) -> int:
        """Read one byte."""
        return self._take(1)[0]

    def u32(self, limit: int = 0xFFFFFFFF) -> int:
        """Read a 32-bit unsigned integer of at most ``limit``."""
        value: int = struct.unpack(">I", self._take(4))[0]
        if value > limit:
            raise MalformedMessage(f"a count of {value} is above the limit of {limit}")
        return value

    def u64(self) -> int:
        """Read a 64-bit unsigned integer."""
        value: int = struct.unpack(">Q", self._take(8))[0]
        return value

    def fixed(self, length: int) -> bytes:
        """Read exactly ``length`` bytes."""
        return self._take(length)

    def blob(self, limit: int = 1 << 20) -> bytes:
        """Read a length-prefixed byte string of at most ``limit`` bytes."""
        return self._take(self.u32(limit))

    def text(self, limit: int = 4096) -> str:
        """Read a length-prefixed UTF-8 string of at most ``limit`` bytes."""
        try:
            return self.blob(limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessage("a text field is not UTF-8") from error

    def u32s(self, limit: int = 4096) -> tuple[int, ...]:
        """Read a counted list of at most ``limit`` 32-bit integers."""
        return tuple(self.u32() for _ in range(self.u32(limit)))

    def hashes(self, limit: int = 4096) -> tuple[tuple[int, bytes], ...]:
        """Read a counted list of at most ``limit`` (32-bit integer, 32 bytes)."""
        return tuple(struct.iter_unpack(">I32s", self._take(36 * self.u32(limit))))

    @property
    def at_end(self) -> bool:
        """Whether nothing is left: a field that a format has gained may be absent."""
        return self._at == len(self._data)

    def end(self) -> None:
        """Refuse anything left over."""
        if not self.at_end:
            raise MalformedMessage("the message has bytes after its end")


def digest(domain: str, *parts: bytes) -> bytes:
    """Return SHA-256 over a domain string and length-prefixed parts, 32 bytes."""
    writer = Writer(domain)
    for part in parts:
        writer.blob(part)
    return hashlib.sha256(writer.done()).digest()
