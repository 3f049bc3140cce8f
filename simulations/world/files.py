"""The world on disk: one folder a member in that member's own file format, and the truth apart."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl

from shared.files import write_atomic
from simulations.world.profiles import Format
from simulations.world.splits import fresh_listings, new_tactic_mask, split, training_records
from simulations.world.world import World

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def write(world: World, folder: Path) -> dict[str, dict[str, Path]]:
    """Write every member's exports and the truth.

    ``<folder>/<member>/{listings,complaints,verdicts}.<format>`` hold what the member knows when
    training begins, ``fresh_listings.<format>`` the listings after that;
    ``<folder>/truth/<member>.parquet`` and ``<folder>/truth/tactics.json`` hold the truth about
    all of them. The same world gives the same bytes.

    Returns:
        member -> table name -> path.

    Raises:
        StorageError: a file cannot be written.
    """
    paths: dict[str, dict[str, Path]] = {}
    for name, own in world.members.items():
        tables = {**training_records(world, name), "fresh_listings": fresh_listings(world, name)}
        kind = own.profile.file_format
        (folder / name).mkdir(parents=True, exist_ok=True)
        paths[name] = {table: folder / name / f"{table}.{kind}" for table in tables}
        for table, frame in tables.items():
            write_atomic(paths[name][table], encode(frame, kind))
    _write_truth(world, folder / "truth")
    return paths


def _write_truth(world: World, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in world.members.items():
        masks = split(world, name)
        part = pl.when(masks.train).then(pl.lit("train")).when(masks.test).then(pl.lit("test"))
        truth = own.truth.with_columns(
            part=part.otherwise(pl.lit("fresh")),
            new_tactic=pl.Series(new_tactic_mask(world, name)),
        )
        write_atomic(folder / f"{name}.parquet", encode(truth, "parquet"))
    schemes = [
        {"tactic_id": t.tactic_id, "born_at": t.born_at, "mechanism": t.mechanism,
         "code_words": t.code_words, "jargon": t.jargon, "stays": t.stays}
        for t in world.tactics
    ]  # fmt: skip
    write_atomic(folder / "tactics.json", json.dumps(schemes, indent=1).encode())


def encode(frame: pl.DataFrame, kind: Format) -> bytes:
    """Return ``frame`` as the bytes of a file; text formats carry times in RFC 3339, UTC."""
    sink = io.BytesIO()
    if kind == "parquet":
        frame.write_parquet(sink, compression="zstd")
    elif kind == "csv":
        _as_text(frame, join_lists=True).write_csv(sink)
    else:
        _as_text(frame, join_lists=False).write_ndjson(sink)
    return sink.getvalue()


def _as_text(frame: pl.DataFrame, *, join_lists: bool) -> pl.DataFrame:
    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    frame = frame.with_columns(pl.col(name).dt.strftime(_TIME) for name in times)
    if join_lists and "image_hashes" in frame.columns:
        frame = frame.with_columns(pl.col("image_hashes").list.join("|"))
    return frame
