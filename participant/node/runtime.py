"""The node behind the ClientApp: turns instructions into answers.

Long-lived in `up`; in a Flower simulation or behind a SuperNode it is built anew in every process
from the state folder, which holds everything that must outlive one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import structlog

from participant.deployment.service import deploy_release
from participant.node.config import NodeConfig
from participant.node.keystore import identity_key
from participant.node.learner import Learner, StoreLearner
from participant.node.peers import Peers
from participant.node.policy import Facts, Policy, consent, load_policy
from participant.node.registry_client import channel_factory
from participant.node.runs import MemberRun, NoSession, Own
from participant.node.vault import Vault
from participant.node.witnesses import WitnessFile
from participant.store import Store
from participant.store.registers import Decision
from shared.clock import Clock, SystemClock
from shared.domain.vocabulary import SCHEMA_VERSION
from shared.errors import MalformedMessage, PolicyRefused, TouchstoneError, VerificationError
from shared.fleet.exchange import FAILED, REFUSED, Answer, Instruction
from shared.model.layout import ModelSpec, feature_space_hash
from shared.secagg import peek
from shared.trust.manifest import RunManifest, VerifiedManifest, verify_manifest

MakeLearner = Callable[[Store, str, ModelSpec], Learner]

_log = structlog.get_logger("runs")


class NodeRuntime:
    """Everything one node needs to answer instructions; one at a time.

    Args:
        state_dir: a joined state folder.
        clock: for expiry, hours and stamps.
        make_learner: replaced in benchmarks that measure everything but training.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock | None = None,
        make_learner: MakeLearner = StoreLearner,
    ) -> None:
        self._dir = state_dir
        self._clock = clock or SystemClock()
        self._make_learner = make_learner
        self._config = NodeConfig.load(state_dir)
        self._store = Store.open(state_dir, clock=self._clock)
        self._vault = Vault(state_dir / "secsum")
        self._own = Own(
            self._config.member.index,
            identity_key(state_dir),
            self._vault,
            self._store,
            state_dir / "secsum",
        )
        self._runs: dict[bytes, MemberRun] = {}
        self._lock = threading.Lock()
        self._wipe_expired()

    def close(self) -> None:
        """Let another process use the state folder."""
        self._vault.close()
        self._store.close()

    def answer(self, step: Callable[[Instruction], Answer], instruction: Instruction) -> Answer:
        """Run one step; refusals and failures become answers that name a code and no data."""
        try:
            with self._lock:
                return step(instruction)
        except PolicyRefused as error:
            return Answer(REFUSED, code=error.reason, text=error.message)
        except TouchstoneError as error:
            _log.warning("step failed", code=error.code, reason=error.message)
            return Answer(FAILED, code=error.code, text=error.message)

    # -- steps ------------------------------------------------------------------------------

    def advertise(self, instruction: Instruction) -> Answer:
        """Check the manifest against the policy; agree with protocol keys, or refuse."""
        self._wipe_expired()
        verified = self._verify(instruction.manifest)
        run_id = verified.manifest.run_id
        head = peek(instruction.payload)
        if head.run_id != run_id:
            raise MalformedMessage("the request is of another run than the manifest")
        try:
            run = self._agree(verified, instruction.manifest)
            payload = run.advertise(instruction.payload, head.session_id, head.ordinal)
        except PolicyRefused as error:
            self._note(verified.manifest, "refused", error.reason)
            raise
        self._note(verified.manifest, "accepted", "")
        return Answer(payload=payload)

    def step(self, instruction: Instruction) -> Answer:
        """Answer share, confirm, unmask or release."""
        run = self._run(peek(instruction.payload).run_id)
        return Answer(payload=run.handle(instruction.payload))

    def masked(self, instruction: Instruction) -> Answer:
        """Train and answer with a masked vector."""
        if instruction.model is None:
            raise MalformedMessage("a round needs a model")
        run = self._run(peek(instruction.payload).run_id)
        upload = run.masked(instruction.payload, instruction.model)
        return Answer(payload=upload.header, vector=upload.vector)

    def ended(self, instruction: Instruction) -> Answer:
        """Wipe the run's secrets; deploy its release if there is one and it is better.

        What was decided stays here: the answer is the same whatever came of it.
        """
        run_id = instruction.run_id
        self._wipe(run_id)
        self._store.audit.append("run.ended", {"run_id": run_id.hex()})
        if instruction.release_id:
            self._deploy(run_id, instruction.release_id)
        return Answer()

    # -- parts ------------------------------------------------------------------------------

    def _verify(self, signed: bytes) -> VerifiedManifest:
        alliance = self._config.alliance
        key = bytes.fromhex(alliance.coordinator_public_key)
        verified = verify_manifest(signed, key, self._clock.now())
        if verified.manifest.alliance_id.hex() != alliance.id:
            raise VerificationError("the run manifest is of another alliance")
        return verified

    def _agree(self, verified: VerifiedManifest, signed: bytes) -> MemberRun:
        manifest = verified.manifest
        peers, policy = Peers(self._dir), load_policy(self._dir / "policy.toml")
        roster = peers.roster()
        spec = ModelSpec.decode(manifest.model_spec)
        agreed = self._runs.get(manifest.run_id)
        learner = agreed.learner if agreed else self._make_learner(self._store, manifest.kind, spec)
        known = learner.facts()
        consent(
            policy,
            manifest,
            Facts(
                index=self._own.index,
                roster=roster,
                pinned=peers.pinned_indices(),
                rows=known.rows,
                smallest_class=known.smallest_class,
                epsilon_spent=self._epsilon_elsewhere(manifest.run_id),
                feature_space=feature_space_hash(spec),
                schema_version=SCHEMA_VERSION,
                now=self._clock.now(),
            ),
        )
        self._vault.save_manifest(manifest.run_id, signed)
        return self._keep(verified, policy, peers, learner)

    def _keep(
        self, verified: VerifiedManifest, policy: Policy, peers: Peers, learner: Learner
    ) -> MemberRun:
        roster = peers.roster()
        size = len(roster.entries) if roster else len(verified.manifest.members)
        run = MemberRun(self._own, verified, policy, peers.pinned_indices(), learner, size)
        self._runs[verified.manifest.run_id] = run
        return run

    def _run(self, run_id: bytes) -> MemberRun:
        """Return a run this member agreed to, after a restart from the state folder."""
        if run_id in self._runs:
            return self._runs[run_id]
        signed = self._vault.manifest(run_id)
        if signed is None:
            raise NoSession("this node has not agreed to the run, or has ended it")
        verified = self._verify(signed)
        spec = ModelSpec.decode(verified.manifest.model_spec)
        learner = self._make_learner(self._store, verified.manifest.kind, spec)
        return self._keep(
            verified, load_policy(self._dir / "policy.toml"), Peers(self._dir), learner
        )

    def _wipe(self, run_id: bytes) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None:
            run.end()
        self._vault.end(run_id)

    def _wipe_expired(self) -> None:
        """Wipe runs whose manifest has expired: nothing may be asked for in them any more."""
        for run_id, signed in self._vault.manifests().items():
            try:
                self._verify(signed)
            except VerificationError:
                self._wipe(run_id)

    def _epsilon_elsewhere(self, run_id: bytes) -> float:
        """Return evaluation epsilon spent in other runs; this one is projected whole."""
        ledger = self._store.ledger
        return ledger.total()[0] - ledger.total(run_id.hex())[0]

    def _note(self, manifest: RunManifest, decision: Decision, reason: str) -> None:
        run_id = manifest.run_id.hex()
        kept = self._store.consents.get(run_id)
        if kept is not None and (kept.decision, kept.reason_code) == (decision, reason):
            return
        self._store.consents.record(run_id, decision, reason)
        body = {"run_id": run_id, "decision": decision, "reason_code": reason}
        self._store.audit.append("run.answered", body)

    def _deploy(self, run_id: bytes, release_id: bytes) -> None:
        witnesses = WitnessFile(self._own.witnesses, run_id).read()
        try:
            outcome = deploy_release(
                self._dir,
                release_id,
                channel_factory(self._dir),
                witnesses=witnesses,
                clock=self._clock,
            )
        except TouchstoneError as error:
            _log.warning("release not deployed", code=error.code, reason=error.message)
        else:
            _log.info("release judged", decision=outcome.decision, reason=outcome.reason)


@cache
def runtime_of(state_dir: Path) -> NodeRuntime:
    """Return this process's runtime of a state folder."""
    return NodeRuntime(state_dir)
