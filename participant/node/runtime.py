"""The node behind the ClientApp: turns instructions into answers.

Long-lived in `up`; in a Flower simulation or behind a SuperNode it is built anew in every process
from the state folder, which holds everything that must outlive one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from participant.deployment.service import deploy_release
from participant.node.approvals import Approvals
from participant.node.config import NodeConfig
from participant.node.consent import Facts, check_round, check_run, consent
from participant.node.drawings import Drawings
from participant.node.facts import facts_for
from participant.node.keystore import identity_key
from participant.node.learner import (
    NO_DATA,
    DataFacts,
    DeferredLearner,
    Learner,
    StoreLearner,
)
from participant.node.peers import Peers
from participant.node.policy import POLICY_FILE, Policy, load_policy, policy_digest
from participant.node.reasons import REASONS, told_to_coordinator
from participant.node.refusal_log import RefusalLog
from participant.node.registry_client import channel_factory
from participant.node.runs import MemberRun, NoSession, Own
from participant.node.vault import Vault
from participant.store import Store
from participant.store.registers import Decision
from shared.clock import Clock, SystemClock
from shared.errors import (
    InternalError,
    MalformedMessage,
    PolicyRefused,
    TouchstoneError,
    VerificationError,
)
from shared.fleet.exchange import FAILED, REFUSED, Answer, Instruction
from shared.fleet.refusals import APPROVAL_PENDING, NOT_YET
from shared.limits import MIN_GROUP
from shared.model.layout import ModelSpec
from shared.privacy.terms import USUAL_EPSILON, USUAL_ROWS
from shared.secagg import peek
from shared.trust.errors import ManifestExpired
from shared.trust.manifest import RunManifest, VerifiedManifest, verify_manifest

MakeLearner = Callable[[Store, str, ModelSpec], Learner]

_log = structlog.get_logger("runs")


class NodeRuntime:
    """Everything one node needs to answer instructions; one at a time.

    Args:
        state_dir: a joined state folder.
        clock: for expiry, hours and stamps.
        make_learner: replaced in benchmarks that measure everything but training.
        unsafe_min_group: smallest group to be summed in; only tests and simulations lower it.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock | None = None,
        make_learner: MakeLearner = StoreLearner,
        unsafe_min_group: int = MIN_GROUP,
    ) -> None:
        if unsafe_min_group < MIN_GROUP:
            _log.warning("unsafe_min_group: groups too small to protect this member")
        self._dir = state_dir
        self._clock = clock or SystemClock()
        self._make_learner = make_learner
        self._config = NodeConfig.load(state_dir)
        self._store = Store.open(state_dir, clock=self._clock)
        self._refusals = RefusalLog(self._store.audit, self._clock)
        self._vault = Vault(state_dir / "secsum")
        self._own = Own(
            self._config.member.index,
            identity_key(state_dir),
            self._vault,
            self._store,
            state_dir / "secsum",
        )
        key = bytes.fromhex(self._config.alliance.coordinator_public_key)
        self._approvals = Approvals(state_dir, key)
        self._min_group = unsafe_min_group
        self._drawings = Drawings(
            state_dir / "secsum",
            self._own.index,
            self._own.key,
            key,
            unsafe_min_group=unsafe_min_group,
        )
        self._runs: dict[bytes, MemberRun] = {}
        # What the data was like when a run was told "not yet": asking again must cost little.
        self._waiting: dict[bytes, DataFacts] = {}
        self._lock = threading.Lock()
        self._wipe_expired()

    def close(self) -> None:
        """Let another process use the state folder."""
        self._vault.close()
        self._store.close()

    def wipe_expired(self) -> bool:
        """Wipe runs whose time is over; return whether there was a moment to look.

        Returns at once while an instruction is worked on, which may take an hour of training.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._wipe_expired()
        finally:
            self._lock.release()
        return True

    def answer(self, step: Callable[[Instruction], Answer], instruction: Instruction) -> Answer:
        """Run one step; refusals and failures become answers that name a code and no data."""
        try:
            with self._lock:
                return step(instruction)
        except PolicyRefused as error:
            return _told(error)
        except TouchstoneError as error:
            _log.warning("step failed", code=error.code, reason=error.message)
            # The message stays here: of a training error it may tell of the records.
            return Answer(FAILED, code=error.code)
        except Exception as error:  # noqa: BLE001 - whatever was sent, a code is the answer
            # Neither its text nor its trace: either may quote a record.
            _log.error("step ended unexpectedly", error=type(error).__name__)
            with suppress(TouchstoneError):
                self._refusals.failure(error)
            return Answer(FAILED, code=InternalError.code)

    # -- steps ------------------------------------------------------------------------------

    def commit_to_draw(self, instruction: Instruction) -> Answer:
        """Commit to a nonce for drawing the groups of the roster accepted here."""
        roster = Peers(self._dir).roster()
        with self._refusals.of_drawing(instruction.payload):
            return Answer(payload=self._drawings.commit(instruction.payload, roster))

    def reveal_for_draw(self, instruction: Instruction) -> Answer:
        """Reveal the nonce, now that everybody has committed."""
        roster = Peers(self._dir).roster()
        with self._refusals.of_drawing(instruction.payload):
            return Answer(payload=self._drawings.reveal(instruction.payload, roster))

    def consent(self, instruction: Instruction) -> Answer:
        """Say whether this member would agree to a run by now; nothing is joined."""
        with self._refusals.of_manifest(instruction.manifest):
            verified = self._verify(instruction.manifest)
            with self._noted(verified):
                self._agree(verified, instruction.manifest)
        return Answer()

    def advertise(self, instruction: Instruction) -> Answer:
        """Check the manifest against the policy; agree with protocol keys, or refuse."""
        self._wipe_expired()
        with self._refusals.of_manifest(instruction.manifest):
            verified = self._verify(instruction.manifest)
        head = peek(instruction.payload)
        if head.run_id != verified.manifest.run_id:
            raise MalformedMessage("the request is of another run than the manifest")
        with self._noted(verified):
            with self._refusals.of_manifest(instruction.manifest):
                run = self._agree(verified, instruction.manifest)
            payload = run.advertise(instruction.payload, head.session_id, head.ordinal)
        return Answer(payload=payload)

    def step(self, instruction: Instruction) -> Answer:
        """Answer share, confirm, unmask or release."""
        run = self._run(peek(instruction.payload).run_id)
        with self._noted(run.verified, agreeing=False):
            payload = run.handle(instruction.payload)
        return Answer(payload=payload)

    def masked(self, instruction: Instruction) -> Answer:
        """Train and answer with a masked vector."""
        if instruction.model is None:
            raise MalformedMessage("a round needs a model")
        run = self._run(peek(instruction.payload).run_id)
        with self._noted(run.verified):
            policy = self._check_round(run)
            upload = run.masked(instruction.payload, instruction.model, policy)
        return Answer(payload=upload.header, vector=upload.vector)

    def ended(self, instruction: Instruction) -> Answer:
        """Wipe the run's secrets; deploy its release if there is one and it is better.

        What was decided stays here: the answer is the same whatever came of it.
        """
        run_id = instruction.run_id
        if self._wipe(run_id):
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
        manifest, policy = verified.manifest, self._policy()
        self._approvals.keep(verified, signed, self._clock.now())
        check_run(policy, manifest, self._facts(policy, verified))
        waiting = self._waiting.get(manifest.run_id)
        if waiting is not None:
            self._consent(policy, verified, waiting)
        spec = ModelSpec.decode(manifest.model_spec)
        agreed = self._runs.get(manifest.run_id)
        learner = agreed.learner if agreed else self._make_learner(self._store, manifest.kind, spec)
        self._consent(policy, verified, learner.facts())
        self._drawings.check(manifest)
        self._vault.save_manifest(manifest.run_id, signed)
        return self._keep(verified, policy, Peers(self._dir), learner)

    def _facts(
        self, policy: Policy, verified: VerifiedManifest, known: DataFacts = NO_DATA
    ) -> Facts:
        return facts_for(
            self._dir,
            self._store,
            verified.manifest,
            known,
            said=self._approvals.said(verified),
            now=self._clock.now(),
            privacy_delta=policy.privacy_delta,
            smallest_group=self._min_group,
        )

    def _check_round(self, run: MemberRun) -> Policy:
        """Hold a run that was agreed to against policy and pins of now; return the policy."""
        policy = self._policy()
        facts = self._facts(policy, run.verified)
        check_round(policy, run.verified.manifest, facts)
        run.hold_to(policy, facts.pinned)
        return policy

    def _consent(self, policy: Policy, verified: VerifiedManifest, known: DataFacts) -> None:
        """Ask every rule; remember what the data is like while the run has to wait."""
        manifest = verified.manifest
        self._waiting.pop(manifest.run_id, None)
        try:
            consent(policy, manifest, self._facts(policy, verified, known))
            if manifest.private and _seldom_usable(manifest, known):
                _log.warning("a private model of so few rows, or at so small an epsilon, is weak")
        except PolicyRefused as error:
            if error.reason in NOT_YET:
                self._waiting[manifest.run_id] = known
            raise

    def _policy(self) -> Policy:
        return load_policy(self._dir / POLICY_FILE)

    def _keep(
        self, verified: VerifiedManifest, policy: Policy, peers: Peers, learner: Learner
    ) -> MemberRun:
        roster = peers.roster()
        manifest = verified.manifest
        size = len(roster.entries) if roster else len(manifest.members)
        if manifest.grouped:
            size = len(manifest.peers_of(manifest.group_of(self._own.index)))
        pinned = peers.pinned_among(manifest.members)
        run = MemberRun(self._own, verified, policy, pinned, learner, size)
        former = self._runs.get(manifest.run_id)
        self._runs[manifest.run_id] = run
        if former is not None:
            former.forget()
        return run

    def _run(self, run_id: bytes) -> MemberRun:
        """Return a run this member agreed to, after a restart from the state folder.

        Raises:
            NoSession: there is none.
            ManifestExpired: its time is over; its secrets are wiped.
        """
        try:
            run = self._runs.get(run_id)
            if run is None:
                return self._reopened(run_id)
            run.verified.check_alive(self._clock.now())
        except ManifestExpired:
            self._wipe(run_id)
            raise
        return run

    def _reopened(self, run_id: bytes) -> MemberRun:
        signed = self._vault.manifest(run_id)
        if signed is None:
            raise NoSession("this node has not agreed to the run, or has ended it")
        verified = self._verify(signed)
        kind, spec = verified.manifest.kind, ModelSpec.decode(verified.manifest.model_spec)
        learner = DeferredLearner(lambda: self._make_learner(self._store, kind, spec))
        return self._keep(verified, self._policy(), Peers(self._dir), learner)

    def _wipe(self, run_id: bytes) -> bool:
        """Wipe what is here of a run; return whether it was open."""
        known = self._vault.manifest(run_id) is not None
        self._waiting.pop(run_id, None)
        run = self._runs.pop(run_id, None)
        if run is not None:
            run.end()
        self._vault.end(run_id)
        return known

    def _wipe_expired(self) -> None:
        """Wipe runs whose manifest has expired: nothing may be asked for in them any more."""
        for run_id, signed in self._vault.manifests().items():
            try:
                self._verify(signed)
            except (VerificationError, MalformedMessage):
                self._wipe(run_id)

    @contextmanager
    def _noted(self, verified: VerifiedManifest, *, agreeing: bool = True) -> Iterator[None]:
        """Write down what the block answers to a run, if it is not what was answered last.

        A block that is not ``agreeing`` only helps to open sums: that it does says nothing about
        the next round, that it refuses does.
        """
        try:
            yield
        except PolicyRefused as error:
            pending = error.reason == APPROVAL_PENDING
            self._note(verified, "pending" if pending else "refused", error.reason)
            raise
        if agreeing:
            self._note(verified, "accepted", "")

    def _note(self, verified: VerifiedManifest, decision: Decision, reason: str) -> None:
        run_id = verified.manifest.run_id.hex()
        kept = self._store.consents.get(run_id)
        if kept is not None and (kept.decision, kept.reason_code) == (decision, reason):
            return
        self._store.consents.record(run_id, decision, reason)
        body = {
            "run_id": run_id,
            "decision": decision,
            "reason_code": reason,
            "told": told_to_coordinator(reason) if reason else "",
            "manifest_sha256": verified.hash.hex(),
            "policy_sha256": policy_digest(self._dir / POLICY_FILE),
        }
        self._store.audit.append("run.answered", body)

    def _deploy(self, run_id: bytes, release_id: bytes) -> None:
        try:
            outcome = deploy_release(
                self._dir,
                release_id,
                channel_factory(self._dir),
                run_id=run_id,
                clock=self._clock,
            )
        except TouchstoneError as error:
            _log.warning("release not deployed", code=error.code, reason=error.message)
        else:
            _log.info("release judged", decision=outcome.decision, reason=outcome.reason)


def _told(error: PolicyRefused) -> Answer:
    """Return a refusal as it leaves this member: no more than the list of reasons lets out."""
    code = told_to_coordinator(error.reason)
    return Answer(REFUSED, code=code, text=REASONS[code].text if code in REASONS else "")


def _seldom_usable(manifest: RunManifest, known: DataFacts) -> bool:
    return known.rows < USUAL_ROWS or manifest.epsilon_floor_milli < USUAL_EPSILON * 1000


_made: dict[Path, NodeRuntime] = {}
_making = threading.Lock()


def runtime_of(state_dir: Path) -> NodeRuntime:
    """Return this process's runtime of a state folder; threads get the same one."""
    with _making:
        if state_dir not in _made:
            _made[state_dir] = NodeRuntime(state_dir)
        return _made[state_dir]
