"""What there is to show about a member's models: installed releases, what runs, decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from participant.deployment.active import MODELS, verify_release
from participant.deployment.fetch import RELEASES, installed_path
from participant.deployment.state import LOCAL_ID, ActiveState, read_state
from participant.store import Store
from shared.clock import from_unix, rfc3339
from shared.errors import BadInput, NotFound, VerificationError
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.bundle_manifest import BundleManifest

_HEX = frozenset("0123456789abcdef")


def resolve(state_dir: Path, text: str) -> bytes:
    """Return the id of the release that ``text`` means.

    Args:
        state_dir: the member's state folder.
        text: 32 hex digits, or the first digits of exactly one installed release.

    Raises:
        BadInput: it is not hex.
        NotFound: fewer digits that no installed release, or more than one, begins with.
    """
    prefix = text.lower()
    if not prefix or not set(prefix) <= _HEX or len(prefix) > 32:
        raise BadInput(f"{text[:40]!r} is not a release id", hint="`model list` shows them")
    if len(prefix) == 32:
        return bytes.fromhex(prefix)
    found = [name for name in installed(state_dir) if name.startswith(prefix)]
    if len(found) != 1:
        many = "more than one release" if found else "no release"
        raise NotFound(
            f"there is {many} on this machine whose id begins with {prefix!r}",
            hint="give all 32 digits to fetch one from the coordinator",
        )
    return bytes.fromhex(found[0])


def installed(state_dir: Path) -> list[str]:
    """Return the ids of the releases on this machine, in hex."""
    folder = state_dir / MODELS / RELEASES
    return sorted(path.name for path in folder.glob("*") if len(path.name) == 32)


def models(state_dir: Path) -> list[dict[str, Any]]:
    """Return one row for each model on this machine, releases in their order."""
    state = read_state(state_dir / MODELS)
    rows = [_release_row(state_dir, name, state) for name in installed(state_dir)]
    rows.sort(key=lambda row: row["sequence"])
    active = state.active
    if active is not None and active.release_id == LOCAL_ID:
        rows.append({**_row(LOCAL_ID, state), "sequence": 0, "kind": active.kind})
    return rows


def _row(release_id: str, state: ActiveState) -> dict[str, Any]:
    active = state.active is not None and state.active.release_id == release_id
    before = any(one.release_id == release_id for one in state.previous)
    status = "active" if active else ("previous" if before else "installed")
    return {"release_id": release_id, "status": status}


def _release_row(state_dir: Path, name: str, state: ActiveState) -> dict[str, Any]:
    try:
        data = (installed_path(state_dir, bytes.fromhex(name)) / FILE_NAME).read_bytes()
        bundle = verify_release(state_dir, data, bytes.fromhex(name))
    except (VerificationError, FileNotFoundError):
        return {"release_id": name, "status": "damaged", "sequence": 0, "kind": ""}
    manifest = bundle.manifest
    return {**_row(name, state), "sequence": manifest.sequence, "kind": manifest.kind}


def history(state_dir: Path) -> list[dict[str, Any]]:
    """Return every decision about a model, oldest first; empty before the first."""
    try:
        store = Store.open(state_dir, create=False)
    except NotFound:
        return []
    try:
        return [
            {
                "at": rfc3339(row.at),
                "release_id": row.release_id,
                "action": row.action,
                "reason": row.reason,
                "metrics": row.metrics,
            }
            for row in store.deployments.history()
        ]
    finally:
        store.close()


def verified(state_dir: Path, source: Path) -> VerifiedBundle:
    """Verify a bundle file or folder against the alliance this folder joined.

    Age is not judged here: a verified release may still be refused as a step back.

    Raises:
        VerificationError: it is not a release of this alliance, unaltered.
        NotFound: there is no such file.
        StateError: the folder has not joined an alliance.
    """
    return verify_release(state_dir, UnverifiedBundle.read(source))


def manifest_data(manifest: BundleManifest) -> dict[str, Any]:
    """Return a manifest as plain values."""
    return {
        "release_id": manifest.release_id.hex(),
        "sequence": manifest.sequence,
        "kind": manifest.kind,
        "run_id": manifest.run_id.hex(),
        "rounds": manifest.rounds,
        "created_at": rfc3339(from_unix(manifest.created_at)),
        "parent_release_id": manifest.parent_release_id.hex() or None,
        "epsilon": manifest.epsilon or None,
        "alliance_metrics": dict(manifest.metrics),
    }
