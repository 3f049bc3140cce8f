"""How `run list`, `run pending` and `run explain` look, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from shared.clock import rfc3339
from shared.console import out
from shared.trust.manifest import VerifiedManifest

if TYPE_CHECKING:
    from participant.node.decide import AskedRun
    from participant.node.explain import Explanation


def manifest_data(verified: VerifiedManifest) -> dict[str, Any]:
    """Return what a run asks for."""
    manifest, sums = verified.manifest, verified.manifest.secure_sum
    return {
        "run_id": manifest.run_id.hex(),
        "manifest_sha256": verified.hash.hex(),
        "purpose": manifest.purpose,
        "kind": manifest.kind,
        "rounds": manifest.rounds,
        "created_at": rfc3339(manifest.created_at),
        "expires_at": rfc3339(manifest.expires_at),
        "roster_epoch": manifest.roster_epoch,
        "members": [member.member_id for member in manifest.members],
        "n_min": sums.n_min,
        "threshold": sums.threshold,
        "max_colluders": sums.max_colluders,
        "evaluation": asdict(manifest.evaluation),
        "training": asdict(manifest.training),
    }


def manifest_lines(verified: VerifiedManifest) -> list[str]:
    """Return what a run asks for, in a few lines."""
    data = manifest_data(verified)
    return [
        f"run {data['run_id']}: {data['purpose']}, {data['kind']} records, {data['rounds']} rounds",
        f"manifest {data['manifest_sha256']}, until {data['expires_at']}",
        f"members ({len(data['members'])}): {', '.join(data['members'])}",
        f"sums over {data['n_min']} or more of them, safe against {data['max_colluders']} who side "
        "with the coordinator",
    ]


def asked_data(run: AskedRun) -> dict[str, Any]:
    """Return one line of `run list`."""
    manifest = run.verified.manifest
    return {
        "run_id": manifest.run_id.hex(),
        "manifest_sha256": run.verified.hash.hex(),
        "purpose": manifest.purpose,
        "created_at": rfc3339(manifest.created_at),
        "expires_at": rfc3339(manifest.expires_at),
        "expired": run.expired,
        "answer": run.answer,
        "reason_code": run.reason,
        "said": run.said,
    }


def print_asked(runs: list[AskedRun]) -> None:
    """Print a table of runs."""
    table = Table("run", "purpose", "until", "answered", "a person said", box=None)
    for run in runs:
        manifest = run.verified.manifest
        until = "expired" if run.expired else rfc3339(manifest.expires_at)
        answer = f"{run.answer} ({run.reason})" if run.reason else run.answer or "–"
        table.add_row(manifest.run_id.hex()[:8], manifest.purpose, until, answer, run.said or "–")
    out.print(table)


def explanation_data(found: Explanation) -> dict[str, Any]:
    """Return a whole explanation."""
    said = found.approval
    return {
        "run": manifest_data(found.verified),
        "expired": found.expired,
        "said": None
        if said is None
        else {"said": said.said, "reason": said.reason, "at": rfc3339(said.at)},
        "rules": [asdict(item) for item in found.verdicts],
        "answers": [asdict(item) for item in found.answers],
    }


def print_explanation(found: Explanation) -> None:
    """Print a whole explanation."""
    for line in manifest_lines(found.verified):
        out.print(line, markup=False)
    table = Table("rule", "the policy wants", "the run, or this node", "says", box=None)
    for item in found.verdicts:
        table.add_row(item.rule, item.wanted, item.found, item.reason or "yes")
    out.print(table)
    for given in found.answers:
        told = f", told {given.told}" if given.told != given.reason else ""
        reason = f" ({given.reason}{told})" if given.reason else ""
        out.print(f"answered {given.at}: {given.decision}{reason}", markup=False)
    if found.approval is not None:
        said = found.approval
        reason = f": {said.reason}" if said.reason else ""
        out.print(f"a person {said.said} it {rfc3339(said.at)}{reason}", markup=False)
    for item in found.objections:
        remedy = f"; {item.remedy}" if item.remedy else ""
        out.print(f"{item.reason}: {item.text}{remedy}", markup=False)
    out.print(ending(found), markup=False)


def ending(found: Explanation) -> str:
    """Return what the node would answer now, in one line."""
    if found.expired:
        return "the manifest has expired: nothing can be asked for in this run any more"
    if not found.objections:
        return "asked now, this node would take part"
    first = found.objections[0]
    told = f", and tell {first.told}" if first.told != first.reason else ""
    return f"asked now, this node would say no: {first.reason}{told}"
