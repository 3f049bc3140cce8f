"""What the two applications say to each other inside Flower messages.

An instruction carries one message of the secure sum, and where needed the signed run manifest or
the model. A reply carries the answer, or a refusal or error with a stable code. Nothing else: no
example counts, no metrics, no configuration outside what the secure sum signs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from shared.errors import MalformedMessage

CONSENT = "query.consent"
COMMIT_TO_DRAW = "query.commit_to_draw"
REVEAL_FOR_DRAW = "query.reveal_for_draw"
ADVERTISE = "query.advertise"
SHARE = "query.share"
CONFIRM = "query.confirm"
MASKED = "train.masked"
UNMASK = "query.unmask"
RELEASE = "query.release"
ENDED = "query.ended"

OK = "ok"
REFUSED = "refused"
FAILED = "failed"

_RECORD = "touchstone"
_ARRAYS = "vectors"

_NPY_HEAD_BYTES = 256
"""Of an array in NumPy's file format; a row of numbers has 128 bytes before its first value."""


@dataclass(frozen=True)
class Instruction:
    """One request of the coordinator.

    Attributes:
        payload: message of the secure sum or of a drawing of groups; empty in ``ended``.
        manifest: the signed run manifest, in ``consent`` and ``advertise`` alone.
        model: float32[P], in ``masked`` alone.
        run_id: 16 bytes, in ``ended`` alone.
        release_id: in ``ended``, 16 bytes of the release the run ended in, or empty.
    """

    payload: bytes = b""
    manifest: bytes = b""
    model: NDArray[np.float32] | None = None
    run_id: bytes = b""
    release_id: bytes = b""

    def content(self) -> RecordDict:
        """Return the records of a Flower message."""
        fields: dict[str, Any] = {
            "payload": self.payload,
            "manifest": self.manifest,
            "run_id": self.run_id,
            "release_id": self.release_id,
        }
        return _content({name: value for name, value in fields.items() if value}, self.model)

    @classmethod
    def read(cls, message: Message) -> Instruction:
        """Read a Flower message; raises :class:`MalformedMessage`."""
        fields, vector = _read(message, np.dtype("float32"))
        return cls(
            payload=_bytes(fields, "payload"),
            manifest=_bytes(fields, "manifest"),
            model=vector,
            run_id=_bytes(fields, "run_id"),
            release_id=_bytes(fields, "release_id"),
        )


@dataclass(frozen=True)
class Answer:
    """One reply of a member.

    Attributes:
        status: ``ok``, ``refused`` (the member's policy says no) or ``failed``.
        payload: message of the secure sum.
        vector: masked vector, uint64[words], in the reply to ``masked``.
        code: stable code of a refusal or failure.
        text: for the operator's log, public by construction.
    """

    status: str = OK
    payload: bytes = b""
    vector: NDArray[np.uint64] | None = None
    code: str = ""
    text: str = ""

    def content(self) -> RecordDict:
        """Return the records of a Flower message."""
        fields: dict[str, Any] = {"status": self.status}
        if self.payload:
            fields["payload"] = self.payload
        if self.status != OK:
            fields |= {"code": self.code, "text": self.text}
        return _content(fields, self.vector)

    @classmethod
    def read(cls, message: Message) -> Answer:
        """Read a Flower message.

        Raises:
            MalformedMessage: it is not an answer of this application.
        """
        fields, vector = _read(message, np.dtype("uint64"))
        status = fields.get("status")
        if status not in (OK, REFUSED, FAILED):
            raise MalformedMessage("a reply has no known status")
        code, text = str(fields.get("code", ""))[:64], str(fields.get("text", ""))[:500]
        return cls(str(status), _bytes(fields, "payload"), vector, code, text)


def _content(fields: dict[str, Any], vector: NDArray[Any] | None) -> RecordDict:
    records: dict[str, Any] = {_RECORD: ConfigRecord(fields)}
    if vector is not None:
        records[_ARRAYS] = ArrayRecord({"vector": _array(vector)})
    return RecordDict(records)


def _read(message: Message, dtype: np.dtype[Any]) -> tuple[dict[str, Any], NDArray[Any] | None]:
    if message.has_error():
        raise MalformedMessage(f"no reply: {message.error.reason}")
    # Not through `config_records` and `array_records`: Flower caches these views in a cycle with
    # the message, so that a vector would stay until the next garbage collection.
    record, arrays = message.content.get(_RECORD), message.content.get(_ARRAYS)
    if not isinstance(record, ConfigRecord):
        raise MalformedMessage("the message is not one of this application")
    if not isinstance(arrays, ArrayRecord) or "vector" not in arrays:
        return dict(record), None
    return dict(record), _vector(arrays["vector"].data, dtype)


def _array(vector: NDArray[Any]) -> Array:
    """Return what ``Array(vector)`` does, with one copy of the values instead of three."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(vector))
    data = b"".join([head.getvalue(), np.ascontiguousarray(vector).data])
    return Array(str(vector.dtype), vector.shape, "numpy.ndarray", data)


def _vector(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of an array in NumPy's file format, read-only and not copied."""
    head = io.BytesIO(data[:_NPY_HEAD_BYTES])
    try:
        version = np.lib.format.read_magic(head)
        shape, _, found = np.lib.format.read_array_header_1_0(head)
    except (ValueError, TypeError, OSError) as error:
        raise MalformedMessage("the message's vector cannot be read") from error
    if version != (1, 0) or found != dtype or len(shape) != 1:
        raise MalformedMessage(f"the message's vector is not one row of {dtype}")
    if len(data) - head.tell() != shape[0] * dtype.itemsize:
        raise MalformedMessage("the message's vector is not as long as it says")
    return np.frombuffer(data, dtype, offset=head.tell())


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    value = fields.get(name, b"")
    if not isinstance(value, bytes):
        raise MalformedMessage(f"the field {name!r} of a message is not bytes")
    return value
