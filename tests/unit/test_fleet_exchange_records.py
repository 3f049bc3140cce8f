"""Vectors inside messages: what Flower would have made of them, read without a copy, let go."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from shared.errors import MalformedMessage
from shared.fleet.exchange import Answer, Instruction
from shared.fleet.messages import Message, decode, encode, new_message, with_id

KEY = "ab" * 16


def travelled(content) -> Message:  # type: ignore[no-untyped-def]
    return decode(encode(with_id(new_message(content, 1, "train.masked", run_id=7), KEY)))


@pytest.mark.parametrize("values", [0, 1, 1000])
def test_a_vector_is_written_as_flower_writes_it(values: int) -> None:
    vector = np.arange(values, dtype=np.float32)
    ours = Instruction(model=vector).content()["vectors"]["vector"]
    assert ours == Array(vector)
    read = Instruction.read(travelled(Instruction(payload=b"x", model=vector).content()))
    np.testing.assert_array_equal(read.model, vector)


def test_reading_a_vector_leaves_nothing_for_the_garbage_collector() -> None:
    """A coordinator that waits for a collection would hold many masked vectors instead of one."""
    message = travelled(Answer(payload=b"x", vector=np.ones(10, np.uint64)).content())
    record = weakref.ref(message.content["vectors"])
    gc.collect()
    gc.disable()
    try:
        answer = Answer.read(message)
        del message
        assert record() is None
    finally:
        gc.enable()
    assert answer.vector is not None
    assert answer.vector.sum() == 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"not an array at all",
        "cut",
        "long",
        "wrong type",
        "table",
        "other shape",
    ],
)
def test_an_array_that_is_not_one_row_is_malformed(data: bytes | str) -> None:
    good = Array(np.ones(10, np.uint64)).data
    made = {
        "cut": good[:-1],
        "long": good + b"\0",
        "wrong type": Array(np.ones(10, np.int64)).data,
        "table": Array(np.ones((2, 5), np.uint64)).data,
        "other shape": good.replace(b"(10,)", b"(5,) "),
    }
    content = Answer(payload=b"x", vector=np.ones(10, np.uint64)).content()
    array = Array("uint64", (10,), "numpy.ndarray", made[data] if isinstance(data, str) else data)
    content["vectors"] = ArrayRecord({"vector": array})
    with pytest.raises(MalformedMessage):
        Answer.read(travelled(content))
