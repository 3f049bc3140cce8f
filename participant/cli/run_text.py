"""How `run list`, `run pending` and `run explain` look, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from shared.clock import rfc3339
from shared.console import out
from shared.errors import VerificationError
from shared.model.layout import ModelSpec
from shared.trust.manifest import RunManifest, VerifiedManifest

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
        "model": _model(manifest),
        "record_privacy": _record_privacy(manifest),
    }


def _model(manifest: RunManifest) -> dict[str, Any] | None:
    try:
        return asdict(ModelSpec.decode(manifest.model_spec))
    except VerificationError:  # not one that this software knows
        return None


def _record_privacy(manifest: RunManifest) -> dict[str, float] | None:
    if not manifest.private:
        return None
    return {
        "epsilon": manifest.epsilon_floor_milli / 1000,
        "delta": manifest.privacy.delta,
        "steps": manifest.privacy.steps,
        "noise": manifest.privacy.noise,
        "count_noise": manifest.privacy.count_noise,
    }


def manifest_lines(verified: VerifiedManifest) -> list[str]:
    """Return what a run asks for, in a few lines."""
    data = manifest_data(verified)
    model, private = data["model"], data["record_privacy"]
    shape = f"{model['kind']}, 2^{model['hash_bits']} rows" if model else "not known here"
    noise = (
        f"single records protected: epsilon {private['epsilon']:g} at delta {private['delta']:g} "
        f"for the whole run, {private['steps']} noisy steps a round"
        if private
        else "single records not protected: no noise is added for them"
    )
    evaluation = data["evaluation"]
    return [
        f"run {data['run_id']}: {data['purpose']}, {data['kind']} records, {data['rounds']} rounds",
        f"manifest {data['manifest_sha256']}, until {data['expires_at']}",
        f"members ({len(data['members'])}): {', '.join(data['members'])}",
        f"sums over {data['n_min']} or more of them, safe against {data['max_colluders']} who side "
        "with the coordinator",
        f"model {shape}; members weigh {data['training']['weighting']}",
        noise,
        f"evaluated every {evaluation['every']} rounds and in the last, epsilon "
        f"{evaluation['epsilon_milli'] / 1000:g} each",
    ]


def asked_data(run: AskedRun) -> dict[str, Any]:
    """Return one line of `run list`."""
    asked = manifest_data(run.verified) if run.verified else {}
    shown = ("manifest_sha256", "purpose", "created_at", "expires_at")
    return {
        "run_id": run.run_id,
        **{name: asked.get(name) for name in shown},
        "expired": run.expired,
        "answer": run.answer,
        "reason_code": run.reason,
        "said": run.said,
    }


def print_asked(runs: list[AskedRun]) -> None:
    """Print a table of runs."""
    table = Table("run", "purpose", "until", "answered", "a person said", box=None)
    for run in runs:
        manifest = run.verified.manifest if run.verified else None
        until = "expired" if run.expired else rfc3339(manifest.expires_at) if manifest else "–"
        answer = f"{run.answer} ({run.reason})" if run.reason else run.answer or "–"
        purpose = manifest.purpose if manifest else "not kept"
        table.add_row(run.run_id[:8], purpose, until, answer, run.said or "–")
    out.print(table)


def explanation_data(found: Explanation) -> dict[str, Any]:
    """Return a whole explanation."""
    said = found.approval
    return {
        "run": manifest_data(found.verified) if found.verified else {"run_id": found.run_id},
        "expired": found.expired,
        "said": None
        if said is None
        else {"said": said.said, "reason": said.reason, "at": rfc3339(said.at)},
        "rules": [asdict(item) for item in found.verdicts],
        "answers": [asdict(item) for item in found.answers],
    }


def print_explanation(found: Explanation) -> None:
    """Print a whole explanation."""
    for line in manifest_lines(found.verified) if found.verified else [_not_kept(found)]:
        out.print(line, markup=False)
    if found.verdicts:
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
    for line in _reasons(found):
        out.print(line, markup=False)
    out.print(ending(found), markup=False)


def _not_kept(found: Explanation) -> str:
    return f"run {found.run_id}: its manifest was not kept, only what was answered"


def _reasons(found: Explanation) -> list[str]:
    """Return every reason in words, once: of the rules as they are now, and of past answers."""
    whys = {item.reason: (item.text, item.remedy) for item in found.objections}
    for given in found.answers:
        if given.reason:
            whys.setdefault(given.reason, (given.text, given.remedy))
    return [
        f"{code}: {text}{f'; {remedy}' if remedy else ''}" for code, (text, remedy) in whys.items()
    ]


def ending(found: Explanation) -> str:
    """Return what the node would answer now, in one line."""
    if found.expired:
        return "the manifest has expired: nothing can be asked for in this run any more"
    if (stands := found.outside_rules) is not None:
        return f"this node said no, and nothing has changed that: {stands.reason}"
    if not found.objections:
        return "asked now, this node would take part"
    first = found.objections[0]
    told = f", and tell {first.told}" if first.told != first.reason else ""
    return f"asked now, this node would say no: {first.reason}{told}"
