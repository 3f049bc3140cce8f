"""Every name of Flower's that is not public and that we use: moved names fail here, loudly."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message.message import make_message
from flwr.clientapp import ClientApp
from flwr.common import serde
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore import telemetry
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from coordinator.fleet.grid import AllianceGrid
from shared.errors import MalformedMessage
from shared.fleet import internals
from shared.fleet.environment import QUIET
from shared.fleet.messages import (
    decode,
    encode,
    encode_body,
    encode_metadata,
    error_reply,
    new_message,
    set_task_identity,
    with_id,
)
from tests.support.fleet import content, echo


def test_telemetry_and_update_check_are_off() -> None:
    assert {name: os.environ[name] for name in QUIET} == QUIET
    assert QUIET == {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


ROOT = Path(__file__).parents[2]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}
"""What Flower documents as its interface; everything else may move with any release."""


def imports_of_flower(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "flwr")


def test_only_shared_fleet_imports_what_is_not_public() -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for package in ("shared", "coordinator", "participant", "simulations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            inside = path.parent == ROOT / "shared" / "fleet"
            seen[inside] |= set(imports_of_flower(path))
    assert seen[False] == PUBLIC
    assert seen[True] - PUBLIC, "the search finds nothing"


def test_the_telemetry_switch_is_where_we_look_for_it() -> None:
    assert internals.Run is Run
    assert telemetry.FLWR_TELEMETRY_ENABLED == internals.telemetry_switch() == "0"


def test_serialisation_is_where_we_look_for_it() -> None:
    assert list(inspect.signature(serde.message_to_proto).parameters) == ["message"]
    assert list(inspect.signature(serde.message_from_proto).parameters) == ["message_proto"]
    assert list(inspect.signature(make_message).parameters) == ["metadata", "content", "error"]
    assert {f.name for f in ProtoMessage.DESCRIPTOR.fields} == {"metadata", "content", "error"}


def test_metadata_is_what_we_build() -> None:
    assert list(inspect.signature(Metadata.__init__).parameters)[1:] == [
        "run_id",
        "message_id",
        "src_node_id",
        "dst_node_id",
        "reply_to_message_id",
        "group_id",
        "created_at",
        "ttl",
        "message_type",
        "src_task_id",
        "dst_task_id",
    ]


def test_error_codes_and_runs_are_where_we_look_for_them() -> None:
    assert ErrorCode.CLIENT_APP_RAISED_EXCEPTION == 2
    assert (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE) == (3, 4)
    assert Run.create_empty(5).run_id == 5


def test_the_grid_implements_all_that_flower_asks_for() -> None:
    assert Grid.__abstractmethods__ == {
        "create_message",
        "get_node_ids",
        "pull_messages",
        "push_messages",
        "run",
        "send_and_receive",
        "set_run",
    }
    assert not AllianceGrid.__abstractmethods__


def test_the_task_identity_makes_flowers_own_constructor_work() -> None:
    before = dict(vars(TaskIdentity))
    try:
        set_task_identity(9)
        made = Message(content(), 3, "train.step")
        assert (made.metadata.run_id, made.metadata.src_node_id) == (9, 0)
    finally:
        for name in ("_run_id", "_node_id", "_task_id"):
            setattr(TaskIdentity, name, before[name])


def test_our_constructor_needs_no_identity_and_survives_the_wire() -> None:
    message = with_id(
        new_message(content(5, "x"), 3, "query.hello", run_id=2**63, group_id="4"), "ab" * 16
    )
    received = decode(encode(message))
    assert received.metadata == message.metadata
    assert encode(received) == encode(message)
    reply = decode(encode(echo(received)))
    assert reply.metadata.reply_to_message_id == "ab" * 16
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (3, 0)


@pytest.mark.parametrize("values", [0, 1, 31, 5000])
def test_parts_strung_together_are_the_message(values: int) -> None:
    records = content(values, "x" * 200)
    others = {"ä" * 70: Array(np.zeros((2, values), np.uint64)), "b": Array(np.ones(1))}
    records["more"] = ArrayRecord(others)
    records["counts"] = MetricRecord({"n": 3})
    message = with_id(new_message(records, 3, "train.step", run_id=9), "ab" * 16)
    parts = encode_body(message)
    strung = decode(b"".join(parts) + encode_metadata(message.metadata))
    assert encode(strung) == encode(message)
    array = records["model"]["0"].data
    assert any(part is array for part in parts), "array data is not copied"


def test_parts_of_an_error_are_the_message() -> None:
    message = error_reply(new_message(content(), 3, "train.step", run_id=9), 1, "no")
    strung = decode(b"".join(encode_body(message)) + encode_metadata(message.metadata))
    assert encode(strung) == encode(message)


def test_an_unknown_message_type_is_refused_when_made() -> None:
    with pytest.raises(ValueError):
        new_message(content(), 1, "execute.this", run_id=1)


def test_an_error_reply_works_for_an_expired_instruction() -> None:
    expired = with_id(new_message(content(), 3, "train", run_id=1, ttl=-5), "cd" * 16)
    reply = decode(encode(error_reply(expired, 4, "late")))
    assert (reply.error.code, reply.error.reason) == (4, "late")
    assert reply.metadata.src_node_id == 3
    again = with_id(reply, "ef" * 16)
    assert again.metadata.message_id == "ef" * 16
    assert isinstance(again.error, Error)


@pytest.mark.parametrize("data", [b"", b"\x00", b"not protobuf at all", b"\xff" * 40])
def test_bytes_that_are_no_message_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


def test_a_message_type_from_outside_is_checked() -> None:
    proto = ProtoMessage.FromString(encode(new_message(content(), 1, "train", run_id=1)))
    proto.metadata.message_type = "import os"
    with pytest.raises(MalformedMessage):
        decode(proto.SerializeToString())


def test_flower_does_not_unpickle_arrays() -> None:
    evil = np.array([object()], dtype=object).dumps()
    array = Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=evil)
    received = decode(
        encode(new_message(RecordDict({"a": ArrayRecord({"x": array})}), 1, "train", run_id=1))
    )
    with pytest.raises(ValueError, match="allow_pickle"):
        received.content["a"]["x"].numpy()


def test_a_client_app_raises_for_an_action_it_does_not_have() -> None:
    with pytest.raises(ValueError):
        ClientApp()(new_message(content(), 1, "train.unknown", run_id=1), None)  # type: ignore[arg-type]
