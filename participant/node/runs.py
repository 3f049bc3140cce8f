"""One run at this member: consent, secure-sum state, training; persisted before every answer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from participant.node.learner import Learner
from participant.node.policy import Policy
from participant.node.reasons import refusal
from participant.node.told_rounds import ToldRounds
from participant.node.vault import Vault
from participant.node.witnesses import WitnessFile
from participant.privacy.accounting import Charge, epsilon_of
from participant.privacy.projection import evaluation_charge, training_charge
from participant.store import Store
from participant.store.registers import ChargeKind
from participant.training.private import PrivateConfig
from shared.errors import StateError, VerificationError
from shared.secagg import MaskedUpload, Member, MemberLimits, OpenRound, RunGuard, build_vector
from shared.secagg.errors import SlotClosed
from shared.trust.manifest import VerifiedManifest
from shared.trust.session import noise_terms, round_config, round_layout, session_terms


class NoSession(StateError):
    """This node has no secrets of the session: it was restarted on another boot, or left out."""

    code = "no_session"


@dataclass(frozen=True)
class Own:
    """What a run needs of the node itself."""

    index: int
    key: Ed25519PrivateKey
    vault: Vault
    store: Store
    witnesses: Path


class MemberRun:
    """This member's part in one run.

    Args:
        own: the node.
        verified: the run's manifest, checked and agreed to.
        policy: as it stood when the run was agreed to.
        pinned: indices of pinned peers.
        learner: trains and evaluates.
        roster_size: members of the alliance, or of this member's group, for the policy's default
            colluder bound.

    Attributes:
        verified: as given.
        learner: as given; another session of the run goes on with the same records.
    """

    def __init__(
        self,
        own: Own,
        verified: VerifiedManifest,
        policy: Policy,
        pinned: frozenset[int],
        learner: Learner,
        roster_size: int,
    ) -> None:
        self._own = own
        self.verified = verified
        self._policy = policy
        self.learner = learner
        self._id = verified.manifest.run_id
        self._group = verified.manifest.group_of(own.index)
        self._limits = MemberLimits(
            n_min=policy.min_cohort,
            max_colluders=policy.colluders(roster_size),
            pinned=pinned,
            min_known_peers=policy.min_known_peers,
            burnt_rounds=policy.burnt_rounds,
        )
        stored = own.vault.guard(self._id)
        self._guard = RunGuard.load(stored) if stored else RunGuard(self._id)
        self._member = self._load()
        self._witnesses = WitnessFile(own.witnesses, self._id)
        self._told = ToldRounds(own.witnesses, self._id)

    def _load(self) -> Member | None:
        data = self._own.vault.session(self._id)
        if data is None:
            return None
        return Member.load(data, signing_key=self._own.key, limits=self._limits, guard=self._guard)

    def advertise(self, request: bytes, session_id: bytes, ordinal: int) -> bytes:
        """Join a session of the run, closing every earlier one; answer S0.

        Raises:
            TermsRefused: the session is weaker than this member's policy.
            SlotClosed: this or a newer session was joined before.
        """
        member = self._member
        if member is None or member.closed or member.terms.session_id != session_id:
            member = Member.begin(
                index=self._own.index,
                signing_key=self._own.key,
                terms=session_terms(self.verified, session_id, ordinal, self._group),
                limits=self._limits,
                guard=self._guard,
            )
        answer = member.handle(request)
        self._member = member
        self._save()
        return answer

    def handle(self, request: bytes) -> bytes:
        """Answer share, confirm, unmask or release.

        Raises:
            NoSession: there are no secrets here to answer with.
            SecaggError: the request is refused; nothing was revealed.
        """
        member = self._open_member()
        answer = member.handle(request)
        self._save()
        answered = member.answered_round()
        if answered is not None:
            self._told.answered(answered.round, request)
        return answer

    def _open_member(self) -> Member:
        if self._member is None:
            raise NoSession("this node is in no session of the run")
        return self._member

    def masked(self, request: bytes, model: NDArray[np.float32]) -> MaskedUpload:
        """Train on ``model`` and answer with the masked vector.

        Raises:
            NoSession: there are no secrets here to mask with.
            VerificationError: the round asks for something outside the manifest.
            SecaggError: the request is refused.
        """
        member = self._open_member()
        opened = member.open_round(request, model.tobytes())
        self._check_round(opened)
        if opened.already_answered:
            return self._same_upload(member)
        self._told.opened(request)
        upload = member.mask(self._vector(opened, model))
        self._save(upload.vector.tobytes())
        return upload

    def _check_round(self, opened: OpenRound) -> None:
        manifest = self.verified.manifest
        if not 1 <= opened.round <= manifest.rounds:
            raise VerificationError("the round is outside the run's manifest")
        if opened.config != round_config(manifest, opened.round):
            raise VerificationError("the round's training config is not the manifest's")
        if opened.words != round_layout(manifest, opened.round).words:
            raise VerificationError("the round's vector is not laid out as the manifest says")

    def _vector(self, opened: OpenRound, model: NDArray[np.float32]) -> NDArray[np.uint64]:
        manifest = self.verified.manifest
        evaluates = manifest.evaluates_in(opened.round)
        self._charge(opened)
        delta = self._update(model)
        session = session_terms(self.verified, bytes(16), 1, self._group)
        return build_vector(
            delta,
            manifest.training.weight(self.learner.facts().rows),
            session.quantiser,
            self.learner.evaluate(model) if evaluates else None,
            noise_terms(manifest) if evaluates else None,
        )

    def _update(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        manifest = self.verified.manifest
        training = manifest.training
        if manifest.private:
            rate = training.learning_rate_milli / 1000
            config = PrivateConfig(manifest.privacy, rate, training.full_weight_rows)
            return self.learner.private_update(model, config)
        return self.learner.update(
            model, training, seed=secrets.randbits(63), threads=self._policy.threads
        )

    def _charge(self, opened: OpenRound) -> None:
        """Write down what this slot's vector costs, before anything is trained for it.

        A slot's vector leaves at most once, whatever crashes, so a slot is charged once; a retry
        takes another slot and is charged again.
        """
        manifest, ledger = self.verified.manifest, self._own.store.ledger
        slot = f"{self._open_member().terms.ordinal}.{opened.slot}"
        due: dict[ChargeKind, Charge] = {"training": training_charge(manifest)}
        if manifest.evaluates_in(opened.round):
            due["evaluation"] = evaluation_charge(manifest)
        if manifest.private and not ledger.has(self._id.hex(), slot):
            total = epsilon_of([*ledger.charges(), *due.values()], self._policy.privacy_delta)
            if total > self._policy.privacy_budget:
                raise refusal("privacy_budget")
        for kind, charge in due.items():
            ledger.charge(self._id.hex(), opened.round, slot, kind, charge)

    def _same_upload(self, member: Member) -> MaskedUpload:
        stored = self._own.vault.upload(self._id)
        if stored is None:
            member.lose_slot()
            self._save()
            raise SlotClosed("the masked vector of this slot is gone")
        return member.restore_upload(np.frombuffer(stored, dtype="<u8").astype(np.uint64))

    def _save(self, upload: bytes = b"") -> None:
        """Make the step durable; only then may its answer leave."""
        member = self._open_member()
        self._own.vault.save(self._id, self._guard.dump(), member.dump(), upload)
        answered = member.answered_round()
        if answered is not None:
            self._witnesses.keep(self._own.index, answered)

    def end(self) -> None:
        """Wipe every secret of the run."""
        if self._member is not None:
            self._member.wipe()
        self._own.vault.end(self._id)
