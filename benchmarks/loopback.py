"""What benchmarks with real processes on this machine have in common."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path


def free_port() -> int:
    """Return a port that, with its successor, was free a moment ago."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return int(port)


def wait(true: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("the run did not end in time")
        time.sleep(0.1)


def memory(pid: int | str, field: str) -> int:
    """Return ``VmRSS`` or ``VmHWM`` of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the kernel does not tell {field}")


def forget_peak(pid: int | str) -> None:
    """Let ``VmHWM`` of a process begin again at what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
