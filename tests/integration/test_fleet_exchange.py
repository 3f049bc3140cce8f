"""Messages to and fro over real gRPC and mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Message

from tests.support.fleet import Fleet, content

MB = 1024 * 1024


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(5)
    yield fleet
    fleet.close()


def instruct(fleet: Fleet, index: int, values: int = 4, note: str = "", ttl: float = 30) -> Message:
    return fleet.grid.create_message(content(values, note), "train.step", index, "1", ttl)


def test_five_members_exchange_eight_megabytes(fleet: Fleet) -> None:
    for index in range(1, 6):
        fleet.node(index)
    fleet.wait_connected(1, 2, 3, 4, 5)
    values = 2 * MB
    replies = fleet.grid.send_and_receive(
        [instruct(fleet, index, values, f"to {index}") for index in range(1, 6)], timeout=20
    )
    assert sorted(r.metadata.src_node_id for r in replies) == [1, 2, 3, 4, 5]
    for reply in replies:
        assert reply.content["note"]["note"] == f"to {reply.metadata.src_node_id}"
        (vector,) = reply.content["model"].to_numpy_ndarrays()
        assert np.array_equal(vector, np.arange(values, dtype=np.float32))


def test_each_reply_is_pulled_once(fleet: Fleet) -> None:
    fleet.node(1)
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    assert len(fleet.grid.pull_messages(keys, 10)) == 1
    assert fleet.grid.pull_messages(keys) == []
