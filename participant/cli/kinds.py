"""The record kinds, for the command line."""

from __future__ import annotations

from enum import StrEnum

import typer


class KindChoice(StrEnum):
    """The record kinds, for the command line."""

    LISTINGS = "listings"
    COMPLAINTS = "complaints"
    VERDICTS = "verdicts"
    SHOPS = "shops"


KindOption = typer.Option(..., "--kind", help="What the file holds.")
FileArgument = typer.Argument(..., metavar="FILE", help="CSV, TSV, JSON Lines or Parquet.")
