"""What a command prints arrives as it was written."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
import typer

from coordinator.cli.main import app as coordinator_app
from participant.cli.main import app as participant_app
from shared import console

FINGERPRINT = "87:AB:E7:ab:7B"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_fingerprint_is_printed_to_the_letter(stream, capsys) -> None:
    if stream == "out":
        console.emit({}, as_json=False, text=FINGERPRINT)
    else:
        console.say(FINGERPRINT)
    assert getattr(capsys.readouterr(), stream) == FINGERPRINT + "\n"


@pytest.mark.parametrize("app", [coordinator_app, participant_app], ids=["coordinator", "member"])
def test_both_commands_say_their_version(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchstone", "--version"])
    assert console.run_app(app, "touchstone") == 0
    assert capsys.readouterr().out == f"touchstone {version('touchstone')}\n"
