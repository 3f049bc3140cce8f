"""The long-lived processes, started as processes and ended when the test is over."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.forked import Forked
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A child whose stderr goes to a file."""

    def __init__(self, verb: str, folder: Path, log: Path) -> None:
        self.log = log
        log.touch()
        self.child = Forked("tests.support.fleet_process", [verb, "--dir", str(folder)], log)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self.said(text) or self.child.poll() is not None)
        assert self.said(text), self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.child.wait(PATIENCE_S)


Start = Callable[[str, Path], Process]


@contextmanager
def starting(tmp_path: Path) -> Iterator[Start]:
    """Yield what starts ``serve`` or ``up`` on a folder; what still runs afterwards is killed."""
    processes: list[Process] = []

    def start(verb: str, folder: Path) -> Process:
        process = Process(verb, folder, tmp_path / f"{len(processes)}-{verb}.txt")
        processes.append(process)
        return process

    try:
        yield start
    finally:
        for process in processes:
            if process.child.poll() is None:
                process.end(signal.SIGKILL)
