"""What a command prints arrives as it was written, and nothing in it is obeyed."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import click
import pytest
import typer
from rich.table import Table

from coordinator.cli.main import app as coordinator_app
from participant.cli.main import app as participant_app
from shared import console
from shared.errors import Exit, PolicyRefused

FINGERPRINT = "87:AB:E7:ab:7B"
HOSTILE = "fine\x1b[2K\x1b[1G\x1b[8m\x9b2K\r\u202e[/x][red]"
SHOWN = "fine�[2K�[1G�[8m�2K��[/x][red]"

BOTH = pytest.mark.parametrize(
    "app", [coordinator_app, participant_app], ids=["coordinator", "member"]
)


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_fingerprint_is_printed_to_the_letter(stream, capsys) -> None:
    if stream == "out":
        console.emit({}, as_json=False, text=FINGERPRINT)
    else:
        console.say(FINGERPRINT)
    assert getattr(capsys.readouterr(), stream) == FINGERPRINT + "\n"


@BOTH
def test_both_commands_say_their_version(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchstone", "--version"])
    assert console.run_app(app, "touchstone") == 0
    assert capsys.readouterr().out == f"touchstone {version('touchstone')}\n"


def test_no_control_character_reaches_a_terminal_and_markup_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "_force_terminal", True)
    console.say(HOSTILE)
    assert capsys.readouterr().err == SHOWN + "\n"
    console.emit({}, as_json=False, text=HOSTILE)
    assert capsys.readouterr().out == SHOWN + "\n"
    table = Table("purpose", box=None)
    table.add_row(HOSTILE)
    console.out.print(table)
    assert SHOWN in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["touchstone"])
    console._report(PolicyRefused("no", HOSTILE, hint=HOSTILE))
    assert capsys.readouterr().err == f"error: {SHOWN}\nhint: {SHOWN}\n"


def test_json_says_it_all_and_holds_no_control_character(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = {"purpose": HOSTILE + "\U000e0001é"}
    console.emit(data, as_json=True)
    line = capsys.readouterr().out
    assert json.loads(line)["data"] == data
    assert line[:-1].isprintable()
    assert "é" in line


def test_a_piped_table_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("one", "two", "three", box=None)
    table.add_row(*("2026-01-01T00:00:00Z " * 3 for _ in range(3)))
    console.out.print(table)
    header, row = capsys.readouterr().out.splitlines()
    assert row.count("2026-01-01T00:00:00Z") == 9
    assert "…" not in header + row


class Broken(Exception):
    pass


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def work(as_json: bool = console.JsonFlag) -> None:
        raise error

    return app


ERRORS = [
    (FileNotFoundError(2, "No such file or directory", "/x/y"), Exit.CONFIG, "system"),
    (Broken("a secret in a message"), Exit.BUG, "internal"),
    (click.UsageError("Not like this."), Exit.USAGE, "usage"),
    (click.FileError("f", "Is a directory"), Exit.USAGE, "usage"),
    (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted"),
    (PolicyRefused("no_data", "not today"), Exit.POLICY, "policy_refused"),
]


@pytest.mark.parametrize(("error", "code", "name"), ERRORS, ids=[name for _, _, name in ERRORS])
@pytest.mark.parametrize("words", [(), ("--debug",), ("--json",)])
def test_every_kind_of_error_is_told_in_one_way(
    error: BaseException,
    code: Exit,
    name: str,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchstone", *words])
    assert console.run_app(failing(error), "touchstone") == code
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert ("Traceback" in printed.err) == ("--debug" in words and name != "interrupted")
    if "--debug" not in words:
        assert "secret" not in printed.err
    if "--json" in words:
        envelope = json.loads(printed.out)
        assert (envelope["schema_version"], envelope["status"]) == (1, "error")
        assert envelope["error"]["code"] == name
        assert "secret" not in printed.out
    else:
        assert printed.out == ""


@BOTH
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run", "list", "--bogus"), "no such option '--bogus'"),
        (("run", "bogus"), "no such command 'bogus'"),
        (("run", "list", "--dir"), "option '--dir' requires an argument"),
    ],
)
def test_a_wrong_word_is_an_error_with_a_hint_and_an_object(
    app: typer.Typer,
    words: tuple[str, ...],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchstone", *words])
    assert console.run_app(app, "touchstone") == Exit.USAGE
    text = capsys.readouterr()
    first, hint = text.err.splitlines()
    assert first.startswith(f"error: {why}")
    assert hint.startswith("hint: `touchstone ")
    assert text.out == ""
    argv = [words[0], "--json", *words[1:]] if words[-1] == "--dir" else [*words, "--json"]
    monkeypatch.setattr(sys, "argv", ["touchstone", *argv])
    assert console.run_app(app, "touchstone") == Exit.USAGE
    envelope: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert envelope["error"]["code"] == "usage"


@BOTH
def test_no_words_at_all_are_answered_with_the_help(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchstone"])
    assert console.run_app(app, "touchstone") == Exit.USAGE
    printed = capsys.readouterr()
    assert "Usage: touchstone" in printed.out + printed.err
    assert "error:" not in printed.err
