"""`data import` and `data profile`; `data check` and `data mapping` lie beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from participant.cli import contract, mapping
from participant.cli.kinds import FileArgument, KindChoice, KindOption
from shared.console import JsonFlag, emit, err, out, say
from shared.errors import Exit

if TYPE_CHECKING:  # polars and the store: the other commands need not wait for them
    from participant.ingest import ImportReport
    from participant.ingest.profile import KindProfile
    from participant.ingest.service import Progress as Tell

data_app = typer.Typer(help="Bring in listings, complaints and verdicts.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")
MappingOption = typer.Option(
    None, "--mapping", help="A TOML file, or the name of a mapping that comes with touchstone."
)
DryRunOption = typer.Option(False, "--dry-run", help="Check everything, store nothing.")


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    contract.register(data_app)
    mapping.register(data_app)
    app.add_typer(data_app, name="data")


@data_app.command("import")
def import_command(
    file: Path = FileArgument,
    kind: KindChoice = KindOption,
    mapping_name: str | None = MappingOption,
    folder: Path = DirOption,
    dry_run: bool = DryRunOption,
    as_json: bool = JsonFlag,
) -> int:
    """Import a file; exit code 9 when some rows were rejected and the rest was kept."""
    from participant.ingest import import_file
    from participant.store import Store

    store = Store.open(folder)
    with _progress(file.name) as tell:
        report = import_file(store, file, kind.value, mapping_name, progress=tell, dry_run=dry_run)
    if report.ignored:
        say(f"note: {len(report.ignored)} columns are not in the mapping and were left out")
    emit(report.as_dict(), as_json=as_json, text=_import_text(report))
    return Exit.PARTIAL if report.rejected else Exit.OK


@data_app.command("profile")
def profile_command(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Show counts, gaps, labels and time span of what is stored."""
    from participant.ingest.profile import profile
    from participant.store import Store

    store = Store.open(folder, create=False)
    kinds = profile(store.records)
    emit(
        {kind.kind: kind.as_dict() for kind in kinds},
        as_json=as_json,
        text=lambda: _print_profile(kinds),
    )


def _import_text(report: ImportReport) -> str:
    if report.already_imported:
        return "already imported: nothing to do"
    lines = [
        f"{'would keep' if report.dry_run else 'kept'} {report.kept} of {report.rows} rows as "
        f"{report.kind}: {report.added} new, {report.updated} updated, "
        f"{report.unchanged} unchanged"
    ]
    if report.duplicates:
        lines.append(
            f"{report.duplicates} more are further rows of the same records: the youngest counts, "
            "of equal or unknown age the last"
        )
    if report.rejected:
        reasons = ", ".join(f"{n} {code}" for code, n in sorted(report.reasons.items()))
        lines.append(f"{report.rejected} rows rejected: {reasons}")
    if report.rejects_path:
        lines.append(f"rejects: {report.rejects_path}")
    return "\n".join(lines)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


@contextmanager
def _progress(name: str) -> Iterator[Tell]:
    """Show a bar on stderr while there is a person to see it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_profile(kinds: list[KindProfile]) -> None:
    counts = Table("kind", "records", "older versions", "orphans", "first", "last", box=None)
    for kind in kinds:
        counts.add_row(
            kind.kind,
            str(kind.records),
            str(kind.older_versions),
            str(kind.orphans),
            kind.first or "-",
            kind.last or "-",
        )
    out.print(counts)
    for kind in kinds:
        if kind.records:
            _print_kind(kind)


def _print_kind(kind: KindProfile) -> None:
    for name, words in kind.labels.items():
        told = ", ".join(f"{word} {n}" for word, n in words.items())
        out.print(f"\n{kind.kind}.{name}: {told}", markup=False)
    gaps = Table("column", "nulls", "share", box=None)
    for name, nulls in kind.nulls.items():
        if nulls:
            gaps.add_row(f"{kind.kind}.{name}", str(nulls), f"{nulls / kind.records:.1%}")
    if gaps.rows:
        out.print()
        out.print(gaps)
