"""`up` and `serve` asked to stop while they still start: a stop, not a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alliance import found_alliance
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]

SIGNALLED = "lambda *_: os.kill(os.getpid(), signal.SIGTERM)"

BEFORE_IT_LOOKS_AT_THE_DISK = f"service.when_disk_allows = {SIGNALLED}"

AT_A_LATER_ATTEMPT = f"""
def attempts(folder, work, tell):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as an event loop leaves it
    work()

service.when_disk_allows = attempts
service.make_scratch = {SIGNALLED}
"""

WHEN_IT_SAYS_THAT_IT_RUNS = """
say = service.say

said = []

def tell(text):
    say(text)
    if not said:
        os.kill(os.getpid(), signal.SIGTERM)
    said.append(text)

service.say = tell
"""


def ended(side: str, verb: str, folder: Path, moment: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is sent SIGTERM at a moment of its start."""
    code = f"""
import os, signal, sys, {side}.cli.{verb}, {side}.cli.main
service = sys.modules["{side}.cli.{verb}"]
{moment}
sys.exit({side}.cli.main.main())
"""
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
        (BEFORE_IT_LOOKS_AT_THE_DISK, ""),
        (AT_A_LATER_ATTEMPT, ""),
        (WHEN_IT_SAYS_THAT_IT_RUNS, "Test alliance"),
    ],
    ids=["before it looks at the disk", "at a later attempt", "when it says that it runs"],
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
