"""A coordinator played by hand on real nodes: one step at a time, with whatever model it likes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from coordinator.enrolment.files import load_signing_key
from participant.node.learner import Learner
from participant.node.runtime import NodeRuntime
from shared.clock import SystemClock
from shared.fleet.exchange import OK, Answer, Instruction
from shared.model.layout import ModelSpec, init_vector
from shared.secagg import Coordinator
from shared.trust.manifest import RunManifest, VerifiedManifest, verify_manifest
from shared.trust.session import round_config, round_layout, session_terms
from tests.support.runs import SETTINGS, Federation, KnownLearner


@dataclass
class ShiftedClock:
    """The real clock, some time ahead."""

    ahead: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def monotonic(self) -> float:
        return SystemClock().monotonic() + self.ahead.total_seconds()


class ByHand:
    """Real nodes of a federation, and a coordinator that does what a test says."""

    def __init__(
        self,
        fed: Federation,
        learner: Callable[[int, ModelSpec], Learner] = lambda i, spec: KnownLearner(0.01 * i, spec),
        clock: ShiftedClock | None = None,
    ) -> None:
        self.fed = fed
        self.key = load_signing_key(fed.alliance.coordinator_dir)
        self._learner = learner
        self._clock = clock
        self.nodes = {
            index: self._node(index) for index in range(1, len(fed.alliance.member_dirs) + 1)
        }

    def _node(self, index: int) -> NodeRuntime:
        return NodeRuntime(
            self.folder(index),
            clock=self._clock,
            make_learner=lambda _store, _kind, spec: self._learner(index, spec),
        )

    def folder(self, index: int):  # type: ignore[no-untyped-def]
        return list(self.fed.alliance.member_dirs.values())[index - 1]

    def restart(self, index: int) -> None:
        self.nodes[index].close()
        self.nodes[index] = self._node(index)

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def ask(self, index: int, step: str, instruction: Instruction) -> Answer:
        node = self.nodes[index]
        return node.answer(getattr(node, step), instruction)

    def session(self, settings=SETTINGS, ordinal: int = 1, run: str = "") -> ByHandSession:  # type: ignore[no-untyped-def]
        """Start a run, or take one, and bring all members into a session of it."""
        run = run or self.fed.start(settings)
        signed = self.fed.run(run).manifest
        verified = verify_manifest(
            signed, self.key.public_key().public_bytes_raw(), SystemClock().now()
        )
        return ByHandSession(self, run, signed, verified, ordinal)


class ByHandSession:
    """A session that is set up; rounds are asked for as a test likes."""

    def __init__(
        self, hand: ByHand, run: str, signed: bytes, verified: VerifiedManifest, ordinal: int
    ) -> None:
        self._hand, self.run = hand, run
        self.manifest: RunManifest = verified.manifest
        terms = session_terms(verified, bytes([ordinal]) * 16, ordinal)
        self.core = core = Coordinator.begin(terms=terms, signing_key=hand.key)
        begin = Instruction(payload=core.advertise_request(), manifest=signed)
        for index in hand.nodes:
            core.on_advertise(index, self._answer(index, "advertise", begin))
        for index in hand.nodes:
            core.on_share(index, self._step(index, core.share_request()))
        for index in hand.nodes:
            core.on_confirm(index, self._step(index, core.confirm_request(index)))
        core.finish_setup()

    def _answer(self, index: int, step: str, instruction: Instruction) -> bytes:
        answer = self._hand.ask(index, step, instruction)
        assert answer.status == OK, (index, step, answer.status, answer.code)
        return answer.payload

    def _step(self, index: int, request: bytes) -> bytes:
        return self._answer(index, "step", Instruction(payload=request))

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec.decode(self.manifest.model_spec)

    def first_model(self) -> np.ndarray:
        return init_vector(self.spec, SETTINGS.seed)

    def mask(
        self, model: np.ndarray, number: int = 1, asked: Iterable[int] = ()
    ) -> dict[int, Answer]:
        """Open a slot for a round and ask members (all, by default) for their masked vectors."""
        members = list(self._hand.nodes)
        request = self.core.open_round(
            number,
            members,
            hashlib.sha256(model.tobytes()).digest(),
            round_config(self.manifest, number),
            round_layout(self.manifest, number).words,
        )
        ask = Instruction(payload=request, model=model)
        return {index: self._hand.ask(index, "masked", ask) for index in asked or members}

    def take(self, answers: dict[int, Answer]) -> None:
        """Add masked vectors to the sum and fix the survivors."""
        for index, answer in answers.items():
            assert answer.vector is not None
            self.core.on_masked(index, answer.payload, answer.vector)
        self.core.close_masked()

    def unmask(self, index: int) -> Answer:
        return self._hand.ask(index, "step", Instruction(payload=self.core.unmask_request()))
