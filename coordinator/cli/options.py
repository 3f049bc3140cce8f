"""Options that every command of the operator shares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from coordinator.db import Database
from shared.errors import BadInput

StateDir = Annotated[
    Path, typer.Option("--dir", help="The coordinator's folder.", envvar="TOUCHSTONE_DIR")
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@contextmanager
def opened(state_dir: Path) -> Iterator[Database]:
    """Open the database of a folder for one command; raises :class:`NotFound`."""
    db = Database.open(state_dir)
    try:
        yield db
    finally:
        db.close()


def duration(text: str) -> timedelta:
    """Return a duration such as ``90m``, ``72h`` or ``7d``; raises :class:`BadInput`."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if found is None:
        raise BadInput(f"{text[:40]!r} is not a duration", hint="write 90m, 72h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
