"""`score`: a file of listings or shops in, risk and reasons out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.console import JsonFlag, emit, err
from shared.errors import BadInput, Exit

if TYPE_CHECKING:  # torch and scikit-learn take seconds: the other commands need not wait for them
    from participant.scoring.batch import Told
    from participant.scoring.service import ScoreReport

InArgument = typer.Argument(..., metavar="IN", help="CSV, TSV, JSON Lines or Parquet.")
OutOption = typer.Option(..., "--out", help="Where to write: .parquet, .csv or .jsonl.")
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")
MappingOption = typer.Option(
    None, "--mapping", help="A TOML file, or the name of a mapping that comes with touchstone."
)
AsOfOption = typer.Option(
    None, "--as-of", help="Judge as of this time, RFC 3339; now by default.", metavar="TIME"
)
TopOption = typer.Option(4, "--reasons", min=0, max=10, help="Most reasons a row.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    source: Path = InArgument,
    out: Path = OutOption,
    folder: Path = DirOption,
    mapping: str | None = MappingOption,
    as_of: str | None = AsOfOption,
    reasons: int = TopOption,
    as_json: bool = JsonFlag,
) -> int:
    """Score records with the active model; exit code 9 when some rows were rejected."""
    from participant.scoring.service import score_file

    moment = None if as_of is None else _moment(as_of)
    with _progress(source.name) as tell:
        report = score_file(
            folder, source, out, mapping=mapping, as_of=moment, top=reasons, progress=tell
        )
    emit(report.as_dict(), as_json=as_json, text=_text(report))
    return Exit.PARTIAL if report.rejected else Exit.OK


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(
            f"{text!r} is not a time", hint="write it as 2025-03-01T12:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise BadInput(f"{text!r} has no time zone", hint="end it in Z for UTC")
    return moment.astimezone(UTC)


def _text(report: ScoreReport) -> str:
    bands = ", ".join(f"{count} {name}" for name, count in report.bands.items())
    lines = [f"scored {report.rows} rows with model {report.release_id[:12]}: {bands}"]
    if report.rejects_path is not None:
        lines.append(f"{report.rejected} rows rejected: {report.rejects_path}")
    lines.append(f"scores: {report.out}")
    return "\n".join(lines)


@contextmanager
def _progress(name: str) -> Iterator[Told]:
    """Show a bar on stderr while there is a person to see it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task(f"scoring {name}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
