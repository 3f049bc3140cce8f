"""A command whose messages go to a terminal, which somebody reads along."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading

from tests.support.forked import ROOT
from tests.support.waiting import PATIENCE_S


class Terminal:
    """A process with a pseudo-terminal as stderr; what it says there is read as it comes."""

    def __init__(self, *arguments: str) -> None:
        self._seen = b""
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
        self._child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, handle: int) -> None:
        with open(handle, "rb", buffering=0) as terminal:
            try:
                while piece := terminal.read(4096):
                    self._seen += piece
            except OSError:
                return  # Linux: the last process has closed its end

    @property
    def seen(self) -> str:
        """What was to be read on the terminal so far."""
        return self._seen.decode("utf-8", "replace")

    def ended(self) -> tuple[int, str]:
        """Return exit code and stdout when it has ended."""
        data, _ = self._child.communicate(timeout=PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self._child.returncode, data.decode()

    def kill(self) -> None:
        """End it, if it has not."""
        self._child.kill()
        self._child.wait()
