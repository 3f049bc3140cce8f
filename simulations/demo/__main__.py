"""`python -m simulations.demo`: what `make demo` runs."""

from __future__ import annotations

import simulations.demo.environment  # noqa: F401 - before numpy and flwr are loaded

# isort: split
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from shared.console import run_app, say
from shared.errors import BadInput
from simulations.demo import report, terminal
from simulations.demo.listings import Size, listing_demo
from simulations.demo.processes import Processes
from simulations.demo.shops import shop_demo
from simulations.demo.stage import Stage

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    report_path: Annotated[Path, typer.Option("--report", help="Where to write the HTML report.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the real shops; else synthetic data.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Deals of the real shops.")] = 3,
    rounds: Annotated[int, typer.Option(min=6, help="Training rounds.")] = 10,
    listings_per_week: Annotated[
        int, typer.Option(min=10, help="Synthetic listings a member sees in a week.")
    ] = Size.listings_per_week,
    keep: Annotated[
        Path | None, typer.Option(help="Keep all state in this new folder, to look into.")
    ] = None,
) -> None:
    """Found an alliance of real processes, train, release, deploy, score, and report."""
    report_path = report_path.resolve()
    if not report_path.parent.is_dir():
        raise BadInput(f"the folder {report_path.parent} does not exist", hint="make it first")
    stage = Stage()
    with _interruptible(), _folder(keep) as folder, Processes(folder) as processes:
        if data is None:
            size = Size(rounds=rounds, listings_per_week=listings_per_week)
            listings = listing_demo(stage, processes, folder, size)
            report.write_listings(report_path, listings, stage.seconds)
            terminal.tell_listings(listings, stage.seconds)
        else:
            shops = shop_demo(stage, processes, folder, data.resolve(), seeds=seeds, rounds=rounds)
            report.write_shops(report_path, shops, stage.seconds)
            terminal.tell_shops(shops, stage.seconds)
            shops.check()
    say(f"\ntook {sum(stage.seconds.values()):.0f} s; report: {report_path}")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Make a private folder; it is removed at the end unless it is to be kept."""
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="touchstone-demo-"))
    else:
        folder = keep.resolve()
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError as error:
            raise BadInput(f"{keep} exists already", hint="choose a new folder") from error
    before, tempfile.tempdir = tempfile.tempdir, str(folder)  # torch leaves a cache there
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the signals that end a process into Ctrl-C, once, so that everything is cleared up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:  # nothing more may disturb the clearing up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    code = run_app(app, "simulations.demo")
    sys.stdout.flush()
    # After an interrupt, threads may still wait for children that are gone: do not join them.
    os._exit(code) if code else sys.exit(code)
