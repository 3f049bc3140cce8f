"""Options that several of the member's commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
