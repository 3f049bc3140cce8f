"""`up` and `serve` on a disk that is full when they start: what no service manager restarts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.alliance import found_alliance
from tests.support.small_disk import on_small_disk, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


@pytest.mark.parametrize(
    ("side", "verb", "ready"),
    [("participant", "up", "is up"), ("coordinator", "serve", "serving 'Test alliance'")],
)
def test_a_service_waits_for_room_and_comes_back_after_a_kill(
    tmp_path: Path, side: str, verb: str, ready: str
) -> None:
    alliance = found_alliance(tmp_path, ["a"])
    source = alliance.dir_of("a") if side == "participant" else alliance.coordinator_dir
    arguments = {"source": str(source), "logs": str(tmp_path), "ready": ready}
    (told,) = on_small_disk(("waits", {"side": side, "verb": verb, **arguments}))
    # A status of 3 or 4 would keep the units' Restart= from starting it again.
    assert told["codes"] == [-signal.SIGKILL, 0, 0]
    for said in told["said"]:
        assert said.count("the disk is full") <= 1
        assert "Traceback" not in said
        assert "error" not in said
