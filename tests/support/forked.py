"""Processes that start with everything imported: forked off a server that has done it once.

Flower, torch and polars take a core six seconds to import. A test that starts seven processes would
spend most of its time on that, and on a slow machine miss every limit. The server itself runs
nothing: what it forks off knows as little of the others as a process of its own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from shared.console import run_app
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.run_process", "tests.support.fleet_process"])


class Forked:
    """A child that runs the ``app`` of a module of these, as ``python -m`` would.

    Args:
        module: which one.
        arguments: of its command line.
        log: where its output goes, after what is there.
    """

    def __init__(self, module: str, arguments: list[str], log: Path) -> None:
        self._process = _context.Process(target=_run, args=(module, arguments, str(log)))
        self._process.start()

    def poll(self) -> int | None:
        """Return its exit code, less than nothing for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Return its exit code when it has ended."""
        self._process.join(timeout)
        code = self.poll()
        assert code is not None, "the process has not ended"
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.send_signal(signal.SIGKILL)


def _run(module: str, arguments: list[str], log: str) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(sink, number)
    os.chdir(ROOT)
    sys.argv = [module, *arguments]
    code = run_app(importlib.import_module(module).app, module)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
