"""The two commands as child processes: run to the end, kept in the background, always cleared up.

Every child leads a process group of its own, so that a Ctrl-C meant for the demonstration does not
reach it half-way through a step, and so that killing it takes along whatever it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import StateError, TimedOut, TouchstoneError
from simulations.demo.environment import ONE_THREAD

Command = Literal["coordinator", "participant"]

COMMAND_S = 180.0
"""No step of the demonstration takes a tenth of this on an idle machine."""

STOP_S = 8.0
"""For a process to say goodbye before it is killed."""

TAIL_LINES = 12


class StepFailed(TouchstoneError):
    """A process of the demonstration ended as it should not."""

    code = "demo_step_failed"


@dataclass(frozen=True)
class Background:
    """A long-lived process and the file its output goes to."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.child.poll() is None

    def said(self, text: str) -> bool:
        """Tell whether the process has printed ``text``."""
        return text.encode() in self.log.read_bytes()

    def kill(self) -> None:
        """End the whole group at once, as ``kill -9`` does."""
        _signal_group(self.child, signal.SIGKILL)
        self.child.wait()

    def stop(self) -> None:
        """Ask the process to end, and kill its group if it does not."""
        _end([self.child])

    def failure(self) -> StepFailed:
        """Return the error to raise when this process has ended by itself."""
        code = self.child.poll()
        return StepFailed(
            f"{self.name} ended unexpectedly with exit code {code}", hint=_tail(self.log)
        )


class Processes:
    """All children of one demonstration; a context manager that leaves none behind.

    Args:
        folder: where output of the children goes; also their working directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Processes:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every child."""
        self.close()

    def run(
        self, command: Command, *arguments: str | Path, allowed: Collection[int] = (0,)
    ) -> dict[str, Any]:
        """Run a command with ``--json`` and return what is in its envelope.

        Raises:
            StepFailed: its exit code is not one of ``allowed``; the hint shows what it said.
            TimedOut: it took longer than :data:`COMMAND_S`.
        """
        shown = _shown(command, arguments)
        child = self._spawn(command, (*arguments, "--json"), subprocess.PIPE, subprocess.PIPE)
        try:
            out, err = child.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"`{shown}` took longer than {COMMAND_S:.0f} s") from error
        if child.returncode not in allowed:
            said = "\n".join(err.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
            raise StepFailed(f"`{shown}` ended with exit code {child.returncode}", hint=said)
        with self._lock:
            self._children.remove(child)
        data: dict[str, Any] = json.loads(out)["data"]
        return data

    def start(self, name: str, command: Command, *arguments: str | Path) -> Background:
        """Start a long-lived process; its output goes to ``<name>.txt``."""
        log = self._folder / f"{name}.txt"
        with log.open("ab") as sink:
            child = self._spawn(command, arguments, sink, subprocess.STDOUT)
        return Background(name, child, log)

    def _spawn(
        self, command: Command, arguments: tuple[str | Path, ...], out: Any, err: Any
    ) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", command, *map(str, arguments)]
        with self._lock:
            if self._closed:
                raise StateError("the demonstration is being cleared up")
            child = subprocess.Popen(
                line,
                cwd=self._folder,
                env=_environment(self._folder),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            self._children.append(child)
        return child

    def close(self) -> None:
        """Ask every child to stop, then kill the groups of those that have not."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        _end(children)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        _signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
        _signal_group(child, signal.SIGKILL)
        child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    # The group outlives its leader while a grandchild is alive.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _environment(folder: Path) -> dict[str, str]:
    """Return this environment without what would change how the two commands behave.

    Libraries leave caches where temporary files go; here that is ``folder``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
    return {
        **kept,
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        **ONE_THREAD,
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),
    }


def _shown(command: Command, arguments: tuple[str | Path, ...]) -> str:
    return " ".join((f"touchstone-{command}", *map(str, arguments)))


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
    return "its last words were\n" + "\n".join(lines or ["(none)"])
