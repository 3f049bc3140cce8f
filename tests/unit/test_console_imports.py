"""Commands start at once: what is slow to import is imported by the command that needs it.

It is not speed alone: ``up`` sets how many threads numerical libraries use, which they read once,
when they are imported.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.docs import ROOT
from tests.support.waiting import PATIENCE_S

SLOW = ["flwr", "polars", "ray", "scipy", "sklearn", "torch"]

CODE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


@pytest.mark.parametrize(
    ("command", "names"),
    [("participant.cli.main", [*SLOW, "numpy"]), ("coordinator.cli.main", SLOW)],
    ids=["participant", "coordinator"],
)
def test_a_command_imports_nothing_slow(command: str, names: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, command, *names],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == []
