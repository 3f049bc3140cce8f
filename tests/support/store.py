"""Small record tables, and the two nouns of the command line that need nothing but a store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import typer

from participant.cli import audit, data
from shared.console import run_app
from shared.domain.schemas import SCHEMAS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def shops(
    ids: Sequence[str], label: int | None = 0, updated_at: datetime | None = None
) -> pl.DataFrame:
    """Canonical shops with these ids, all with the same label and time."""
    rest = {"label": label, "updated_at": updated_at, "signals": '{"dots":1}'}
    rows = [{"shop_id": name, "host": f"{name}.example", **rest} for name in ids]
    return pl.DataFrame(rows, schema=SCHEMAS["shops"])


def listings(ids: Sequence[str], price: float = 10.0) -> pl.DataFrame:
    """Canonical listings with these ids, all at the same price."""
    rows = [
        {
            "listing_id": name,
            "title": f'Sac "{name}", grün\n2nd line',
            "price": price,
            "currency": "EUR",
            "quantity": 3,
            "image_hashes": ["00ff", "11aa"],
            "created_at": NOON + timedelta(minutes=at),
            "signals": '{"views":3,"ship":null}',
        }
        for at, name in enumerate(ids)
    ]
    return pl.DataFrame(rows, schema=SCHEMAS["listings"])


def write_export(frame: pl.DataFrame, path: Path) -> Path:
    """Write a canonical table as CSV, JSON Lines or Parquet, by the path's ending."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
        return path
    flat = frame.with_columns(
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
        for name, dtype in frame.schema.items()
        if dtype.is_temporal()
    )
    if path.suffix == ".jsonl":
        flat.write_ndjson(path)
    else:
        lists = [name for name, dtype in flat.schema.items() if dtype.is_nested()]
        flat.with_columns(pl.col(lists).list.join("|")).write_csv(path)
    return path


def command(monkeypatch: object) -> Callable[..., int]:
    """Return a function that runs ``touchstone-participant ARGS`` and gives the exit code."""
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)
    audit.register(app)

    def run(*args: object) -> int:
        words = ["touchstone-participant", *map(str, args)]
        monkeypatch.setattr(sys, "argv", words)  # type: ignore[attr-defined]
        return run_app(app, words[0])

    return run
