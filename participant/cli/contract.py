"""`data check`: the data contract, for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared.console import JsonFlag, emit, err
from shared.errors import Exit

if TYPE_CHECKING:  # polars and the store: the other commands need not wait for them
    from participant.contract import ContractReport
    from participant.contract.service import Progress as Tell

DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


class TableChoice(StrEnum):
    """What may train, for the command line."""

    LISTINGS = "listings"
    SHOPS = "shops"


KindOption = typer.Option(
    None, "--kind", help="What to check; shops if nothing else is stored, else listings."
)


def register(data_app: typer.Typer) -> None:
    """Add the verb to the noun `data`."""
    data_app.command("check")(check)


def check(
    kind: TableChoice | None = KindOption, folder: Path = DirOption, as_json: bool = JsonFlag
) -> int:
    """Check the data contract anew; exit code 1 when it fails, so that no run may train on it."""
    from participant.contract import check_records, table_of
    from participant.store import Store

    store = Store.open(folder, create=False)
    table = kind.value if kind else table_of(store)
    with _progress() as tell:
        report = check_records(store, table, tell)
    emit(report.as_dict(), as_json=as_json, text="\n".join(_lines(report)))
    return Exit.OK if report.holds else Exit.FAILED


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show which part is at work, on stderr, while there is a person to see it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda part, done, total: bar.update(
            task, description=part, completed=done, total=total
        )


def _lines(report: ContractReport) -> Iterator[str]:
    for name, part in report.parts.items():
        yield f"{name}"
        yield from (f"  {key}: {_told(value)}" for key, value in part.figures.items())
        yield from (f"  {one.level}: {one.text}" for one in part.findings)
    warnings = sum(one.level == "warn" for one in report.findings)
    failures = len(report.findings) - warnings
    state = "holds" if report.holds else "fails: no run trains on these records"
    yield f"the data contract of the {report.kind} {state} ({failures} failed, {warnings} warnings)"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
