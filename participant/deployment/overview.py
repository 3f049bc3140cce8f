"""What there is to show about a member's models: installed releases, what runs, decisions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from participant.deployment.active import (
    MODELS,
    TRANSCRIPT_NAME,
    load_activation,
    verify_release,
    verify_transcript,
)
from participant.deployment.fetch import RELEASES, installed_path
from participant.deployment.floor import newest_ran, numbers
from participant.deployment.state import LOCAL_ID, Activation, ActiveState, read_state
from participant.store import Store
from shared.clock import from_unix, rfc3339
from shared.errors import BadInput, NotFound, VerificationError
from shared.model.bundle import UnverifiedBundle, VerifiedBundle
from shared.model.bundle_manifest import BundleManifest

_HEX = frozenset("0123456789abcdef")


def is_id(text: str) -> bool:
    """Tell whether ``text`` is a release's id or its first digits."""
    return 0 < len(text) <= 32 and set(text.lower()) <= _HEX


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
    if not is_id(prefix):
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
    """Return one row for each model on this machine or in use, releases in their order."""
    state = read_state(state_dir / MODELS)
    here = installed(state_dir)
    used = [one.release_id for one in (state.active, *state.previous) if one is not None]
    gone = [name for name in dict.fromkeys(used) if name not in (LOCAL_ID, *here)]
    rows = [_release_row(state_dir, name, state) for name in [*here, *gone]]
    rows.sort(key=lambda row: row["sequence"])
    if state.active is not None and state.active.release_id == LOCAL_ID:
        rows.append(_local_row(state_dir, state))
    last = {one["release_id"]: one for one in history(state_dir)}
    for row in rows:
        one = last.get(row["release_id"])
        row["why"] = None if one is None else {key: one[key] for key in ("at", "action", "reason")}
    return rows


def _row(release_id: str, state: ActiveState) -> dict[str, Any]:
    known = [one for one in (state.active, *state.previous) if one is not None]
    found = next((one for one in known if one.release_id == release_id), None)
    active = found is not None and found is state.active
    head = found.head if active and found is not None else None
    return {
        "release_id": release_id,
        "status": "active" if active else ("installed" if found is None else "previous"),
        "active": active,
        "pinned": active and state.pinned,
        "head": None if head is None else head.setting,
        "sequence": 0 if found is None else found.sequence,
        "kind": "" if found is None else found.kind,
    }


def _release_row(state_dir: Path, name: str, state: ActiveState) -> dict[str, Any]:
    row = _row(name, state)
    try:
        manifest = verified_release(state_dir, bytes.fromhex(name)).manifest
    except VerificationError:
        return {**row, "status": "damaged"}
    except NotFound:
        return {**row, "status": "missing"}
    return {**row, "sequence": manifest.sequence, "kind": manifest.kind}


def _local_row(state_dir: Path, state: ActiveState) -> dict[str, Any]:
    row = _row(LOCAL_ID, state)
    try:
        verified_active(state_dir)
    except VerificationError:
        return {**row, "status": "damaged"}
    except NotFound:
        return {**row, "status": "missing"}
    return row


@contextmanager
def _stored(state_dir: Path) -> Iterator[Store | None]:
    """Open the node's store for reading, if there is one."""
    try:
        store = Store.open(state_dir, create=False)
    except NotFound:
        yield None
        return
    try:
        yield store
    finally:
        store.close()


def history(state_dir: Path) -> list[dict[str, Any]]:
    """Return every decision about a model, oldest first; empty before the first."""
    with _stored(state_dir) as store:
        return [] if store is None else _decisions(store)


def _decisions(store: Store) -> list[dict[str, Any]]:
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


def kept_back(state_dir: Path) -> list[dict[str, Any]]:
    """Return the releases that were kept and could still be activated, by number, each with why."""
    state = read_state(state_dir / MODELS)
    with _stored(state_dir) as store:
        if store is None:
            return []
        sequences, newest = numbers(store), newest_ran(store, state).sequence
        last = {one["release_id"]: one for one in _decisions(store)}
    found = [
        {"sequence": sequences[name], **{key: one[key] for key in ("release_id", "at", "reason")}}
        for name, one in last.items()
        if one["action"] == "keep" and sequences.get(name, 0) > newest
    ]
    return sorted(found, key=lambda one: one["sequence"])


def is_newer(state_dir: Path, sequence: int) -> bool:
    """Tell whether a release's number is above that of every release that ever ran here."""
    try:
        state = read_state(state_dir / MODELS)
    except VerificationError:
        state = ActiveState()  # then the audit log alone tells
    with _stored(state_dir) as store:
        newest = state.highest_sequence if store is None else newest_ran(store, state).sequence
    return sequence > newest


def verified(state_dir: Path, source: Path, release_id: bytes | None = None) -> VerifiedBundle:
    """Verify a bundle file or folder against the alliance this folder joined.

    A folder's transcript is verified too, a bare file's is not there. Age is not judged here: a
    verified release may still be refused as a step back, see :func:`is_newer`.

    Raises:
        VerificationError: it is not a release of this alliance, unaltered.
        NotFound: there is no such file.
        StateError: the folder has not joined an alliance.
    """
    bundle = verify_release(state_dir, UnverifiedBundle.read(source), release_id)
    if source.is_dir():
        try:
            transcript = (source / TRANSCRIPT_NAME).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"there is no {TRANSCRIPT_NAME} beside the bundle",
                hint="fetch the release again, or name the bundle's file to verify it alone",
            ) from error
        verify_transcript(state_dir, bundle, transcript)
    return bundle


def verified_release(state_dir: Path, release_id: bytes) -> VerifiedBundle:
    """Verify a release on this machine, its transcript too; raises as :func:`verified`."""
    return verified(state_dir, installed_path(state_dir, release_id), release_id)


def verified_active(state_dir: Path) -> Activation:
    """Verify every file of what runs: active state, model, transcript and personal head.

    Raises:
        VerificationError: one of them is not what it was when it was activated.
        NotFound: nothing runs, or one of them is gone.
    """
    active = read_state(state_dir / MODELS).active
    if active is None:
        raise NotFound(
            "no model runs here yet",
            hint="`up` judges a run's release; that takes a moment",
        )
    load_activation(state_dir, active)
    return active


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
