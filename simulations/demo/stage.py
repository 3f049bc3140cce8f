"""What a person sees while the demonstration runs: one bar a phase, and the seconds it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from shared.console import err, say

T = TypeVar("T")

AT_ONCE = 2
"""Steps at a time: each is mostly the start of a Python process."""


class Bar:
    """One phase's progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def step(self, note: str = "") -> None:
        """Count one step as done."""
        self._progress.update(self._task, advance=1, note=note)

    def show(self, done: float, note: str = "") -> None:
        """Set how much is done."""
        self._progress.update(self._task, completed=done, note=note)


class Stage:
    """Progress bars on stderr and a stopwatch for each phase.

    Attributes:
        seconds: phase -> seconds, in the order of the phases; a repeated phase adds up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, total: int = 1) -> Iterator[Bar]:
        """Show a bar of ``total`` steps while the block runs."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        began = time.monotonic()
        with Progress(
            *columns, console=err, transient=True, disable=not err.is_terminal
        ) as progress:
            yield Bar(progress, progress.add_task(name, total=total, note=""))
        took = time.monotonic() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        say(f"{name:<28} {took:6.1f} s")

    def each(self, name: str, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Do ``work`` for every item, :data:`AT_ONCE` at a time; the first error ends the phase."""
        waiting = list(items)
        with self.phase(name, len(waiting)) as bar:
            pool = ThreadPoolExecutor(AT_ONCE)
            try:
                for future in as_completed([pool.submit(work, item) for item in waiting]):
                    future.result()
                    bar.step()
            except BaseException:
                # Do not wait for the others: clearing up kills their processes.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown()
