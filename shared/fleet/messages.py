"""Flower messages as values and as bytes: the place that touches Flower's internals most.

Flower's ``Message`` is public, but building one outside Flower's own processes needs a process-wide
``TaskIdentity``, and turning one into bytes needs ``flwr.common.serde``. Both may move with any
release; the contract tests name every internal that is used here.

Nothing here executes what a message carries: arrays stay bytes until an application reads them, and
Flower reads them with ``allow_pickle=False``.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
from flwr.app import ArrayRecord, Error, Message, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    error_to_proto,
    message_from_proto,
    message_to_proto,
    metadata_to_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import Array as ProtoArray
from flwr.proto.recorddict_pb2 import ArrayRecord as ProtoArrayRecord
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.task_identity import TaskIdentity

from shared.clock import Clock, SystemClock
from shared.errors import MalformedMessage
from shared.fleet.internals import Run
from shared.fleet.shape import check_shape

__all__ = [
    "COORDINATOR_NODE",
    "DEFAULT_TTL_S",
    "ERROR_HANDLER",
    "ERROR_NO_REPLY",
    "ERROR_UNDELIVERED",
    "Asked",
    "Message",
    "Metadata",
    "adopt_reply",
    "decode",
    "encode",
    "encode_body",
    "encode_metadata",
    "error_reply",
    "new_message",
    "new_run",
    "set_task_identity",
    "stamped",
    "with_id",
]

COORDINATOR_NODE = 0
"""Flower node id of the coordinator; members count from 1."""

DEFAULT_TTL_S = 3600.0
"""Seconds a message and its reply stay valid unless the sender says otherwise."""

ERROR_HANDLER = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""The member's application refused the message or failed; the reason is its public text."""

ERROR_UNDELIVERED = ErrorCode.MESSAGE_UNAVAILABLE
"""The message expired, or could not be accepted, before the member had it."""

ERROR_NO_REPLY = ErrorCode.REPLY_MESSAGE_UNAVAILABLE
"""The member had the message, but no usable reply came back in time."""

_SYSTEM_CLOCK = SystemClock()


class Asked(Protocol):
    """What a reply is made for: an instruction, or what was kept of one."""

    @property
    def metadata(self) -> Metadata:
        """Flower's metadata of the instruction."""
        ...


def set_task_identity(run_id: int, node_id: int = COORDINATOR_NODE) -> None:
    """Set Flower's process-wide identity, so that ``Message(content, dst, type)`` works here.

    Only for processes of ours: inside ``flwr run`` Flower has set it, and its value must stay.
    """
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id
    TaskIdentity.task_id = 0


def new_run(run_id: int) -> Run:
    """Return Flower's description of a run that has no application bundle (FAB)."""
    return Run.create_empty(run_id)


def new_message(
    content: RecordDict,
    node_id: int,
    message_type: str,
    *,
    run_id: int,
    ttl: float = DEFAULT_TTL_S,
    group_id: str = "",
    clock: Clock = _SYSTEM_CLOCK,
) -> Message:
    """Return an instruction to one member, without touching the process-wide identity.

    Args:
        content: the records; they belong to the message from now on.
        node_id: Flower node id of the member, which is its roster index.
        message_type: ``train``, ``query`` or ``evaluate``, with an optional ``.action``.
        run_id: Flower's id of the run, an unsigned 64-bit integer.
        ttl: seconds until the message and its reply expire.
        group_id: free label, by convention the round.
        clock: source of the creation time.

    Raises:
        ValueError: the message type is not one that Flower knows.
    """
    return make_message(_metadata(run_id, node_id, message_type, ttl, group_id, clock), content)


def _metadata(
    run_id: int, node_id: int, message_type: str, ttl: float, group_id: str, clock: Clock
) -> Metadata:
    return Metadata(
        run_id=run_id,
        message_id="",
        src_node_id=COORDINATOR_NODE,
        dst_node_id=node_id,
        reply_to_message_id="",
        group_id=group_id,
        created_at=clock.now().timestamp(),
        ttl=ttl,
        message_type=message_type,
        src_task_id=0,
        dst_task_id=0,
    )


def error_reply(instruction: Asked, code: int, reason: str) -> Message:
    """Return the reply to ``instruction`` that carries an error instead of content.

    Unlike ``Message(error, reply_to=...)`` this works for an instruction that has expired.
    """
    return make_message(_reply_metadata(instruction, ""), error=Error(code, reason))


def adopt_reply(instruction: Asked, reply: Message) -> Message:
    """Return a decoded reply under metadata that follows from what was asked, not from the peer.

    Raises:
        MalformedMessage: the reply names another instruction, sender, run or type.
    """
    said, asked = reply.metadata, instruction.metadata
    if (said.reply_to_message_id, said.src_node_id, said.run_id, said.message_type) != (
        asked.message_id,
        asked.dst_node_id,
        asked.run_id,
        asked.message_type,
    ):
        raise MalformedMessage("the reply says that it belongs to another instruction or member")
    metadata = _reply_metadata(instruction, said.message_id)
    if reply.has_error():
        return make_message(metadata, error=reply.error)
    return make_message(metadata, reply.content)


def _reply_metadata(instruction: Asked, message_id: str) -> Metadata:
    asked = instruction.metadata
    return Metadata(
        run_id=asked.run_id,
        message_id=message_id,
        src_node_id=asked.dst_node_id,
        dst_node_id=asked.src_node_id,
        reply_to_message_id=asked.message_id,
        group_id=asked.group_id,
        created_at=asked.created_at,
        ttl=asked.ttl,
        message_type=asked.message_type,
        src_task_id=asked.dst_task_id,
        dst_task_id=asked.src_task_id,
    )


def with_id(message: Message, message_id: str) -> Message:
    """Return the message under ``message_id``; its records are shared, not copied."""
    if message.has_error():
        return make_message(stamped(message, message_id), error=message.error)
    return make_message(stamped(message, message_id), message.content)


def stamped(message: Message, message_id: str) -> Metadata:
    """Return a copy of the message's metadata under ``message_id``."""
    metadata = copy.copy(message.metadata)
    metadata.__dict__["_message_id"] = message_id
    return metadata


def encode_body(message: Message) -> list[bytes]:
    """Return the protobuf bytes of a message's records or error, without its metadata, in parts.

    Followed by :func:`encode_metadata` they are the message: protobuf merges encodings that are
    strung together. The data of arrays is among the parts as it is, not copied.
    """
    if message.has_error():
        return [_bytes(ProtoMessage(error=error_to_proto(message.error)))]
    parts: list[bytes] = []
    for name, record in message.content.items():
        if isinstance(record, ArrayRecord):
            item = [_bytes(ProtoRecordDict.Item(key=name))]
            item += _field(ProtoRecordDict.Item, "array_record", _array_parts(record))
            parts += _field(ProtoRecordDict, "items", item)
        else:
            parts.append(_bytes(recorddict_to_proto(RecordDict({name: record}))))
    return _field(ProtoMessage, "content", parts)


def _array_parts(record: ArrayRecord) -> list[bytes]:
    parts: list[bytes] = []
    for key, array in record.items():
        head = ProtoArray(dtype=array.dtype, shape=array.shape, stype=array.stype)
        value = [_bytes(head), *_field(ProtoArray, "data", [array.data])]
        item = [_bytes(ProtoArrayRecord.Item(key=key))]
        item += _field(ProtoArrayRecord.Item, "value", value)
        parts += _field(ProtoArrayRecord, "items", item)
    return parts


def _field(owner: Any, name: str, parts: list[bytes]) -> list[bytes]:
    """Return a length-delimited field: https://protobuf.dev/programming-guides/encoding/."""
    number = owner.DESCRIPTOR.fields_by_name[name].number
    return [_varint(number << 3 | 2) + _varint(sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def encode_metadata(metadata: Metadata) -> bytes:
    """Return the protobuf bytes of a message that has metadata alone."""
    return _bytes(ProtoMessage(metadata=metadata_to_proto(metadata)))


def encode(message: Message) -> bytes:
    """Return the protobuf bytes of a message; equal messages give equal bytes."""
    return _bytes(message_to_proto(message))


def _bytes(proto: Any) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def decode(data: bytes | bytearray) -> Message:
    """Return the message of bytes from a peer.

    Raises:
        MalformedMessage: the bytes are not a message with exactly one of content and error, or
            would take many times their size in memory.
    """
    check_shape(data, ProtoMessage.DESCRIPTOR)
    try:
        proto = ProtoMessage.FromString(data)  # type: ignore[arg-type] # any bytes will do
        del data  # large ones are not to be held three times over
        message = message_from_proto(proto)
    except Exception as error:  # Flower's decoder raises whatever its parts raise
        raise MalformedMessage("the bytes are not a message", detail=str(error)) from error
    if message.has_content() == message.has_error():
        raise MalformedMessage("a message needs either content or an error")
    return message
