"""A person's word on one run, and the runs that wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from participant.node.approvals import Approval
from participant.node.asked import approvals_of, find_run
from participant.node.consent import Said
from participant.store import Store
from shared.errors import BadInput, StateError, VerificationError
from shared.limits import MAX_REASON
from shared.trust.manifest import VerifiedManifest


@dataclass(frozen=True)
class AskedRun:
    """A run this node was asked to join.

    Attributes:
        run_id: in hex.
        verified: its manifest; None if it was not kept, as too many runs were open.
        answer: what the node answered last: ``accepted``, ``pending``, ``refused``; empty if a
            crash came before the answer.
        reason: the reason code of that answer.
        said: what a person here said.
        expired: whether the manifest has expired.
    """

    run_id: str
    verified: VerifiedManifest | None
    answer: str
    reason: str
    said: Said
    expired: bool

    @property
    def waits(self) -> bool:
        """Whether it waits for a person."""
        return self.answer == "pending" and not self.said and not self.expired


def asked_runs(state_dir: Path, store: Store, now: datetime) -> list[AskedRun]:
    """Return every run this node was asked to join, oldest first; last, those without manifest."""
    approvals, found = approvals_of(state_dir), []
    answers = {row.run_id: row for row in store.consents.entries()}
    for verified in approvals.runs():
        kept = answers.pop(verified.manifest.run_id.hex(), None)
        found.append(
            AskedRun(
                run_id=verified.manifest.run_id.hex(),
                verified=verified,
                answer=kept.decision if kept else "",
                reason=kept.reason_code if kept else "",
                said=approvals.said(verified),
                expired=verified.manifest.expires_at <= now,
            )
        )
    left = answers.values()
    return found + [AskedRun(a.run_id, None, a.decision, a.reason_code, "", False) for a in left]


def approve(
    state_dir: Path,
    store: Store,
    run: str,
    now: datetime,
    *,
    manifest: str = "",
    dry_run: bool = False,
) -> tuple[VerifiedManifest, bool]:
    """Let the node take part in one run, under exactly the manifest it was asked with.

    Works while the node runs: it looks before every answer.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        run: the run's id, or the first digits of one.
        now: current time.
        manifest: SHA-256 in hex that the manifest must have; empty takes the one that is here.
        dry_run: check everything, write nothing.

    Returns:
        The manifest, and whether anything changed, or would change.

    Raises:
        NotFound: the node was not asked.
        StateError: the manifest has expired.
        VerificationError: the manifest has another hash than ``manifest``.
    """
    verified = _open_run(state_dir, run, now)
    if manifest and manifest.lower() != verified.hash.hex():
        raise VerificationError("the run's manifest has another hash than the one named")
    if approvals_of(state_dir).said(verified) == "approved":
        return verified, False
    if not dry_run:
        store.audit.append("run.approved", _body(verified, ""))
        _decide(state_dir, verified, "approved", "", now)
    return verified, True


def refuse(
    state_dir: Path,
    store: Store,
    run: str,
    now: datetime,
    *,
    reason: str = "",
    dry_run: bool = False,
) -> tuple[VerifiedManifest, bool]:
    """Keep the node out of one run; one that it is in already ends for it at the next round.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        run: the run's id, or the first digits of one.
        now: current time.
        reason: in the person's words; stays here.
        dry_run: check everything, write nothing.

    Returns:
        The manifest, and whether anything changed, or would change.

    Raises:
        BadInput: the reason is too long.
        NotFound: the node was not asked.
        StateError: the manifest has expired.
    """
    if len(reason) > MAX_REASON:
        raise BadInput(f"a reason has at most {MAX_REASON} characters")
    verified = _open_run(state_dir, run, now)
    kept = approvals_of(state_dir).decision(verified)
    if kept and (kept.said, kept.reason) == ("refused", reason):
        return verified, False
    if not dry_run:
        store.audit.append("run.declined", _body(verified, reason))
        _decide(state_dir, verified, "refused", reason, now)
    return verified, True


def _open_run(state_dir: Path, run: str, now: datetime) -> VerifiedManifest:
    verified = find_run(approvals_of(state_dir), run)
    if verified.manifest.expires_at <= now:
        raise StateError("the run's manifest has expired", hint="ask the operator for another run")
    return verified


def _body(verified: VerifiedManifest, reason: str) -> dict[str, str]:
    return {
        "run_id": verified.manifest.run_id.hex(),
        "manifest_sha256": verified.hash.hex(),
        "reason": reason,
    }


def _decide(
    state_dir: Path, verified: VerifiedManifest, said: Said, reason: str, now: datetime
) -> None:
    # The audit event was written before: nothing takes effect that is not in the log.
    approvals_of(state_dir).decide(
        Approval(verified.manifest.run_id, verified.hash, said, reason, now)
    )
