"""`up` and `serve` asked to stop while they still start: a stop, not a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alliance import found_alliance
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
WORK = {"up": "_run", "serve": "_serve"}

SET_UP = """
import errno, os, signal, sys
import {side}.cli.main, {side}.cli.{verb}, shared.service
from shared.errors import StorageError

command = sys.modules["{side}.cli.{verb}"]

def stopped(*_):
    os.kill(os.getpid(), signal.SIGTERM)

def telling(say):
    told = []

    def tell(text):
        say(text)
        if not told:
            stopped()
        told.append(text)

    return tell
"""

BEFORE_IT_LOOKS_AT_THE_DISK = "shared.service.when_disk_allows = stopped"

WHILE_IT_IMPORTS = "command.{work} = stopped"

BETWEEN_TWO_ATTEMPTS = """
def ended_by_the_disk(folder):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as an event loop leaves it
    raise StorageError("the disk is full") from OSError(errno.ENOSPC, "full")

command.{work} = ended_by_the_disk
shared.service.say = telling(shared.service.say)
"""

WHEN_IT_SAYS_THAT_IT_RUNS = "command.say = telling(command.say)"


def ended(side: str, verb: str, folder: Path, moment: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is sent SIGTERM at a moment of its start."""
    code = SET_UP.format(side=side, verb=verb) + moment.format(work=WORK[verb])
    code += f"\nsys.exit({side}.cli.main.main())\n"
    return subprocess.run(
        [sys.executable, "-c", code, verb, "--dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        pytest.param(BEFORE_IT_LOOKS_AT_THE_DISK, "", id="before it looks at the disk"),
        pytest.param(WHILE_IT_IMPORTS, "", id="while it imports"),
        pytest.param(BETWEEN_TWO_ATTEMPTS, "the disk is full", id="between two attempts"),
        pytest.param(WHEN_IT_SAYS_THAT_IT_RUNS, "Test alliance", id="when it says that it runs"),
    ],
)
@pytest.mark.parametrize(("side", "verb"), [("participant", "up"), ("coordinator", "serve")])
def test_a_stop_while_it_starts_is_not_a_failure(
    tmp_path: Path, side: str, verb: str, moment: str, said: str
) -> None:
    alliance = found_alliance(tmp_path, ["a"])
    folder = alliance.dir_of("a") if side == "participant" else alliance.coordinator_dir
    done = ended(side, verb, folder, moment)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert "error" not in done.stderr
