"""Every rule of the policy held against one run, for the member's own people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from participant.node.approvals import Approval
from participant.node.asked import approvals_of, find_known
from participant.node.consent import RULES, Facts
from participant.node.facts import facts_for
from participant.node.learner import NO_DATA, DataFacts, StoreLearner
from participant.node.policy import POLICY_FILE, Policy, load_policy
from participant.node.reasons import REASONS, Reason, told_to_coordinator
from participant.store import Store
from shared.errors import PolicyRefused, VerificationError
from shared.fleet.refusals import NOT_YET
from shared.model.layout import ModelSpec
from shared.trust.manifest import RunManifest, VerifiedManifest

OUTSIDE_RULES = frozenset({"manifest_changed", "too_many_runs", "round_already_released"})
"""Reasons that follow from what this node remembers, not from a rule about its manifest."""


@dataclass(frozen=True)
class Verdict:
    """What one rule says.

    Attributes:
        rule: its name.
        wanted: what the policy wants, in words.
        found: what the run asks for or the node has, in words.
        reason: empty if the rule agrees, else why not.
        told: the code the coordinator is told in that case.
        text: the reason in words.
        remedy: what can be done here.
    """

    rule: str
    wanted: str
    found: str
    reason: str = ""
    told: str = ""
    text: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Answer:
    """One answer that was given to the coordinator, from the audit log.

    Attributes:
        at: when.
        decision: ``accepted``, ``pending`` or ``refused``.
        reason: code of why not; empty if accepted.
        told: the code that the coordinator was told.
        text: the reason in words.
        remedy: what can be done here.
    """

    at: str
    decision: str
    reason: str
    told: str
    text: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Explanation:
    """A run as this member sees it.

    Attributes:
        run_id: in hex.
        verified: its manifest; None if it was not kept, as too many runs were open.
        verdicts: one a rule, in the order in which they are asked; none without a manifest.
        answers: what was answered so far, oldest first.
        approval: what a person here said, if anything.
        expired: whether the manifest has expired.
    """

    run_id: str
    verified: VerifiedManifest | None
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...]
    approval: Approval | None
    expired: bool

    @property
    def objections(self) -> tuple[Verdict, ...]:
        """The rules that say no; the first is the one that is told."""
        return tuple(item for item in self.verdicts if item.reason)

    @property
    def outside_rules(self) -> Answer | None:
        """The last answer, if it is a refusal that no rule asked now would repeat, and stands."""
        last = self.answers[-1] if self.answers else None
        if last is None or last.decision != "refused":
            return None
        return last if last.reason in OUTSIDE_RULES or self.verified is None else None

    @property
    def refused(self) -> bool:
        """Whether the node, asked now, would say no, and not only for now."""
        objects = any(item.reason not in NOT_YET for item in self.objections)
        return objects or self.outside_rules is not None


def judge(policy: Policy, manifest: RunManifest, facts: Facts) -> tuple[Verdict, ...]:
    """Ask every rule, also after one that says no."""
    return tuple(
        _verdict(rule.name, rule.wanted(policy, facts), rule.found(manifest, facts), objection)
        for rule in RULES
        for objection in [_objection(rule.check, policy, manifest, facts)]
    )


def _objection(check: Any, policy: Policy, manifest: RunManifest, facts: Facts) -> str:
    try:
        check(policy, manifest, facts)
    except PolicyRefused as error:
        return error.reason
    return ""


def _verdict(rule: str, wanted: str, found: str, reason: str) -> Verdict:
    if not reason:
        return Verdict(rule, wanted, found)
    why = REASONS[reason]
    return Verdict(rule, wanted, found, reason, told_to_coordinator(reason), why.text, why.remedy)


def explain_run(state_dir: Path, store: Store, run: str, now: datetime) -> Explanation:
    """Explain one run this node was asked to join, on the records that training would read.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        run: the run's id, or the first digits of one.
        now: current time.

    Raises:
        NotFound: this node was not asked, or more than one run begins so.
        ConfigError: there is no valid policy.
    """
    approvals = approvals_of(state_dir)
    verified = approvals.manifest(find_known(approvals, store, run))
    known = NO_DATA if verified is None else _known(store, verified.manifest)
    return judge_run(state_dir, store, run, known, now)


def _known(store: Store, manifest: RunManifest) -> DataFacts:
    try:
        spec = ModelSpec.decode(manifest.model_spec)
    except VerificationError:  # no model of this software's: a rule says so
        return NO_DATA
    return StoreLearner(store, manifest.kind, spec).facts()


def judge_run(
    state_dir: Path, store: Store, run: str, known: DataFacts, now: datetime
) -> Explanation:
    """Explain one run with the data as it is ``known``; see :func:`explain_run`."""
    approvals = approvals_of(state_dir)
    run_id = find_known(approvals, store, run)
    verified, answers = approvals.manifest(run_id), answers_to(store, run_id)
    if verified is None:
        return Explanation(run_id.hex(), None, (), answers, None, expired=False)
    manifest, said = verified.manifest, approvals.said(verified)
    policy = load_policy(state_dir / POLICY_FILE)
    facts = facts_for(
        state_dir, store, manifest, known, said=said, now=now, privacy_delta=policy.privacy_delta
    )
    return Explanation(
        run_id=run_id.hex(),
        verified=verified,
        verdicts=judge(policy, manifest, facts),
        answers=answers,
        approval=approvals.decision(verified),
        expired=manifest.expires_at <= now,
    )


def answers_to(store: Store, run_id: bytes) -> tuple[Answer, ...]:
    """Return what this node answered to a run, from its audit log, oldest first."""
    return tuple(
        _answer(event.at, event.body)
        for event in store.audit.events()
        if event.kind == "run.answered" and event.body.get("run_id") == run_id.hex()
    )


_NO_REASON = Reason("")


def _answer(at: str, body: Mapping[str, Any]) -> Answer:
    reason = str(body.get("reason_code", ""))
    why = REASONS.get(reason, _NO_REASON)
    told = str(body.get("told", reason))
    return Answer(at, str(body["decision"]), reason, told, why.text, why.remedy)
