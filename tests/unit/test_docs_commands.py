"""What the documents tell people to type exists: make targets, commands, options, tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from coordinator.cli.main import app as coordinator_app
from participant.cli.main import app as participant_app
from tests.support.docs import ROOT, blocks, code, documents, name_of

COMMANDS = {
    "touchstone-coordinator": typer.main.get_command(coordinator_app),
    "touchstone-participant": typer.main.get_command(participant_app),
}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+)\s*[?:]?=", MAKEFILE, re.MULTILINE))
GENERATED = {"cli.md"}  # usage lines with [OPTIONS], made from the commands themselves

each = pytest.mark.parametrize(
    "path", [path for path in documents() if path.name not in GENERATED], ids=name_of
)


def _wrong_make(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    variables = {word.partition("=")[0] for word in words if "=" in word}
    return sorted({w for w in words if "=" not in w} - TARGETS) + sorted(variables - VARIABLES)


def _wrong_command(line: str, *, complete: bool) -> list[str]:
    """Return what is wrong with a command line; ``complete`` demands its required options."""
    words = shlex.split(line.partition(" > ")[0].removesuffix(" &"), comments=True)
    command: click.Command = COMMANDS[words[0]]
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            break
        if rest[0] not in command.commands:
            return [f"no command {rest[0]}"]
        command, rest = command.commands[rest[0]], rest[1:]
    if hasattr(command, "commands"):
        return ["no verb"] if complete and rest != ["--help"] else []
    options = {name: p for p in command.params for name in p.opts if isinstance(p, click.Option)}
    given, arguments = set(), 0
    while rest:
        word, rest = rest[0], rest[1:]
        if not word.startswith("--"):
            arguments += 1
        elif word not in options and word not in ("--help", "--debug"):
            return [f"no option {word}"]
        elif word in options:
            given.add(word)
            rest = rest if options[word].is_flag else rest[1:]
    taken = [p for p in command.params if isinstance(p, click.Argument)]
    if arguments > len(taken) and all(p.nargs == 1 for p in taken):
        return ["too many arguments"]
    if not complete:
        return []
    missing = [name for name, p in options.items() if p.required and name not in given]
    needed = sum(p.required for p in taken)
    return missing + (["too few arguments"] if arguments < needed else [])


@each
def test_make_targets_and_variables_exist(path: Path) -> None:
    lines = [line for line in code(path.read_text("utf-8")) if re.match(r"make( |$)", line)]
    assert {line: wrong for line in lines if (wrong := _wrong_make(line))} == {}


@each
def test_commands_and_options_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    typed = {line.strip() for block in blocks(text) for line in block.split("\n")}
    lines = [line for line in code(text) if line.split(" ")[0] in COMMANDS and " " in line]
    wrong = {line: _wrong_command(line, complete=line in typed) for line in lines}
    assert {line: what for line, what in wrong.items() if what} == {}


def test_the_checks_find_what_they_look_for() -> None:
    assert _wrong_make("make demo DATA=x") == []
    assert _wrong_make("make dance STEPS=2") == ["dance", "STEPS"]
    line = "touchstone-coordinator run start --dir d"
    assert _wrong_command(line, complete=True) == []
    assert _wrong_command(f"{line} --speed 2", complete=True) == ["no option --speed"]
    assert _wrong_command("touchstone-participant up", complete=True) == ["--dir"]
    assert _wrong_command("touchstone-participant fly", complete=False) == ["no command fly"]


def test_the_threat_model_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "explanation" / "threat-model.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    files = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert files
    assert all((ROOT / file).exists() for file in files)
    source = "\n".join((ROOT / file).read_text("utf-8") for file in files)
    assert named
    assert named <= set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
