"""What is done with the long-lived processes on a small disk, inside its namespace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.small_disk import ROOT, SmallDisk
from tests.support.waiting import PATIENCE_S, wait_until


class Service:
    """``up`` or ``serve`` as its command runs it; what it says goes to a file elsewhere."""

    def __init__(self, side: str, verb: str, folder: Path, log: Path) -> None:
        self._log = log
        # As the unit files have it: what is temporary lies on the same disk.
        environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as sink:
            self.child = subprocess.Popen(
                [sys.executable, "-m", side, verb, "--dir", str(folder)],
                cwd=ROOT,
                env=environment,
                stdout=sink,
                stderr=sink,
            )

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.said() or self.child.poll() is not None)
        assert self.child.poll() is None, self.said()

    def said(self) -> str:
        return self._log.read_text()

    def end(self, number: int) -> int:
        self.child.send_signal(number)
        return self.child.wait(PATIENCE_S)


def waits(side: str, verb: str, source: str, logs: str, ready: str) -> dict[str, Any]:
    """Start a service on a full disk, make room, kill it, fill the disk, start it and stop it."""
    disk = SmallDisk(8 * 1024 * 1024)
    folder = disk.path / "state"
    shutil.copytree(source, folder)
    disk.fill()
    first = Service(side, verb, folder, Path(logs, f"{verb}-1.txt"))
    first.wait_for("the disk is full")
    time.sleep(0.2)
    assert first.child.poll() is None, "it waits"
    disk.empty()
    first.wait_for(ready)
    disk.fill()
    died = first.end(signal.SIGKILL)
    again = Service(side, verb, folder, Path(logs, f"{verb}-2.txt"))
    again.wait_for("the disk is full")
    stopped = again.end(signal.SIGTERM)
    disk.empty()
    third = Service(side, verb, folder, Path(logs, f"{verb}-3.txt"))
    third.wait_for(ready)
    disk.fill()
    # The log's first line on the full disk is lost without a word; then it still stops well.
    ended = third.end(signal.SIGTERM)
    disk.leave()
    services = (first, again, third)
    return {"codes": [died, stopped, ended], "said": [one.said() for one in services]}


FUNCTIONS = {"waits": waits}
