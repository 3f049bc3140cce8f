"""What the two commands share: JSON envelope, errors with hints, documented exit codes.

Data goes to stdout; messages, progress and errors go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click
import typer
from rich.console import Console

from shared.errors import Exit, PolicyRefused, TouchstoneError

# Without emoji=False, rich prints the ":AB:" in a fingerprint as a picture.
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
out = Console(highlight=False, soft_wrap=True, emoji=False)

JsonFlag = typer.Option(False, "--json", help="Print one JSON object instead of text.")


def say(text: str) -> None:
    """Tell the person something, on stderr."""
    err.print(text, markup=False)


def emit(data: dict[str, Any], *, as_json: bool, text: str | Callable[[], None] = "") -> None:
    """Print a command's result: the JSON envelope, or a text (or a function that prints it)."""
    if as_json:
        envelope = {"schema_version": 1, "status": "ok", "data": data}
        sys.stdout.write(json.dumps(envelope, ensure_ascii=False) + "\n")
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
    if "--json" in sys.argv:
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if isinstance(error, PolicyRefused):
            body["reason"] = error.reason
        envelope = {"schema_version": 1, "status": "error", "error": body}
        sys.stdout.write(json.dumps(envelope, ensure_ascii=False) + "\n")
    err.print(f"error: {error.message}", markup=False)
    if error.hint:
        err.print(f"hint: {error.hint}", markup=False)


def run_app(app: typer.Typer, name: str) -> int:
    """Run a typer application and return the documented exit code."""
    debug = "--debug" in sys.argv or bool(os.environ.get("TOUCHSTONE_DEBUG"))
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
    try:
        result = app(prog_name=name, standalone_mode=False)
    except TouchstoneError as error:
        _report(error)
        if debug:
            traceback.print_exc()
        return int(error.exit_code)
    except click.exceptions.Abort:
        err.print("interrupted", markup=False)
        return int(Exit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return int(Exit.USAGE)
    except KeyboardInterrupt:
        err.print("interrupted", markup=False)
        return int(Exit.INTERRUPTED)
    except OSError as error:
        err.print(f"error: {error.strerror or error}", markup=False)
        if error.filename:
            err.print(f"hint: the path was {error.filename}", markup=False)
        if debug:
            traceback.print_exc()
        return int(Exit.CONFIG)
    except Exception as error:  # noqa: BLE001 - the last line of defence of a process
        err.print(f"error: unexpected {type(error).__name__}; this is a bug", markup=False)
        err.print("hint: run again with --debug to see where", markup=False)
        if debug:
            traceback.print_exc()
        return int(Exit.BUG)
    return int(result) if isinstance(result, int) else int(Exit.OK)
