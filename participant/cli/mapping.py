"""`data mapping guess`: a first draft of a column mapping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from participant.cli.kinds import FileArgument, KindChoice, KindOption
from shared.console import JsonFlag, emit, say
from shared.errors import Exit, StateError
from shared.files import write_atomic

if TYPE_CHECKING:  # polars: the other commands need not wait for it
    from participant.ingest.guess import Guess

mapping_app = typer.Typer(help="Say which column of an export is which.", no_args_is_help=True)
OutOption = typer.Option(None, "--out", help="Write the TOML to this new file, not to stdout.")


def register(data_app: typer.Typer) -> None:
    """Add the noun below `data`."""
    data_app.add_typer(mapping_app, name="mapping")


@mapping_app.command("guess")
def guess(
    file: Path = FileArgument,
    kind: KindChoice = KindOption,
    out: Path | None = OutOption,
    as_json: bool = JsonFlag,
) -> int:
    """Propose a mapping from names and values; exit code 9 if required columns are left to you."""
    from participant.ingest.guess import guess_mapping

    if out is not None and out.exists():
        raise StateError(f"{out.name} is there already", hint="choose another name for --out")
    found = guess_mapping(file, kind.value)
    if out is not None:
        write_atomic(out, found.text.encode())
    written = f"written: {out}" if out is not None else found.text.rstrip("\n")
    emit(found.as_dict(), as_json=as_json, text=written)
    _tell(found)
    return Exit.PARTIAL if found.missing else Exit.OK


def _tell(found: Guess) -> None:
    if found.shipped:
        say(f"note: `--mapping {found.shipped}`, which comes with touchstone, fits this file")
    if found.unsure:
        say(f"note: {len(found.unsure)} choices are left to you: {', '.join(found.unsure)}")
    if found.missing:
        say(f"note: required and not found: {', '.join(found.missing)}")
    if found.rejected:
        say(f"note: {found.rejected} of the first {found.rows} rows would be rejected")
