"""``touchstone-participant model``: which model runs here, why, and how to change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from participant.cli.model_text import print_model, print_models, verified_text
from participant.cli.options import DryRun
from shared.console import JsonFlag, emit, say
from shared.errors import BadInput, StateError


def _node_folder(path: Path) -> Path:
    """Refuse a folder that is no node's: a mistyped one would be filled with an empty node."""
    if not any((path / name).exists() for name in ("node.toml", "store", "models")):
        raise StateError(
            f"{path} is not a node's folder",
            hint="check --dir; `join` or `data import` makes such a folder",
        )
    return path


StateDir = Annotated[
    Path,
    typer.Option(
        "--dir", help="The node's folder.", envvar="TOUCHSTONE_DIR", callback=_node_folder
    ),
]
Release = Annotated[
    str, typer.Argument(help="A release's id; of one on this machine its first digits.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is on this machine only.")]

models = typer.Typer(help="Releases and the model that scores.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(models, name="model")


@models.command("list")
def list_models(
    state_dir: StateDir,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask the coordinator what it has released.")
    ] = False,
    as_json: bool = JsonFlag,
) -> None:
    """Show the models on this machine, or the coordinator's catalogue."""
    from participant.deployment import overview
    from participant.node.registry_client import channel_factory, registry

    if remote:
        with registry(channel_factory(state_dir)) as client:
            here = set(overview.installed(state_dir))
            rows: list[dict[str, Any]] = [
                {
                    "release_id": line.release_id,
                    "sequence": line.sequence,
                    "status": "installed" if line.release_id in here else "remote",
                    "kind": "",
                    "active": False,
                    "pinned": False,
                    "head": None,
                    "why": None,
                }
                for line in client.releases()
            ]
    else:
        rows = overview.models(state_dir)
    emit({"models": rows}, as_json=as_json, text=lambda: print_models(rows))


@models.command("show")
def show(
    state_dir: StateDir,
    release: Annotated[str, typer.Argument(help="A release's id; what runs when left out.")] = "",
    as_json: bool = JsonFlag,
) -> None:
    """Show what runs and why, or one release on this machine, with every decision about it.

    With what runs, the newer releases that were kept back are named, each with its reason.
    """
    from participant.deployment import overview
    from participant.deployment.active import MODELS
    from participant.deployment.state import LOCAL_ID, read_state
    from shared.errors import NotFound

    state = read_state(state_dir / MODELS)
    active = state.active
    name = release or (active.release_id if active else "")
    if not name:
        raise NotFound(
            "no model runs here yet",
            hint="`up` judges a run's release; that takes a moment",
        )
    data: dict[str, Any] = {"release_id": name}
    if name != LOCAL_ID:
        release_id = overview.resolve(state_dir, name)
        data = overview.manifest_data(overview.verified_release(state_dir, release_id).manifest)
    data["active"] = active is not None and active.release_id == data["release_id"]
    if active is not None and data["active"]:
        data |= {"activated_at": active.at, "reason": active.reason}
        data["calibrated"] = active.calibration is not None
        data["head"] = None if active.head is None else active.head.setting
        data["pinned"] = state.pinned
        data["kept_back"] = overview.kept_back(state_dir)
    decisions = overview.history(state_dir)
    data["decisions"] = [one for one in decisions if one["release_id"] == data["release_id"]]
    emit(data, as_json=as_json, text=lambda: print_model(data))


@models.command("verify")
def verify(
    state_dir: StateDir,
    target: Annotated[
        str,
        typer.Argument(
            help="A bundle file, a folder that holds one, or the id of a release on this machine; "
            "every file of what runs when left out."
        ),
    ] = "",
    as_json: bool = JsonFlag,
) -> None:
    """Check signature, digests, feature space and transcript; exit code 7 if any does not hold.

    Of what runs, the active state and the personal head are checked too. A bundle file alone has
    no transcript to check. `newer` tells whether the release's number is above that of every
    release that ever ran here; an older one verifies too.
    """
    from participant.deployment import overview
    from participant.deployment.state import LOCAL_ID

    transcript = True
    if target:
        if Path(target).exists() or not overview.is_id(target):
            bundle = overview.verified(state_dir, Path(target))
            transcript = Path(target).is_dir()
        else:
            bundle = overview.verified_release(state_dir, overview.resolve(state_dir, target))
        data = overview.manifest_data(bundle.manifest)
    else:
        active = overview.verified_active(state_dir)
        transcript = active.release_id != LOCAL_ID
        head = None if active.head is None else active.head.setting
        data = {"release_id": active.release_id, "sequence": active.sequence, "head": head}
    data["transcript"] = "verified" if transcript else "not_checked"
    data["newer"] = overview.is_newer(state_dir, data["sequence"])
    emit({"result": "verified", **data}, as_json=as_json, text=verified_text(data))


@models.command("compare")
def compare(
    release: Release, state_dir: StateDir, offline: Offline = False, as_json: bool = JsonFlag
) -> None:
    """Hold a release against what runs and your own local-only model; changes nothing."""
    from participant.deployment import overview
    from participant.deployment.evidence import figures
    from participant.deployment.service import Deployer
    from participant.deployment.texts import comparison, explain

    release_id = overview.resolve(state_dir, release)
    _, judged = Deployer(state_dir).compare(release_id, _channel(state_dir, offline))
    found, verdict = figures(judged), judged.verdict
    data = {
        "release_id": release_id.hex(),
        "would_activate": verdict.accept,
        "reason": verdict.reason.value,
        **found,
    }
    lines = [*comparison(found), f"the rule would {'activate' if verdict.accept else 'keep'}: "]
    lines[-1] += explain(verdict.reason)
    emit(data, as_json=as_json, text="\n".join(lines))


@models.command("activate")
def activate(
    release: Annotated[
        str, typer.Argument(help="A release's id, or `local` for your own local-only model.")
    ],
    state_dir: StateDir,
    no_head: Annotated[
        bool, typer.Option("--no-head", help="Without a personal head, even if one helps.")
    ] = False,
    offline: Offline = False,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Let a newer release, or your own local-only model, run whatever the rule would say.

    The newest release that ever ran here may run again, which undoes a rollback. What runs already
    is repaired if a file of it is damaged or gone.
    """
    from participant.deployment import overview
    from participant.deployment.service import Deployer
    from participant.deployment.state import LOCAL_ID

    if dry_run:
        if release == LOCAL_ID:
            result, name = Deployer(state_dir).check_local(), LOCAL_ID
        else:
            release_id = overview.resolve(state_dir, release)
            result = Deployer(state_dir).check(release_id, _channel(state_dir, offline))
            name = release_id.hex()
        data = {"result": result, "release_id": name}
        emit(data, as_json=as_json, text=f"{result}: {name}")
        return
    if release == LOCAL_ID:
        outcome = Deployer(state_dir).activate_local()
    else:
        release_id = overview.resolve(state_dir, release)
        channel = _channel(state_dir, offline)
        outcome = Deployer(state_dir).activate(release_id, channel, personal=not no_head)
    _tell(outcome.decision, outcome, as_json=as_json)


@models.command("rollback")
def rollback(state_dir: StateDir, dry_run: DryRun = False, as_json: bool = JsonFlag) -> None:
    """Let the model that ran before run again; one that is damaged is passed over."""
    from participant.deployment.active import MODELS
    from participant.deployment.service import Deployer
    from participant.deployment.state import read_state
    from participant.deployment.step_back import step_back

    if dry_run:
        last, skipped = step_back(state_dir, read_state(state_dir / MODELS))
        _tell_skipped(skipped)
        data = {"result": "would_roll_back", "release_id": last.release_id, "skipped": skipped}
        emit(data, as_json=as_json, text=f"would_roll_back: to {last.release_id}")
        return
    outcome = Deployer(state_dir).rollback()
    _tell_skipped(outcome.skipped)
    _tell("rolled_back", outcome, as_json=as_json)


@models.command("pin")
def pin(
    state_dir: StateDir,
    release: Annotated[
        str, typer.Argument(help="What runs: a release's id or its first digits, or `local`.")
    ] = "",
    off: Annotated[bool, typer.Option("--off", help="Give the pin up.")] = False,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Keep what runs until a person changes it: no release activates by itself.

    Later releases are still fetched, verified and judged, and reported as kept.
    """
    from participant.deployment.active import MODELS
    from participant.deployment.service import Deployer
    from participant.deployment.state import pinnable, read_state

    if off == bool(release):
        raise BadInput("name the release that runs, or give --off", hint="`model show` names it")
    wish = "unpinned" if off else "pinned"
    if dry_run:
        state = read_state(state_dir / MODELS)
        if release:
            pinnable(state, release)
        result = f"already_{wish}" if state.pinned != off else f"would_be_{wish}"
        emit({"result": result}, as_json=as_json, text=result)
        return
    new, name = Deployer(state_dir).unpin() if off else Deployer(state_dir).pin(release)
    result = wish if new else f"already_{wish}"
    data = {"result": result, "release_id": name}
    emit(data, as_json=as_json, text=f"{result}: {name or 'nothing runs'}")


def _channel(state_dir: Path, offline: bool) -> Any:
    from participant.node.registry_client import channel_factory

    return None if offline else channel_factory(state_dir)


def _tell_skipped(skipped: tuple[str, ...]) -> None:
    for name in skipped:
        say(f"note: {name} is damaged or gone, and was passed over")


def _tell(result: str, outcome: Any, *, as_json: bool) -> None:
    from participant.deployment.texts import explain

    if not outcome.calibrated:
        say("note: the calibration split is too small or of one class: no bands are promised")
    data = {
        "result": result,
        "release_id": outcome.release_id,
        "reason": outcome.reason,
        "calibrated": outcome.calibrated,
        "head": outcome.head,
        "metrics": outcome.metrics,
        "skipped": outcome.skipped,
    }
    emit(data, as_json=as_json, text=f"{result}: {outcome.release_id} ({explain(outcome.reason)})")
