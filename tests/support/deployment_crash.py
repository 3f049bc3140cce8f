"""Kills a process that changes what runs wherever it touches the disk; prints what was left.

``python -m tests.support.deployment_crash STATE_DIR RELEASE_ID`` works on a folder whose release
is installed already. A process of its own, because it forks: no test runner, no gRPC threads.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from participant.deployment.active import MODELS, active_model
from participant.deployment.head import HeadFile
from participant.deployment.state import read_state
from participant.store import Store
from shared.clock import FixedClock
from shared.errors import NotFound, VerificationError
from tests.support.deployment import Deployer, records, sets_of
from tests.support.release import AT

MOST_POINTS = 400
Action = Callable[[Path, bytes], str]


def deployer(folder: Path) -> Deployer:
    """Return what decides for a member whose own records make a personal head worth having."""
    return Deployer(folder, clock=FixedClock(AT), sets=sets_of(records(160, own=0.8)))


def deploy(folder: Path, release_id: bytes) -> str:
    """Deploy the installed release and return the decision."""
    return deployer(folder).deploy(release_id, None).decision


def activate(folder: Path, release_id: bytes) -> str:
    """Activate the installed release because a person asks, and return the decision."""
    return deployer(folder).activate(release_id, None).decision


def rollback(folder: Path, _release_id: bytes) -> str:
    """Roll back what :func:`deploy` did."""
    try:
        return deployer(folder).rollback().decision
    except NotFound:
        return "nothing_before"


def unpin(folder: Path, _release_id: bytes) -> str:
    """Give up the pin that :func:`pin` set, and return whether there was one."""
    new, _ = deployer(folder).unpin()
    return "unpinned" if new else "already_unpinned"


def pin(folder: Path, _release_id: bytes) -> str:
    """Pin what runs and return whether it was pinned before."""
    running = read_state(folder / MODELS).active
    new, _ = deployer(folder).pin(running.release_id if running else "")
    return "pinned" if new else "already_pinned"


def kill_at(point: int) -> None:
    """Let this process die by SIGKILL at the ``point``-th flush or rename from now on."""
    seen = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]
    Store.open = counted(Store.open)  # type: ignore[method-assign]
    Store.close = counted(Store.close)  # type: ignore[method-assign]


def after_a_kill(
    action: Action, source: Path, release_id: bytes, point: int
) -> dict[str, Any] | None:
    """Return what is there after a kill at ``point`` and after acting again; None past the end."""
    folder = source.with_name(f"killed-{action.__name__}-{point}")
    shutil.copytree(source, folder)
    child = os.fork()
    if child == 0:
        kill_at(point)
        action(folder, release_id)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return None
    left = standing(folder)
    decision = action(folder, release_id)
    store = Store.open(folder)
    store.audit.verify()
    rows = [row.action for row in store.deployments.history() if row.release_id == release_id.hex()]
    store.close()
    return {
        "point": point,
        "left": left,
        "decision": decision,
        "now": standing(folder),
        "activations": rows.count("activate"),
        "parts": [one.name for one in (folder / MODELS).rglob("*.part")],
    }


def standing(folder: Path) -> dict[str, Any]:
    """Return what runs in a folder, every file of it verified."""
    model, models = active_model(folder), folder / MODELS
    if model is None:
        raise AssertionError("the member was left without a model")
    # A head that no activation names may be left over; it is removed with the next one.
    return {
        "release": model.release_id,
        "head": model.head,
        "pinned": read_state(models).pinned,
        "half": [one.name for one in (models / "heads").glob("*.head") if not decodes(one)],
    }


def decodes(path: Path) -> bool:
    """Tell whether a head's file is whole."""
    try:
        HeadFile.decode(path.read_bytes())
    except VerificationError:
        return False
    return True


_ACTIONS: dict[Action, Action | None] = {
    deploy: None,
    activate: None,
    rollback: deploy,
    pin: None,
    unpin: pin,
}
"""What is killed, and what comes before it."""


def main() -> None:
    """Kill at every point of each action, print one JSON object."""
    torch.set_num_threads(1)
    source, release_id = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    outcomes: dict[str, list[dict[str, Any]]] = {}
    for action, first in _ACTIONS.items():
        found = outcomes[action.__name__] = []
        start = source
        if first is not None:
            start = source.with_name(f"before-{action.__name__}")
            shutil.copytree(source, start)
            first(start, release_id)
        for point in range(1, MOST_POINTS):
            outcome = after_a_kill(action, start, release_id, point)
            if outcome is None:
                break
            found.append(outcome)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
