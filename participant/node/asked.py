"""Finds a run among those this node was asked to join; needs none of the tools that train."""

from __future__ import annotations

from pathlib import Path

from participant.node.approvals import Approvals
from participant.node.config import NodeConfig
from participant.node.run_ids import resolve
from participant.store import Store
from shared.errors import NotFound
from shared.trust.manifest import VerifiedManifest


def approvals_of(state_dir: Path) -> Approvals:
    """Return the approvals of a joined folder."""
    config = NodeConfig.load(state_dir)
    return Approvals(state_dir, bytes.fromhex(config.alliance.coordinator_public_key))


def find_known(approvals: Approvals, store: Store, text: str) -> bytes:
    """Return the id of a run this node was asked to join or has answered, manifest kept or not.

    A manifest is not kept when too many runs are open; the answer is in the audit log all the same.

    Raises:
        BadInput: it is not hexadecimal.
        NotFound: no such run, or more than one, begins so.
    """
    answered = {bytes.fromhex(row.run_id) for row in store.consents.entries()}
    known = answered | {run.manifest.run_id for run in approvals.runs()}
    run_id = resolve(text, known)
    if run_id not in known:
        raise _unknown()
    return run_id


def _unknown() -> NotFound:
    return NotFound(
        "this node was not asked to join that run",
        hint="`touchstone-participant run list` shows the runs it was asked to join",
    )


def find_run(approvals: Approvals, text: str) -> VerifiedManifest:
    """Return the manifest of the run that ``text`` begins the id of.

    Raises:
        BadInput: it is not hexadecimal.
        NotFound: no run this node was asked to join, or more than one, begins so.
    """
    known = (run.manifest.run_id for run in approvals.runs())
    found = approvals.manifest(resolve(text, known))
    if found is None:
        raise _unknown()
    return found
