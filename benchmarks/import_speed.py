"""How fast an export becomes stored, de-duplicated records, beside a plain SQLite table.

Run: ``.venv/bin/python benchmarks/import_speed.py [--rows 5000000] [--formats parquet,csv]``.

A twentieth of the rows repeat records that came earlier in the file. "again" is a second export, of
the same records in another file, into a store that has them all. At 5 million rows and more the run
ends with exit code 1 if a target of the project is missed. Every measurement runs in a process of
its own, so that its peak memory is its own. The peer is
what one would write first: polars reads the file in batches, ``executemany`` puts them into one
SQLite table with a unique key (``insert or replace``), with neither checks nor versions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from participant.ingest import import_file
from participant.store import Store

CHUNK = 250_000
REPEATED = 20
"""One row in so many is a record that the file has had before."""
TARGET_ROWS = 5_000_000
TARGET_SPEED = {"parquet": 200_000, "csv": 150_000}
"""Rows a second, on two cores."""
TARGET_MIB = 1024
WORDS = np.array(["handbag", "leather", "original", "new", "tote", "strap", "gold", "black"])


def text(rng: np.random.Generator, rows: int, words: int) -> pl.Series:
    picked = WORDS[rng.integers(0, len(WORDS), (rows, words))]
    columns = pl.DataFrame({str(at): picked[:, at] for at in range(words)})
    return columns.select(pl.concat_str(pl.all(), separator=" ")).to_series()


def times(rng: np.random.Generator, rows: int) -> pl.Series:
    seconds = pl.Series(rng.integers(1_600_000_000, 1_730_000_000, rows))
    return (seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))


def listings(first: int, rows: int) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(first))
    ids = np.arange(first, first + rows)
    return pl.DataFrame(
        {
            "listing_id": [f"L-{at:09d}" for at in ids],
            "marketplace": ["portolan"] * rows,
            "url": [f"https://portolan.example/item/{at}" for at in ids],
            "brand": WORDS[rng.integers(0, len(WORDS), rows)],
            "title": text(rng, rows, 8),
            "description": text(rng, rows, 40),
            "language": ["en"] * rows,
            "category": WORDS[rng.integers(0, len(WORDS), rows)],
            "price": np.round(rng.lognormal(3, 1, rows), 2),
            "currency": ["EUR"] * rows,
            "list_price": np.round(rng.lognormal(3, 1, rows), 2),
            "quantity": rng.integers(0, 50, rows),
            "seller_id": [f"S-{at}" for at in rng.integers(0, 50_000, rows)],
            "seller_name": text(rng, rows, 2),
            "seller_created_at": times(rng, rows),
            "seller_rating": np.round(rng.random(rows) * 5, 2),
            "ship_from": ["CN"] * rows,
            "image_hashes": [[f"{at:016x}"] for at in ids],
            "created_at": times(rng, rows),
            "updated_at": times(rng, rows),
            "signals": [f'{{"views":{at},"crew":"a"}}' for at in rng.integers(0, 1000, rows)],
        }
    )


def different(rows: int) -> int:
    """Return how many different records a file of so many rows holds."""
    return rows - rows // REPEATED


def chunks(rows: int) -> Iterator[pl.DataFrame]:
    """Yield the file's rows; the last ones are records that came before, CHUNK rows ago or more."""
    fresh = different(rows)
    for first in range(0, fresh, CHUNK):
        yield listings(first, CHUNK).head(fresh - first)
    left = rows - fresh
    for first in range(0, left, CHUNK):
        yield listings(first, CHUNK).head(left - first)


def write_export(folder: Path, kind: str, rows: int) -> Path:
    """Write chunk by chunk, so that making the file needs little memory as well."""
    path = folder / f"listings.{kind}"
    if kind == "parquet":
        parts = folder / "parts"
        parts.mkdir()
        for number, chunk in enumerate(chunks(rows)):
            chunk.write_parquet(parts / f"{number:06d}.parquet")
        pl.scan_parquet(parts / "*.parquet").sink_parquet(path, row_group_size=CHUNK)
        return path
    stamps = pl.col("seller_created_at", "created_at", "updated_at")
    with path.open("wb") as file:
        for number, chunk in enumerate(chunks(rows)):
            chunk.with_columns(
                pl.col("image_hashes").list.join("|"), stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            ).write_csv(file, include_header=number == 0)
    return path


def other_file(path: Path) -> Path:
    """Return a file with the same records that is not the same file: its first row is left out."""
    other = path.with_stem("again")
    if path.suffix == ".parquet":
        pl.scan_parquet(path).slice(1).sink_parquet(other, row_group_size=CHUNK)
    else:
        with path.open("rb") as source, other.open("wb") as target:
            target.write(source.readline())
            source.readline()
            shutil.copyfileobj(source, target)
    return other


def ours(path: Path, folder: Path) -> None:
    report = import_file(Store.open(folder), path, "listings")
    assert report.added == different(report.rows), report


def again(path: Path, folder: Path) -> None:
    report = import_file(Store.open(folder), path, "listings")
    assert report.added == report.updated == 0, report


def plain(path: Path, folder: Path) -> None:
    scan = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path)
    names = scan.collect_schema().names()
    database = sqlite3.connect(folder / "plain.db")
    database.execute("pragma journal_mode = wal")
    database.execute(f"create table listings ({', '.join(names)}, primary key (listing_id))")
    places = ", ".join("?" * len(names))
    for batch in scan.collect_batches(chunk_size=100_000):
        if batch.schema["image_hashes"] != pl.String:
            batch = batch.with_columns(pl.col("image_hashes").list.join("|"))
        rows = batch.with_columns(pl.selectors.temporal().to_physical()).rows()
        database.executemany(f"insert or replace into listings values ({places})", rows)  # noqa: S608
        database.commit()
    database.close()


def measure(way: str, path: Path, folder: Path) -> None:
    started = time.perf_counter()
    {"ours": ours, "again": again, "plain": plain}[way](path, folder)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    # getrusage's maximum would count the parent's pages as well (it survives vfork and exec).
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run(way: str, path: Path, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", way, str(path), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def compare(kind: str, rows: int, ways: tuple[str, ...]) -> bool:
    """Measure one format; return whether every target that applies is met."""
    met = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_export(folder, kind, rows)
        size = path.stat().st_size / 2**20
        print(f"{kind}: {rows:,} rows of {different(rows):,} records, {size:,.0f} MiB")
        stores = {"ours": folder / "ours", "again": folder / "ours", "plain": folder / "plain"}
        speeds = {}
        for way in ways:
            stores[way].mkdir(exist_ok=True)
            if way == "again":
                path = other_file(path)
            result = run(way, path, stores[way])
            speeds[way] = rows / result["seconds"]
            print(
                f"  {way:<6} {speeds[way]:>10,.0f} rows/s   CPU {result['cpu']:>6.1f} s   "
                f"peak {result['peak_mib']:>6,.0f} MiB"
            )
            if way != "plain" and rows >= TARGET_ROWS:
                met &= speeds[way] >= TARGET_SPEED[kind] and result["peak_mib"] < TARGET_MIB
    if "plain" in speeds:
        print(f"  ours is {speeds['ours'] / speeds['plain']:.1f} times as fast")
    if rows >= TARGET_ROWS:
        target = f"{TARGET_SPEED[kind]:,} rows/s under {TARGET_MIB:,} MiB"
        print(f"  target {target}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=TARGET_ROWS)
    parser.add_argument("--formats", default="parquet,csv")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "FILE", "STORE"))
    options = parser.parse_args()
    if options.measure:
        way, path, folder = options.measure
        measure(way, Path(path), Path(folder))
        return 0
    ways = ("ours", "again") if options.no_peer else ("ours", "plain", "again")
    print(f"load average {os.getloadavg()[0]:.1f}")
    results = [compare(kind, options.rows, ways) for kind in options.formats.split(",")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
