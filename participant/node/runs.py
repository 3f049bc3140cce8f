"""One run at this member: consent, secure-sum state, training; persisted before every answer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from participant.node.contribution import Contribution
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
from shared.errors import StateError, VerificationError
from shared.model.layout import ModelSpec, check_vector, check_weights
from shared.secagg import MaskedUpload, Member, MemberLimits, OpenRound, RunGuard, build_vector
from shared.secagg.errors import SlotClosed
from shared.trust.manifest import VerifiedManifest
from shared.trust.session import noise_terms, round_config, round_layout, session_terms

SUM_SLACK = 1e-9
"""What adding up charges may be off by; far less than any charge."""

_log = structlog.get_logger("runs")


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
        self.learner = learner
        self._id = verified.manifest.run_id
        self._group = verified.manifest.group_of(own.index)
        self._roster_size = roster_size
        self._limits = self._limits_of(policy, pinned)
        stored = own.vault.guard(self._id)
        self._guard = RunGuard.load(stored) if stored else RunGuard(self._id)
        self._member = self._load()
        self._witnesses = WitnessFile(own.witnesses, self._id)
        self._told = ToldRounds(own.witnesses, self._id)

    def _limits_of(self, policy: Policy, pinned: frozenset[int]) -> MemberLimits:
        return MemberLimits(
            n_min=policy.min_cohort,
            max_colluders=policy.colluders(self._roster_size),
            pinned=pinned,
            min_known_peers=policy.min_known_peers,
            burnt_rounds=policy.burnt_rounds,
        )

    def hold_to(self, policy: Policy, pinned: frozenset[int]) -> None:
        """Go on under the policy and the pins as they are now, from the next round."""
        self._policy = policy
        self._limits = self._limits_of(policy, pinned)
        if self._member is not None:
            self._member.hold_to(self._limits)

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
        former, self._member = self._member, member
        self._save()
        if former is not None and former is not member:
            former.wipe()
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

    def masked(self, request: bytes, model: NDArray[np.float32], policy: Policy) -> MaskedUpload:
        """Train on ``model`` and answer with the masked vector.

        What can fail here does not depend on this member's records.

        Args:
            request: the coordinator's signed request.
            model: float32[P], which came with it.
            policy: as it is now.

        Raises:
            NoSession: there are no secrets here to mask with.
            VerificationError: the round asks for something outside the manifest, or brings a
                model that no training makes.
            PolicyRefused: the round would spend more than the privacy budget.
            SecaggError: the request is refused.
        """
        member, manifest = self._open_member(), self.verified.manifest
        check_weights(check_vector(ModelSpec.decode(manifest.model_spec), model))
        opened = member.open_round(request, np.ascontiguousarray(model).data.cast("B"))
        self._check_round(opened)
        if opened.already_answered:
            return self._same_upload(member)
        self._told.opened(request)
        upload = member.mask(self._vector(opened, model, policy))
        self._save(upload.vector.tobytes())
        return upload

    def _check_round(self, opened: OpenRound) -> None:
        manifest = self.verified.manifest
        if not 1 <= opened.round <= manifest.rounds:
            raise VerificationError("the round is outside the run's manifest")
        if opened.round == 1 and opened.model_sha256 != manifest.initial_model:
            raise VerificationError("the first round's model is not the manifest's")
        if opened.config != round_config(manifest, opened.round):
            raise VerificationError("the round's training config is not the manifest's")
        if opened.words != round_layout(manifest, opened.round).words:
            raise VerificationError("the round's vector is not laid out as the manifest says")

    def _vector(
        self, opened: OpenRound, model: NDArray[np.float32], policy: Policy
    ) -> NDArray[np.uint64]:
        manifest = self.verified.manifest
        evaluates = manifest.evaluates_in(opened.round)
        affordable = self._charge(opened, policy)
        own = Contribution(self.learner, manifest, policy.threads)
        session = session_terms(self.verified, bytes(16), 1, self._group)
        vector = build_vector(
            own.update(model, secrets.randbits(63)),
            own.weight(),
            session.quantiser,
            own.evaluation(model, affordable=affordable) if evaluates else None,
            noise_terms(manifest, policy.min_holdout_rows) if evaluates else None,
        )
        for part, code in own.withheld:
            self._note_withheld(opened.round, part, code)
        return vector

    def _note_withheld(self, number: int, part: str, code: str) -> None:
        """Tell this member's own people that a vector carries less than it could."""
        _log.warning("nothing of this member's in the round", part=part, code=code)
        body = {"run_id": self._id.hex(), "round": number, "part": part, "code": code}
        self._own.store.audit.append("round.withheld", body)

    def _charge(self, opened: OpenRound, policy: Policy) -> bool:
        """Write down what this slot's vector costs, before anything is trained for it.

        A slot's vector leaves at most once, whatever crashes, so a slot is charged once; a retry
        takes another slot and is charged again.

        Returns:
            Whether the evaluation may be told, if one is due: runs that overlap were each agreed to
            by what others had spent until then, so the budget is looked at again here.

        Raises:
            PolicyRefused: the round would spend more than the privacy budget.
        """
        manifest, ledger = self.verified.manifest, self._own.store.ledger
        slot = f"{self._open_member().terms.ordinal}.{opened.slot}"
        due: dict[ChargeKind, Charge] = {"training": training_charge(manifest)}
        affordable = manifest.evaluates_in(opened.round) and self._affords_evaluation(slot, policy)
        if affordable:
            due["evaluation"] = evaluation_charge(manifest)
        if manifest.private and not ledger.has(self._id.hex(), slot):
            total = epsilon_of([*ledger.charges(), *due.values()], policy.privacy_delta)
            if total > policy.privacy_budget:
                raise refusal("privacy_budget")
        for kind, charge in due.items():
            ledger.charge(self._id.hex(), opened.round, slot, kind, charge)
        return affordable

    def _affords_evaluation(self, slot: str, policy: Policy) -> bool:
        rows = [row for row in self._own.store.ledger.entries() if row.kind == "evaluation"]
        if any((row.run_id, row.slot) == (self._id.hex(), slot) for row in rows):
            return True
        total = sum(row.amount for row in rows) + evaluation_charge(self.verified.manifest).amount
        return total <= policy.evaluation_epsilon_budget + SUM_SLACK

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

    def forget(self) -> None:
        """Wipe what is in memory: another object goes on with what is on disk."""
        if self._member is not None:
            self._member.wipe()

    def end(self) -> None:
        """Wipe every secret of the run."""
        self.forget()
        self._own.vault.end(self._id)
