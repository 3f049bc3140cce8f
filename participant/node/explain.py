"""Every rule of the policy held against one run, for the member's own people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from participant.node.approvals import Approval
from participant.node.asked import approvals_of, find_run
from participant.node.consent import RULES, Facts
from participant.node.facts import facts_for
from participant.node.learner import DataFacts, StoreLearner
from participant.node.policy import POLICY_FILE, Policy, load_policy
from participant.node.reasons import REASONS, told_to_coordinator
from participant.store import Store
from shared.errors import PolicyRefused
from shared.model.layout import ModelSpec
from shared.trust.manifest import RunManifest, VerifiedManifest


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
    """One answer that was given to the coordinator, from the audit log."""

    at: str
    decision: str
    reason: str
    told: str


@dataclass(frozen=True)
class Explanation:
    """A run as this member sees it.

    Attributes:
        verified: its manifest.
        verdicts: one a rule, in the order in which they are asked.
        answers: what was answered so far, oldest first.
        approval: what a person here said, if anything.
        expired: whether the manifest has expired.
    """

    verified: VerifiedManifest
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...]
    approval: Approval | None
    expired: bool

    @property
    def objections(self) -> tuple[Verdict, ...]:
        """The rules that say no; the first is the one that is told."""
        return tuple(item for item in self.verdicts if item.reason)


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
    manifest = find_run(approvals_of(state_dir), run).manifest
    learner = StoreLearner(store, manifest.kind, ModelSpec.decode(manifest.model_spec))
    return judge_run(state_dir, store, run, learner.facts(), now)


def judge_run(
    state_dir: Path, store: Store, run: str, known: DataFacts, now: datetime
) -> Explanation:
    """Explain one run with the data as it is ``known``; see :func:`explain_run`."""
    approvals = approvals_of(state_dir)
    verified = find_run(approvals, run)
    manifest, said = verified.manifest, approvals.said(verified)
    policy = load_policy(state_dir / POLICY_FILE)
    facts = facts_for(
        state_dir, store, manifest, known, said=said, now=now, privacy_delta=policy.privacy_delta
    )
    return Explanation(
        verified=verified,
        verdicts=judge(policy, manifest, facts),
        answers=answers_to(store, manifest.run_id),
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


def _answer(at: str, body: Mapping[str, Any]) -> Answer:
    reason = str(body.get("reason_code", ""))
    return Answer(at, str(body["decision"]), reason, str(body.get("told", reason)))
