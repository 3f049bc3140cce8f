"""Kills a deploying process at every point where it touches the disk; prints what was left.

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

from participant.deployment.active import active_model
from participant.store import Store
from shared.clock import FixedClock
from tests.support.deployment import Deployer, records, sets_of
from tests.support.release import AT

MOST_POINTS = 400


def deploy(folder: Path, release_id: bytes) -> str:
    """Deploy the installed release and return the decision."""
    deployer = Deployer(folder, clock=FixedClock(AT), sets=sets_of(records(120)))
    return deployer.deploy(release_id, None).decision


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


def after_a_kill(source: Path, release_id: bytes, point: int) -> dict[str, Any] | None:
    """Return what runs after a kill at ``point`` and after deploying again; None past the end."""
    folder = source.with_name(f"killed-{point}")
    shutil.copytree(source, folder)
    child = os.fork()
    if child == 0:
        kill_at(point)
        deploy(folder, release_id)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return None
    left = active_model(folder)
    decision = deploy(folder, release_id)
    now = active_model(folder)
    store = Store.open(folder)
    store.audit.verify()
    rows = [row.action for row in store.deployments.history() if row.release_id == release_id.hex()]
    store.close()
    return {
        "point": point,
        "left": left.release_id if left else None,
        "decision": decision,
        "now": now.release_id if now else None,
        "activations": rows.count("activate"),
    }


def main() -> None:
    """Kill at every point, print one JSON list."""
    torch.set_num_threads(1)
    source, release_id = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    outcomes = []
    for point in range(1, MOST_POINTS):
        outcome = after_a_kill(source, release_id, point)
        if outcome is None:
            break
        outcomes.append(outcome)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
