"""How fast an export becomes stored, de-duplicated records, beside a plain SQLite table.

Run: ``.venv/bin/python benchmarks/import_speed.py [--rows 1000000] [--formats parquet,csv]``.

Every measurement runs in a process of its own, so that its peak memory is its own. The peer is
what one would write first: polars reads the file in batches, ``executemany`` puts them into one
SQLite table with a unique key (``insert or replace``), with neither checks nor versions.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from participant.ingest import import_file
from participant.store import Store

CHUNK = 250_000
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


def write_export(folder: Path, kind: str, rows: int) -> Path:
    """Write chunk by chunk, so that making the file needs little memory as well."""
    path = folder / f"listings.{kind}"
    if kind == "parquet":
        parts = folder / "parts"
        parts.mkdir()
        for first in range(0, rows, CHUNK):
            part = parts / f"{first:012d}.parquet"
            listings(first, min(CHUNK, rows - first)).write_parquet(part)
        pl.scan_parquet(parts / "*.parquet").sink_parquet(path, row_group_size=CHUNK)
        return path
    stamps = pl.col("seller_created_at", "created_at", "updated_at")
    with path.open("wb") as file:
        for first in range(0, rows, CHUNK):
            listings(first, min(CHUNK, rows - first)).with_columns(
                pl.col("image_hashes").list.join("|"), stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            ).write_csv(file, include_header=first == 0)
    return path


def ours(path: Path, folder: Path) -> int:
    return import_file(Store.open(folder), path, "listings").kept


def plain(path: Path, folder: Path) -> int:
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
    return int(database.execute("select count(*) from listings").fetchone()[0])


def measure(way: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started = time.perf_counter()
        rows = {"ours": ours, "plain": plain}[way](path, Path(folder))
        seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    # getrusage's maximum would count the parent's pages as well (it survives vfork and exec).
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run(way: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", way, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", default="parquet,csv")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"))
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    for kind in options.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = write_export(Path(folder), kind, options.rows)
            size = path.stat().st_size / 2**20
            print(f"{kind}: {options.rows:,} rows, {size:,.0f} MiB")
            speeds = {}
            for way in ("ours",) if options.no_peer else ("ours", "plain"):
                result = run(way, path)
                assert result["rows"] == options.rows
                speeds[way] = result["rows"] / result["seconds"]
                print(
                    f"  {way:<6} {speeds[way]:>10,.0f} rows/s   CPU {result['cpu']:>6.1f} s   "
                    f"peak {result['peak_mib']:>6,.0f} MiB"
                )
            if len(speeds) == 2:
                print(f"  ours is {speeds['ours'] / speeds['plain']:.1f} times as fast")


if __name__ == "__main__":
    main()
