"""``touchstone-coordinator release``: list, show and verify what was released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.options import StateDir, opened
from coordinator.db import Database
from coordinator.db.records import Release
from coordinator.enrolment.files import load_signing_key
from coordinator.registry.check import CheckedRelease, check_release, resolve
from shared.clock import from_unix, rfc3339
from shared.console import JsonFlag, emit, out, say
from shared.errors import NotFound
from shared.model.bundle_manifest import BundleManifest

_SHORT = 12
"""Digits of an id in a table; commands take any unique beginning."""

releases = typer.Typer(help="Models released to the members.", no_args_is_help=True)

ReleaseId = Annotated[
    str, typer.Argument(help="The release's id, its first unique digits, or `latest`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(releases, name="release")


@releases.command("list")
def list_releases(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show every release, oldest first."""
    with opened(state_dir) as db:
        found = db.read("list_releases", lambda unit: unit.releases.all())
    rows = [_row(release) for release in found]
    emit({"releases": rows}, as_json=as_json, text=lambda: _print(rows))


@releases.command("show")
def show_release(release_id: ReleaseId, state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show one release's manifest."""
    with opened(state_dir) as db:
        release = _find(db, release_id)
    data = {**_row(release), **_manifest(BundleManifest.decode(release.manifest))}
    lines = [f"{name:<20}{_shown(value)}" for name, value in data.items()]
    emit(data, as_json=as_json, text="\n".join(lines))


@releases.command("verify")
def verify_release(
    state_dir: StateDir,
    release_id: Annotated[
        str, typer.Argument(help="One release as in `show`; all of them when left out.")
    ] = "",
    as_json: bool = JsonFlag,
) -> None:
    """Check signatures, digests and transcripts on disk; exit code 7 if any does not hold."""
    with opened(state_dir) as db:
        alliance = db.read("find_alliance", lambda unit: unit.alliance.get())
        everything = db.read("list_releases", lambda unit: unit.releases.all())
    chosen = [resolve(everything, release_id)] if release_id else everything
    if not chosen:
        raise NotFound("nothing has been released yet")
    key = load_signing_key(state_dir).public_key().public_bytes_raw()
    rows = [
        _checked(
            check_release(
                state_dir,
                release,
                coordinator_key=key,
                alliance_id=bytes.fromhex(alliance.id),
            )
        )
        for release in chosen
    ]
    text = "\n".join(
        f"verified: {row['release_id']}, {row['records']} round records" for row in rows
    )
    emit({"verified": rows}, as_json=as_json, text=text)


def _find(db: Database, release_id: str) -> Release:
    return resolve(db.read("list_releases", lambda unit: unit.releases.all()), release_id)


def _row(release: Release) -> dict[str, Any]:
    return {
        "release_id": release.release_id,
        "sequence": release.sequence,
        "run_id": release.run_id,
        "created_at": rfc3339(release.created_at),
        "path": str(Path(release.path)),
        "sha256": release.sha256,
    }


def _manifest(manifest: BundleManifest) -> dict[str, Any]:
    return {
        "alliance_id": manifest.alliance_id.hex(),
        "kind": manifest.kind,
        "rounds": manifest.rounds,
        "run_manifest_hash": manifest.run_manifest_hash.hex(),
        "feature_space_hash": manifest.feature_space_hash.hex(),
        "weights_sha256": manifest.weights_sha256.hex(),
        "transcript_head": manifest.transcript_head.hex(),
        "parent_release_id": manifest.parent_release_id.hex() or None,
        "epsilon": manifest.epsilon or None,
        "metrics": dict(manifest.metrics),
        "signed_at": rfc3339(from_unix(manifest.created_at)),
    }


def _checked(checked: CheckedRelease) -> dict[str, Any]:
    return {
        "release_id": checked.bundle.manifest.release_id.hex(),
        "n_params": checked.bundle.spec.n_params,
        "records": len(checked.transcript.records),
        "rounds_summed": checked.transcript.rounds_summed(),
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure}" for name, figure in value.items()) or "–"
    return "–" if value is None else str(value)


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        say("nothing has been released yet: a completed run ends in a release")
        return
    table = Table("number", "release", "run", "created", box=None)
    for row in rows:
        ids = (row["release_id"][:_SHORT], row["run_id"][:_SHORT])
        table.add_row(str(row["sequence"]), *ids, row["created_at"])
    out.print(table)
