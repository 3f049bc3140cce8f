"""Flower's unmodified SecAgg+ without a network: its members, and its coordinator's workflow.

Between them goes one call, ``ask(node, message) -> reply``: in this process to measure CPU, through
a pipe to measure memory.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1")

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, serde
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.server_config import ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.task_identity import TaskIdentity

Ask = Callable[[int, Message], Message]

TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 0
logging.getLogger("flwr").setLevel(logging.ERROR)


def encode(message: Message) -> bytes:
    """Return a message as Flower sends it."""
    return bytes(serde.message_to_proto(message).SerializeToString())


def decode(data: bytes) -> Message:
    """Read what :func:`encode` made."""
    return serde.message_from_proto(ProtoMessage.FromString(data))


class Members:
    """Every member of one round; all have the same update.

    Attributes:
        training: CPU seconds spent on what stands for training, which is not to be counted.
    """

    def __init__(self, members: int, params: int) -> None:
        generator = np.random.default_rng(0)
        self._delta = generator.standard_normal(params, dtype=np.float32) * np.float32(0.05)
        self._contexts = {i: _context(i) for i in range(1, members + 1)}
        self.training = 0.0

    def answer(self, node: int, message: Message) -> Message:
        """Return a member's reply."""
        return secaggplus_mod(message, self._contexts[node], self._train)

    def _train(self, message: Message, _context: Context) -> Message:
        start = time.process_time()
        answer = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self._delta]), 1, {})
        reply = Message(compat.fitres_to_recorddict(answer, False), reply_to=message)
        self.training += time.process_time() - start
        return reply


class _Proxy:
    def __init__(self, node_id: int) -> None:
        self.node_id, self.cid = node_id, str(node_id)


class _Clients:
    def __init__(self, members: int) -> None:
        self._members = members

    def num_available(self) -> int:
        return self._members


class _Strategy(FedAvg):
    """Takes everybody and keeps the sum."""

    result = None

    def __init__(self, members: int) -> None:
        super().__init__()
        self._members = members

    def configure_fit(self, *given):
        return [(_Proxy(i), FitIns(given[1], {})) for i in range(1, self._members + 1)]

    def aggregate_fit(self, *given):
        self.result = given[1][0][1].parameters
        return self.result, {}


class _Grid:
    """Brings the workflow's messages to the members; the last ``lost`` stop before they mask."""

    def __init__(self, members: int, lost: int, ask: Ask) -> None:
        self._dead = set(range(members - lost + 1, members + 1))
        self._ask = ask
        self.seconds = 0.0
        self.upload_bytes = 0

    def send_and_receive(self, messages, **_given):
        start = time.process_time()
        replies = [self._one(message) for message in messages]
        self.seconds += time.process_time() - start
        return replies

    def _one(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        for name, value in (("message_id", f"m{node}"), ("src_node_id", 0), ("run_id", 1)):
            message.metadata.__dict__[f"_{name}"] = value
        configs = message.content.config_records[RECORD_KEY_CONFIGS]
        stage = configs[Key.STAGE]
        late = Stage.all().index(stage) >= Stage.all().index(Stage.COLLECT_MASKED_VECTORS)
        if node in self._dead and late:
            return Message(Error(code=1, reason="lost"), reply_to=message)
        wire = RecordDict(dict(message.content.items()))
        wire.config_records[RECORD_KEY_CONFIGS] = ConfigRecord(dict(configs))
        copy = Message.__new__(Message)
        copy.__dict__.update(message.__dict__)
        copy.__dict__["_content"] = wire
        reply = self._ask(node, copy)
        if stage == Stage.COLLECT_MASKED_VECTORS:
            self.upload_bytes = max(self.upload_bytes, _record_bytes(reply.content))
        reply.metadata.__dict__["_src_node_id"] = node
        return reply


def drive(members: int, params: int, lost: int, ask: Ask) -> tuple[float, int, bool]:
    """Run the workflow of one round.

    Returns:
        CPU seconds of the coordinator, bytes of one upload, and whether there was a result.
    """
    strategy, grid = _Strategy(members), _Grid(members, lost, ask)
    legacy = LegacyContext(_context(0), ServerConfig(1), strategy, _Clients(members))
    first = ndarrays_to_parameters([np.zeros(params, dtype=np.float32)])
    legacy.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    legacy.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(first, True)
    workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.6, max_weight=200.0)
    start = time.process_time()
    workflow(grid, legacy)
    seconds = time.process_time() - start - grid.seconds
    return seconds, grid.upload_bytes, strategy.result is not None


def _context(node: int) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def _record_bytes(record: RecordDict) -> int:
    size = sum(len(a.data) for arrays in record.array_records.values() for a in arrays.values())
    for config in record.config_records.values():
        for value in config.values():
            items = value if isinstance(value, list) else [value]
            size += sum(len(item) if isinstance(item, bytes) else 8 for item in items)
    return size
