"""Runs a function in processes of their own, each killed at another change of the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.waiting import PATIENCE_S

_SCRIPT = """
import importlib, json, os, signal, sys
root, module, function, *folders = sys.argv[1:]
sys.path[:0] = [root, os.path.join(root, "protos")]
target = getattr(importlib.import_module(module), function)

def run(folder, left):
    def counted(real):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*arguments, **options)
        return call
    for name in ("replace", "rename", "mkdir", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    target(folder)

statuses = []
for steps, folder in enumerate(folders):
    child = os.fork()
    if child == 0:
        run(folder, steps)
        os._exit(0)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


def killed_at_each_step(module: str, function: str, folders: Sequence[Path]) -> list[bool]:
    """Call ``module.function(folder)`` for each folder; kill -9 at disk change 0, 1, 2, …

    Returns:
        Which calls were killed; the others finished before their turn came.
    """
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, root, module, function, *map(str, folders)],
        check=False,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr.decode())
    statuses: list[int] = json.loads(done.stdout)
    if not set(statuses) <= {0, -9}:
        raise AssertionError(f"exit codes {statuses}: {done.stderr.decode()}")
    return [status == -9 for status in statuses]
