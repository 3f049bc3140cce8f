"""Flower's own runtimes as processes: a local SuperLink, SuperNodes, and `flwr run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def environment(home: Path) -> dict[str, str]:
    """Telemetry, update check and CUDA off; Flower's own files in ``home``."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


class Flower:
    """Processes of one SuperLink; every one of them ends with the test."""

    def __init__(self, home: Path, *, simulation: bool) -> None:
        self.home = home
        self.port = free_port()
        self.children: list[subprocess.Popen[bytes]] = []
        home.mkdir()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "test"\n\n'
            f'[superlink.test]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        flags = ["--simulation"] if simulation else []
        self.start(
            "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
            "--port", str(self.port), *flags,
        )  # fmt: skip

    def start(self, program: str, *arguments: str) -> None:
        log = self.home / f"{len(self.children)}-{program}.txt"
        with log.open("wb") as sink:
            child = subprocess.Popen(
                [str(BIN / program), *arguments], env=environment(self.home), cwd=self.home,
                stdout=sink, stderr=sink, start_new_session=True,
            )  # fmt: skip
        self.children.append(child)

    def supernode(self, state_dir: Path) -> None:
        self.start(
            "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{self.port}",
            "--port", str(free_port()), "--node-config", f'state-dir="{state_dir}"',
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "flwr"), "run", str(ROOT), "test", *arguments],
            env=environment(self.home), cwd=self.home, text=True, timeout=PATIENCE_S, check=False,
            capture_output=True,
        )  # fmt: skip

    def said(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.home.glob("*.txt")))

    def stop(self) -> None:
        for child in reversed(self.children):
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            child.wait()


@contextmanager
def flower(home: Path, *, simulation: bool) -> Iterator[Flower]:
    """A local SuperLink, and everything it starts, for the duration of a test."""
    link = Flower(home, simulation=simulation)
    try:
        yield link
    finally:
        link.stop()
