"""The commands `data` and `audit`: every bad input is a clear error with its documented code."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from participant.store import Store
from shared.errors import Exit
from tests.support.store import command, listings, shops, write_export

REAL_SHOPS = Path("../shared/data/fraudulent_online_shops/shops.csv")
needs_real_shops = pytest.mark.skipif(not REAL_SHOPS.exists(), reason="the data set is not here")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    monkeypatch.setenv("TOUCHSTONE_DIR", str(tmp_path / "node"))
    return command(monkeypatch)


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    envelope = json.loads(capsys.readouterr().out)
    return envelope["data"] if envelope["status"] == "ok" else envelope["error"]


def truncated_parquet(folder: Path) -> list[object]:
    path = write_export(listings([f"l{at}" for at in range(500)]), folder / "x.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    return [path, "--kind", "listings"]


def damaged_parquet(folder: Path) -> list[object]:
    path = write_export(listings([f"l{at}" for at in range(5000)]), folder / "x.parquet")
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    return [path, "--kind", "listings"]


def broken_encoding(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_bytes(b"shop_id,host\n1,a.example\n2,b\xff\xfe.example\n")
    return [path, "--kind", "shops"]


def cut_off_character(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_bytes("shop_id,host\n1,ü".encode()[:-1])
    return [path, "--kind", "shops"]


def empty_file(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.touch()
    return [path, "--kind", "shops"]


def header_only(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_text("shop_id,host\n")
    return [path, "--kind", "shops"]


def empty_parquet(folder: Path) -> list[object]:
    return [write_export(shops(["a"]).clear(), folder / "x.parquet"), "--kind", "shops"]


def unknown_ending(folder: Path) -> list[object]:
    path = folder / "x.xlsx"
    path.write_bytes(b"PK")
    return [path, "--kind", "shops"]


def missing_file(folder: Path) -> list[object]:
    return [folder / "none.csv", "--kind", "shops"]


def unreadable_file(folder: Path) -> list[object]:
    path = folder / "loop.csv"
    path.symlink_to(path)
    return [path, "--kind", "shops"]


def folder_for_a_file(folder: Path) -> list[object]:
    path = folder / "folder.csv"
    path.mkdir()
    return [path, "--kind", "shops"]


def same_name_twice(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_text("shop_id,host,host\n1,a.example,b.example\n")
    return [path, "--kind", "shops"]


def unknown_kind(folder: Path) -> list[object]:
    return [write_export(shops(["a"]), folder / "x.csv"), "--kind", "cats"]


def missing_column(folder: Path) -> list[object]:
    mapping = folder / "m.toml"
    mapping.write_text(
        'kind = "shops"\n[columns]\nshop_id = { from = "nr" }\nhost = { from = "host" }\n'
    )
    return [write_export(shops(["a"]), folder / "x.csv"), "--kind", "shops", "--mapping", mapping]


def blank_lines(folder: Path) -> list[object]:
    path = folder / "x.jsonl"
    path.write_text("\n   \n\n")
    return [path, "--kind", "listings"]


def broken_lines(folder: Path) -> list[object]:
    path = folder / "x.jsonl"
    path.write_text('{"listing_id": \n[1, 2]\nnonsense\n')
    return [path, "--kind", "listings"]


def semicolons(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_text("shop_id;host\n1;a.example\n")
    return [path, "--kind", "shops"]


def other_names(folder: Path) -> list[object]:
    path = folder / "x.csv"
    path.write_text("number,host\n1,a.example\n")
    return [path, "--kind", "shops"]


def unknown_key(folder: Path) -> list[object]:
    mapping = folder / "m.toml"
    mapping.write_text('kind = "shops"\ncolour = 1\n[columns]\n')
    return [write_export(shops(["a"]), folder / "x.csv"), "--kind", "shops", "--mapping", mapping]


def kept(node: Path) -> dict[str, object]:
    """What a bad input must leave as it is: records, the audit chain and the segments' bytes."""
    store = Store.open(node)
    try:
        store.audit.verify()
        return {
            "counts": [store.records.count(kind) for kind in ("listings", "shops")],
            "records": store.records.frame("shops").sort("shop_id").to_dicts(),
            "audit": store.audit.head(),
            "segments": {path: path.read_bytes() for path in node.rglob("*.parquet")},
        }
    finally:
        store.close()


@pytest.mark.parametrize(
    ("make", "code", "told"),
    [
        (truncated_parquet, Exit.USAGE, "x.parquet is not a whole Parquet file"),
        (damaged_parquet, Exit.USAGE, "x.parquet is not a whole Parquet file"),
        (broken_encoding, Exit.USAGE, "x.csv is not valid utf-8 near line 3"),
        (cut_off_character, Exit.USAGE, "x.csv is not valid utf-8 near line 2"),
        (empty_file, Exit.USAGE, "x.csv is empty"),
        (header_only, Exit.USAGE, "x.csv has no rows"),
        (empty_parquet, Exit.USAGE, "x.parquet has no rows"),
        (unknown_ending, Exit.USAGE, "x.xlsx: unknown kind of file"),
        (missing_file, Exit.USAGE, "cannot read none.csv: no such file"),
        (unreadable_file, Exit.USAGE, "cannot read loop.csv: too many levels"),
        (folder_for_a_file, Exit.USAGE, "cannot read folder.csv: is a directory"),
        (same_name_twice, Exit.USAGE, "more than one column 'host'"),
        (unknown_kind, Exit.USAGE, "'cats' is not one of"),
        (missing_column, Exit.CONFIG, "the file has no column 'nr'"),
        (unknown_key, Exit.CONFIG, "colour: unknown key"),
        (blank_lines, Exit.USAGE, "x.jsonl holds no JSON object with a field"),
        (broken_lines, Exit.USAGE, "x.jsonl holds no JSON object with a field"),
        (semicolons, Exit.USAGE, "seems to be separated by ';' hint: `data mapping guess`"),
        (other_names, Exit.CONFIG, "no column 'shop_id' hint: rename it in the file, or"),
    ],
)
def test_bad_input_is_a_clear_error_and_nothing_is_half_written_or_lost(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], list[object]],
    code: Exit,
    told: str,
) -> None:
    good = (write_export(shops(["a", "b"]), tmp_path / "good.csv"), "--kind", "shops")
    assert run("data", "import", *good) == Exit.OK
    before = kept(tmp_path / "node")
    capsys.readouterr()
    assert run("data", "import", *make(tmp_path)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in " ".join(captured.err.split())
    after = kept(tmp_path / "node")
    assert after == before
    assert after["counts"] == [0, 2]
    assert list((tmp_path / "node").rglob("*.part")) == []
    assert list((tmp_path / "node").rglob("*.jsonl")) == []


def test_an_import_with_rejects_exits_9_and_again_0(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = listings(["a", "b"]).with_columns(price=pl.Series([-1.0, 2.0]))
    path = write_export(frame, tmp_path / "x.csv")
    arguments = ("data", "import", path, "--kind", "listings", "--json")
    assert run(*arguments) == Exit.PARTIAL
    first = answer(capsys)
    assert (first["kept"], first["rejected"]) == (1, 1)
    assert Path(str(first["rejects_path"])).exists()
    assert run(*arguments) == Exit.OK
    assert answer(capsys)["already_imported"] is True


def test_errors_come_as_json_when_asked(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "import", *empty_file(tmp_path), "--json") == Exit.USAGE
    assert answer(capsys)["code"] == "bad_input"


def test_the_profile_counts_gaps_labels_and_orphans(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        "data",
        "import",
        write_export(listings(["a", "b"]), tmp_path / "l.csv"),
        "--kind",
        "listings",
    )
    run(
        "data",
        "import",
        write_export(listings(["a"], 99.0), tmp_path / "m.csv"),
        "--kind",
        "listings",
    )
    verdicts = tmp_path / "v.jsonl"
    verdicts.write_text(
        '{"listing_id":"a","verdict":"counterfeit","source":"analyst","decided_at":"2026-01-02"}\n'
        '{"listing_id":"x","verdict":"authentic","source":"rule","decided_at":"2026-02-02"}\n'
    )
    run("data", "import", verdicts, "--kind", "verdicts")
    capsys.readouterr()
    assert run("data", "profile", "--json") == Exit.OK
    told = answer(capsys)
    assert told["listings"] | {"nulls": None} == {
        "records": 2,
        "older_versions": 1,
        "nulls": None,
        "labels": {},
        "orphans": 0,
        "first": "2026-03-01T12:00:00Z",
        "last": "2026-03-01T12:01:00Z",
    }
    assert told["listings"]["nulls"]["brand"] == 2
    assert told["listings"]["nulls"]["title"] == 0
    assert told["verdicts"]["labels"]["verdict"] == {"authentic": 1, "counterfeit": 1}
    assert told["verdicts"]["orphans"] == 1
    assert told["shops"]["first"] is None
    assert run("data", "profile") == Exit.OK
    assert "verdicts.verdict: authentic 1, counterfeit 1" in capsys.readouterr().out


def test_a_profile_of_no_store_is_a_state_error(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("data", "profile") == Exit.CONFIG
    assert not (tmp_path / "node").exists()


def test_the_audit_log_is_shown_and_proved(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("data", "import", write_export(shops(["a"]), tmp_path / "x.csv"), "--kind", "shops")
    capsys.readouterr()
    assert run("audit", "show", "--json") == Exit.OK
    (event,) = answer(capsys)["events"]
    assert (event["seq"], event["kind"]) == (1, "data.imported")
    assert run("audit", "verify", "--json") == Exit.OK
    assert answer(capsys) == {"events": 1, "head": event["hash"]}
    assert run("audit", "verify", "--head", f"1:{event['hash']}") == Exit.OK
    assert run("audit", "verify", "--head", "1:00") == Exit.USAGE
    with sqlite3.connect(tmp_path / "node" / "store" / "touchstone.db") as raw:
        raw.execute("drop trigger audit_event_no_update")
        raw.execute("update audit_event set kind = 'data.other'")
    assert run("audit", "verify") == Exit.VERIFICATION


@needs_real_shops
def test_real_shops_are_read_without_their_traps(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("data", "import", REAL_SHOPS, "--kind", "shops", "--mapping", "online_shops")
    assert run(*arguments, "--json") == Exit.OK
    report = answer(capsys)
    assert (report["kept"], report["duplicates"], report["ignored"]) == (1140, 0, [])
    frame = Store.open(tmp_path / "node").records.frame("shops")
    assert frame["host"].n_unique() == frame.height
    assert not frame["host"].str.contains(r"^www\.|/|:|[A-Z]").any()
    assert frame["created_at"].null_count() == 121, "'Hidden' and 'None' are unknown"
    signals = [json.loads(text) for text in frame["signals"]]
    assert sum(row["tranco_rank"] is None for row in signals) > 1100, "-1 means unknown"
    names = {name for row in signals for name in row}
    assert not {name for name in names if "score" in name or "top" in name or "expire" in name}
    assert sorted(frame["label"].unique()) == [0, 1]


def test_ecup_columns_become_listings_and_verdicts(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from participant.ingest import load_mapping

    mapping = load_mapping("ecup_listings", "listings")
    sources = {rule.source for rule in mapping.columns.values() if rule.source}
    columns = [*sources, *(rule.source or name for name, rule in mapping.signals.items())]
    header = sorted({*columns, *mapping.drop})
    row = dict.fromkeys(header, "1") | {"id": "7", "name_rus": "Сумка", "GmvTotal90": ""}
    path = tmp_path / "ecup.csv"
    pl.DataFrame([row]).write_csv(path)
    assert len(header) == 45
    assert run("data", "import", path, "--kind", "listings", "--mapping", "ecup_listings") == 0
    assert run("data", "import", path, "--kind", "verdicts", "--mapping", "ecup_verdicts") == 0
    records = Store.open(tmp_path / "node").records
    listing = records.frame("listings").row(0, named=True)
    assert (listing["listing_id"], listing["title"], listing["currency"]) == ("7", "Сумка", "RUB")
    signals = json.loads(listing["signals"])
    assert signals["GmvTotal90"] is None
    assert signals["item_count_fake_returns7"] == 1.0
    assert not {"resolution", "ItemID"} & set(signals)
    assert records.frame("verdicts")["verdict"].to_list() == ["counterfeit"]
