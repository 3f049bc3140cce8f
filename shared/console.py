"""What the two commands share: JSON envelope, errors with hints, documented exit codes.

Data goes to stdout; messages, progress and errors go to stderr.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
import typer

from shared.errors import (
    Exit,
    InternalError,
    Interrupted,
    PolicyRefused,
    SystemRefused,
    TouchstoneError,
    UsageMistake,
)
from shared.terminal import PlainConsole, to_json

err = PlainConsole(stderr=True)
out = PlainConsole()

JsonFlag = typer.Option(False, "--json", help="Print one JSON object instead of text.")


def say(text: str) -> None:
    """Tell the person something, on stderr."""
    err.print(text, markup=False)


def emit(data: dict[str, Any], *, as_json: bool, text: str | Callable[[], None] = "") -> None:
    """Print a command's result: the JSON envelope, or a text (or a function that prints it)."""
    if as_json:
        _write({"schema_version": 1, "status": "ok", "data": data})
    elif callable(text):
        text()
    elif text:
        out.print(text, markup=False)


def add_version(app: typer.Typer) -> None:
    """Give a command ``--version``, which prints the version of what is installed."""

    def show(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version  # seldom asked for, slow to import

            out.print(f"touchstone {version('touchstone')}", markup=False)
            raise typer.Exit

    option = typer.Option(
        False, "--version", is_eager=True, callback=show, help="Print the version and exit."
    )

    @app.callback()
    def _root(_version: bool = option) -> None:
        """Take options of the whole command."""


def _report(error: TouchstoneError) -> None:
    """Tell of an error, once as JSON where that was asked for and once for people."""
    if "--json" in sys.argv:
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if isinstance(error, PolicyRefused):
            body["reason"] = error.reason
        with suppress(OSError):  # whoever read standard output may be what went away
            _write({"schema_version": 1, "status": "error", "error": body})
    err.print(f"error: {error.message}")
    if error.hint:
        err.print(f"hint: {error.hint}")


def _write(envelope: dict[str, Any]) -> None:
    sys.stdout.write(to_json(envelope) + "\n")
    sys.stdout.flush()


def run_app(app: typer.Typer, name: str) -> int:
    """Run a typer application and return the documented exit code."""
    debug = "--debug" in sys.argv or bool(os.environ.get("TOUCHSTONE_DEBUG"))
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
    try:
        result = app(prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return int(Exit.USAGE)
    except BaseException as error:  # noqa: BLE001 - the last line of defence of a process
        typed = _typed(error, name)
        _report(typed)
        if debug:
            traceback.print_exc()
        return int(typed.exit_code)
    if result == Exit.INTERRUPTED:  # typer's answer to ^C
        _report(Interrupted("interrupted"))
    return int(result) if isinstance(result, int) else int(Exit.OK)


def _typed(error: BaseException, name: str) -> TouchstoneError:
    """Return the typed error that a person is told of ``error``."""
    if isinstance(error, TouchstoneError):
        return error
    if isinstance(error, click.ClickException):
        return _misused(error, name)
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, OSError):
        where = f"the path was {error.filename}" if error.filename else ""
        return SystemRefused(str(error.strerror or error), hint=where)
    return InternalError(
        f"unexpected {type(error).__name__}; this is a bug",
        hint="run again with --debug to see where",
    )


def _misused(error: click.ClickException, name: str) -> UsageMistake:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else name
    hint = f"`{command} --help` lists what it takes"
    return UsageMistake(text[:1].lower() + text[1:], hint=hint)
