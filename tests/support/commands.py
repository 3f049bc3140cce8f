"""The member's command in this process: what it prints, and the exit code it would end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from participant.cli.main import app
from shared.errors import TouchstoneError


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Run ``touchstone-participant WORDS --dir FOLDER``; return exit code and stdout."""
    result = CliRunner().invoke(app, [*words, "--dir", str(folder)])
    if isinstance(result.exception, TouchstoneError):
        return int(result.exception.exit_code), result.stdout
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def data(folder: Path, *words: str, exit_code: int | None = 0) -> dict[str, Any]:
    """Run a command with ``--json`` and return its data; ``None`` takes any exit code."""
    code, printed = run(folder, *words, "--json")
    assert exit_code in (None, code), printed
    found: dict[str, Any] = json.loads(printed)["data"]
    return found
