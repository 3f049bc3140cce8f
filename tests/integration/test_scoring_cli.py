"""`score`: files in, files out, errors with their exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch

from participant.cli.main import main
from participant.deployment.service import Deployer
from participant.ingest import import_file
from participant.store import Store
from shared.clock import FixedClock
from shared.errors import Exit
from shared.model.layout import ModelSpec
from tests.support.model import NOW, fake, listing, records

Run = Callable[..., "Done"]


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["touchstone-participant", "score", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return command


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member that runs its own local-only model."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("node")
    files = tmp_path_factory.mktemp("files")
    rows = [listing(k) for k in range(60)] + [fake(k) for k in range(60, 120)]
    verdicts = [
        {
            "listing_id": f"listing-{k}",
            "verdict": "authentic" if k < 60 else "counterfeit",
            "source": "customs",
            "decided_at": NOW,
        }
        for k in range(120)
    ]
    clock = FixedClock(NOW)
    store = Store.open(folder, clock=clock)
    for kind, frame in (
        ("listings", records("listings", *rows)),
        ("verdicts", records("verdicts", *verdicts)),
    ):
        frame.write_parquet(files / f"{kind}.parquet")
        assert import_file(store, files / f"{kind}.parquet", kind).rejected == 0
    store.close()
    Deployer(folder, clock=clock).activate_local("listing", ModelSpec(hash_bits=14))
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> pl.DataFrame:
    frame = records("listings", listing(900), fake(901), listing(902))
    frame.write_parquet(tmp_path / "in.parquet")
    frame.write_ndjson(tmp_path / "in.jsonl")
    frame.with_columns(pl.col("image_hashes").list.join("|")).write_csv(tmp_path / "in.csv")
    return frame


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_every_format_gives_the_same_risk(
    run: Run, node: Path, fresh: pl.DataFrame, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / "out.parquet"
    done = run(
        tmp_path / f"in.{ending}", "--out", out, "--dir", node, "--as-of", "2025-06-01T00:00Z"
    )
    assert done.returncode == Exit.OK, done.stderr
    scored = pl.read_parquet(out)
    assert scored.columns == ["id", "risk", "band", "reasons"]
    assert scored["id"].to_list() == fresh["listing_id"].to_list()
    risk = scored["risk"].to_list()
    assert 0 <= min(risk) <= max(risk) <= 100
    assert risk[1] > max(risk[0], risk[2])
    assert scored["reasons"][1].len() > 0
    assert "scored 3 rows" in done.stdout


def test_json_and_rejected_rows(run: Run, node: Path, fresh: pl.DataFrame, tmp_path: Path) -> None:
    bad = fresh.with_columns(price=pl.Series([190.0, -1.0, 190.0]))
    bad.write_parquet(tmp_path / "bad.parquet")
    out = tmp_path / "out.jsonl"
    done = run(tmp_path / "bad.parquet", "--out", out, "--dir", node, "--json")
    assert done.returncode == Exit.PARTIAL
    told = json.loads(done.stdout)
    assert told["status"] == "ok"
    assert (told["data"]["rows"], told["data"]["rejected"]) == (2, 1)
    assert told["data"]["release_id"] == "local"
    rejects = Path(told["data"]["rejects_path"]).read_text()
    assert json.loads(rejects)["row"] == 2
    assert "Veltr1ne" not in rejects
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [
        "listing-900",
        "listing-902",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["in.parquet", "--out", "out.xlsx"], Exit.USAGE, "cannot be written"),
        (["in.parquet", "--out", "nowhere/out.parquet"], Exit.USAGE, "does not exist"),
        (["in.parquet", "--out", "out.csv", "--as-of", "now"], Exit.USAGE, "not a time"),
        (["in.parquet", "--out", "out.csv", "--as-of", "2025-01-01"], Exit.USAGE, "time zone"),
        (["in.parquet", "--out", "out.csv", "--mapping", "nobody"], Exit.CONFIG, "nobody"),
        (["cut.parquet", "--out", "out.csv"], Exit.USAGE, "cut.parquet"),
    ],
)
def test_errors_say_what_is_wrong_and_leave_nothing(
    run: Run,
    node: Path,
    fresh: pl.DataFrame,
    tmp_path: Path,
    arguments: list[str],
    code: Exit,
    words: str,
) -> None:
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:400])
    before = sorted(tmp_path.iterdir())
    paths = [tmp_path / a if "." in a and not a.startswith("-") else a for a in arguments]
    done = run(*paths, "--dir", node)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_node_without_a_model_says_so(run: Run, fresh: pl.DataFrame, tmp_path: Path) -> None:
    done = run(tmp_path / "in.parquet", "--out", tmp_path / "out.csv", "--dir", tmp_path / "new")
    assert done.returncode == Exit.CONFIG
    assert "no active model" in done.stderr
    assert not (tmp_path / "new").exists()
