"""The order of writes that the model checks assume is the one in which the nodes write.

`tests/support/secagg.py`, `secagg_model.py` and `secagg_desk.py` write for themselves, so that a
process can die between any two writes. Here the real writers are held against that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from coordinator.rounds import round as round_module
from coordinator.rounds.book import Attempt
from coordinator.rounds.courier import Reply
from coordinator.rounds.round import RoundExchange
from coordinator.rounds.setup import Session
from participant.node import vault as vault_module
from participant.node.vault import Vault
from shared.fleet.exchange import MASKED, RELEASE, UNMASK, Answer, Instruction
from tests.support.secagg import CONFIG, Node, World
from tests.support.secagg_stages import masked, ready

SLOW = SimpleNamespace(mask_s=9, away_s=9, unmask_s=9)


def test_a_member_writes_guard_then_vector_then_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = vault_module.write_atomic

    def noted(path: Path, data: bytes, *, mode: int) -> None:
        written.append(path.name.split("-")[0])
        write(path, data, mode=mode)

    vault = Vault(tmp_path / "secsum", binding=b"boot")
    monkeypatch.setattr(vault_module, "write_atomic", noted)
    vault.save(bytes(16), b"guard", b"session", b"upload")
    vault.close()
    assert written == ["guard", "upload", "session"]

    names: list[str] = []

    class Noting(Node):
        def _write(self, name: str, data: bytes) -> None:
            names.append(name)
            super()._write(name, data)

    world = ready()
    world.nodes[1].__class__ = Noting
    world.nodes[1].train(masked(world))
    # Before training this one writes its opened slot as well; the vector's step is the node's.
    assert names[-3:] == ["guard", "upload", "state"]


class Wire:
    """The way to the members, and a journal that notes what was written before what was asked."""

    def __init__(self, world: World, lost: int) -> None:
        self.world, self.lost = world, lost
        self.events: list[str] = []

    def ask(
        self,
        action: str,
        instructions: dict[int, Instruction],
        *,
        enough: Callable[[], bool],
        **_: Any,
    ) -> Iterator[Reply]:
        self.events.append(f"ask {action}")
        for index, instruction in instructions.items():
            if index == self.lost:
                continue
            self.events.append("answer")
            if action == MASKED:
                header, data = self.world.nodes[index].train(
                    instruction.payload, np.asarray(instruction.model).tobytes()
                )
                vector = np.frombuffer(data, "<u8").astype(np.uint64)
                yield Reply(index, Answer(payload=header, vector=vector))
            else:
                reply = self.world.nodes[index].answer(instruction.payload)
                yield Reply(index, Answer(payload=reply))
            if enough():
                return

    def save_round(self, state: bytes) -> None:
        self.events.append("round")

    def save_sum(self, accumulator: memoryview) -> None:
        self.events.append("accumulator")

    def forget_masked(self, number: int) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize("lost", [0, 5])
def test_the_coordinator_writes_before_it_asks(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready()
    wire: Any = Wire(world, lost)
    manifest: Any = SimpleNamespace(timeouts=SLOW)
    monkeypatch.setattr(round_module, "round_config", lambda *_: CONFIG)
    monkeypatch.setattr(round_module, "round_layout", lambda *_: world.layout)
    members = world.terms.indices
    session = Session(world.coordinator, {i: i for i in members}, frozenset(members))
    exchange = RoundExchange(wire, wire, mock.Mock(), manifest, session)
    result = exchange.run(Attempt(1, 1), members, np.ones(10, dtype=np.float32))
    world.assert_exact(result)
    alive, t = len(members) - bool(lost), world.terms.threshold
    taken = ["answer", "round"] * t
    expected = ["round", f"ask {MASKED}", *["answer"] * alive, "accumulator", "round"]
    expected += [f"ask {UNMASK}", *taken]
    if lost:
        expected += ["round", f"ask {RELEASE}", *taken]
    assert wire.events == expected
