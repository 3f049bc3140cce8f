"""Members of a secure run without store, policy or training, all in one process.

Real certificates, connections, keys and masks; the update is ready and the same for everybody.
What they cost is kept out of the coordinator's process, which a benchmark measures.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message
from loopback import free_port

from coordinator.db import Database
from coordinator.enrolment.founding import found
from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.service import invite
from participant.node.config import NodeConfig
from participant.node.connection import Connection
from participant.node.join import join
from participant.node.keystore import channel_credentials, identity_key
from shared.clock import SystemClock
from shared.fleet.exchange import Answer, Instruction
from shared.secagg import Evaluation, Member, MemberLimits, RunGuard, build_vector, peek
from shared.trust.manifest import RunManifest, verify_manifest
from shared.trust.session import noise_terms, round_layout, session_terms


class LightMember:
    """A member of the secure sum without store, policy or training."""

    def __init__(self, folder: Path) -> None:
        config = NodeConfig.load(folder)
        self._index = config.member.index
        self._coordinator = bytes.fromhex(config.alliance.coordinator_public_key)
        self._key: Ed25519PrivateKey = identity_key(folder)
        self._guard: RunGuard | None = None
        self._member: Member | None = None
        self._manifest: RunManifest | None = None

    def __call__(self, message: Message) -> Message:
        """Answer one instruction."""
        instruction = Instruction.read(message)
        return Message(self._answer(instruction).content(), reply_to=message)

    def _answer(self, instruction: Instruction) -> Answer:
        if instruction.manifest:
            return Answer(payload=self._join(instruction))
        if self._member is None or self._manifest is None or not instruction.payload:
            return Answer()
        if instruction.model is None:
            return Answer(payload=self._member.handle(instruction.payload))
        opened = self._member.open_round(instruction.payload, instruction.model.tobytes())
        evaluates = round_layout(self._manifest, opened.round).evaluates
        counts = np.ones(20, np.int64)
        vector = build_vector(
            np.full(instruction.model.size, 0.01, dtype=np.float32),
            1.0,
            self._member.terms.quantiser,
            Evaluation(16, counts, counts) if evaluates else None,
            noise_terms(self._manifest) if evaluates else None,
        )
        upload = self._member.mask(vector)
        return Answer(payload=upload.header, vector=upload.vector)

    def _join(self, instruction: Instruction) -> bytes:
        verified = verify_manifest(instruction.manifest, self._coordinator, SystemClock().now())
        head = peek(instruction.payload)
        terms = session_terms(verified, head.session_id, head.ordinal)
        limits = MemberLimits(terms.n_min, terms.max_colluders, frozenset(terms.indices))
        self._manifest = verified.manifest
        self._guard = self._guard or RunGuard(terms.run_id)
        self._member = Member.begin(
            index=self._index,
            signing_key=self._key,
            terms=terms,
            limits=limits,
            guard=self._guard,
        )
        return self._member.handle(instruction.payload)


async def members(root: Path) -> None:
    """Keep every member of the folder connected, in this process."""
    connections = [
        Connection(
            NodeConfig.load(folder).coordinator.authority,
            channel_credentials(folder),
            LightMember(folder),
        )
        for folder in sorted(root.glob("member-*"))
    ]
    await asyncio.gather(*(connection.run() for connection in connections))


def alliance(root: Path, count: int) -> Path:
    """Found an alliance of ``count`` members; return the coordinator's folder."""
    coordinator = root / "coordinator"
    found(coordinator, name="bench", host="127.0.0.1", port=free_port())
    database = Database.open(coordinator)
    enrolment = Enrolment.open(coordinator, database)
    for number in range(1, count + 1):
        folder = root / f"member-{number:02}"
        invitation = invite(coordinator, database, folder.name)
        join(folder, invitation, lambda _invitation, request: enrolment.enrol(request))
    database.close()
    return coordinator


if __name__ == "__main__":
    asyncio.run(members(Path(sys.argv[1])))
