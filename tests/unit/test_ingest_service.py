from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import participant.ingest.readers as readers_module
import participant.ingest.service as service_module
from participant.ingest import import_file, parse_mapping, read_records
from participant.ingest.service import ImportReport
from participant.store import Store
from shared.clock import FixedClock
from shared.errors import BadInput, ConfigError
from tests.support.store import NOON, listings, shops, write_export

ENDINGS = [".csv", ".jsonl", ".parquet"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "node", clock=FixedClock(NOON))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_written_table_is_read_back_equal(tmp_path: Path, ending: str) -> None:
    frame = listings(["a", "b", "ü"])
    read, rejects = read_records(write_export(frame, tmp_path / f"x{ending}"), "listings")
    assert read.equals(frame)
    assert rejects == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_bad_rows_are_rejected_with_number_and_reason_and_the_rest_is_kept(
    store: Store, tmp_path: Path, ending: str
) -> None:
    frame = listings(["a", "b", "c", "d"]).with_columns(
        price=pl.Series([1.0, -5.0, 3.0, 4.0]), listing_id=pl.Series(["a", "b", "c", None])
    )
    report = import_file(store, write_export(frame, tmp_path / f"x{ending}"), "listings")
    assert (report.rows, report.kept, report.rejected) == (4, 2, 2)
    assert report.reasons == {"negative": 1, "missing_value": 1}
    assert store.records.frame("listings")["listing_id"].to_list() == ["a", "c"]
    assert report.rejects_path is not None
    assert [json.loads(line) for line in report.rejects_path.open()] == [
        {"row": 2, "code": "negative", "column": "price", "reason": "price is negative"},
        {
            "row": 4,
            "code": "missing_value",
            "column": "listing_id",
            "reason": "listing_id is missing",
        },
    ]


def test_the_same_file_twice_adds_nothing_and_says_so(store: Store, tmp_path: Path) -> None:
    path = write_export(shops(["a", "b"]), tmp_path / "x.csv")
    first = import_file(store, path, "shops")
    again = import_file(store, path, "shops")
    assert (first.added, first.already_imported) == (2, False)
    assert again == ImportReport("shops", already_imported=True)
    assert store.audit.verify().seq == 1
    other = write_export(shops(["a", "b"]), tmp_path / "x.parquet")
    assert import_file(store, other, "shops").unchanged == 2
    assert store.records.count("shops") == 2


def test_another_mapping_reads_the_same_file_anew(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,site\n1,a.example\n")
    text = 'kind = "shops"\n[columns]\nshop_id = { from = "id" }\nhost = { from = "site" }\n'
    import_file(store, path, "shops", parse_mapping(text, "one"))
    labelled = f"{text}label = {{ constant = 1 }}\n"
    report = import_file(store, path, "shops", parse_mapping(labelled, "two"))
    assert report.updated == 1
    assert store.records.frame("shops")["label"].to_list() == [1]


def test_duplicates_in_one_file_are_counted_and_the_last_wins(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "_TEXT_ROWS", 2)
    monkeypatch.setattr(service_module, "BATCH_ROWS", 2)
    frame = pl.concat([shops(["a", "b"], 0), shops(["c", "a"], 1), shops(["a"], None)])
    report = import_file(store, write_export(frame, tmp_path / "x.csv"), "shops")
    assert (report.rows, report.kept, report.duplicates) == (5, 3, 2)
    found = dict(store.records.frame("shops", ["shop_id", "label"]).rows())
    assert found == {"a": None, "b": 0, "c": 1}


def test_the_audit_log_tells_counts_and_digests_but_no_content(
    store: Store, tmp_path: Path
) -> None:
    import_file(store, write_export(listings(["secret-id"]), tmp_path / "x.csv"), "listings")
    (event,) = store.audit.events()
    assert event.kind == "data.imported"
    assert event.body["added"] == 1
    assert len(event.body["file_sha256"]) == 64
    assert "secret" not in json.dumps(event.body)


def test_a_dry_run_tells_everything_and_stores_nothing(store: Store, tmp_path: Path) -> None:
    store.records.put("shops", shops(["a"]))
    frame = shops(["a", "b", "c"]).with_columns(host=pl.Series(["a.example", None, "c.example"]))
    path = write_export(frame, tmp_path / "x.csv")
    report = import_file(store, path, "shops", dry_run=True)
    assert (report.added, report.unchanged, report.rejected) == (1, 1, 1)
    assert report.rejects_path is None
    assert store.records.count("shops") == 1
    assert not (store.folder / "rejects").is_dir() or not any((store.folder / "rejects").iterdir())
    assert not import_file(store, path, "shops").already_imported


def test_progress_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "_TEXT_ROWS", 2)
    told: list[tuple[int, int | None]] = []
    path = write_export(shops(["a", "b", "c"]), tmp_path / "x.csv")
    import_file(store, path, "shops", progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [2, 3]


def test_a_ragged_csv_line_is_one_reject_not_the_end(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('shop_id,host\na,a.example\nb,b.example,extra\n\n"c\nd",c.example\ne\n')
    report = import_file(store, path, "shops")
    assert report.reasons == {"field_count": 2}
    assert report.rejects_path is not None
    assert [json.loads(line)["row"] for line in report.rejects_path.open()] == [2, 5]
    assert store.records.frame("shops")["shop_id"].to_list() == ["a", "c\nd"]


def test_an_open_quote_is_an_error_and_stores_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('shop_id,host\na,a.example\nb,"b.example\nc,c.example\n')
    with pytest.raises(BadInput, match="not well formed"):
        import_file(store, path, "shops")
    assert store.records.count("shops") == 0


def test_json_lines_may_be_blank_broken_or_nested(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [
        '{"shop_id": 1, "host": "a.example", "signals": {"dots": 2, "kind": null}}',
        "",
        "{broken",
        "[1]",
        '{"shop_id": "b", "host": "b.example", "signals": {"deep": {"x": 1}}}',
        '{"host": "c.example", "shop_id": "c", "label": "fraudulent"}',
    ]
    path.write_text("\n".join(lines))
    report = import_file(store, path, "shops")
    assert report.reasons == {"bad_json": 2, "bad_signals": 1}
    assert report.rejects_path is not None
    assert sorted(json.loads(line)["row"] for line in report.rejects_path.open()) == [3, 4, 5]
    frame = store.records.frame("shops", ["shop_id", "label", "signals"])
    assert frame.rows() == [("1", None, '{"dots": 2, "kind": null}'), ("c", 1, None)]


def test_other_encodings_and_separators_by_mapping(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("nr;seite\n1;bücher.example\n".encode("latin-1"))
    text = """
    kind = "shops"
    [file]
    encoding = "latin-1"
    separator = ";"
    [columns]
    shop_id = { from = "nr" }
    host = { from = "seite" }
    """
    import_file(store, path, "shops", parse_mapping(text, "mine"))
    assert store.records.frame("shops")["host"].to_list() == ["bücher.example"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfshop_id,host\n1,a.example\n")
    assert read_records(path, "shops")[0]["shop_id"].to_list() == ["1"]


def test_signals_one_by_one_with_careless_spaces(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,Number  of dots , note ,left\n1,2,x,9\n2,-1,,9\n3,many,y,9\n")
    text = """
    kind = "shops"
    [columns]
    shop_id = { from = "id" }
    host = { from = "id" }
    [signals]
    dots = { from = "Number of dots", type = "number", nulls = ["-1"] }
    note = { type = "text" }
    [drop]
    left = "no use"
    """
    frame, rejects = read_records(path, "shops", parse_mapping(text, "mine"))
    assert [json.loads(text) for text in frame["signals"]] == [
        {"dots": 2.0, "note": "x"},
        {"dots": None, "note": None},
    ]
    assert [(reject.row, reject.column) for reject in rejects] == [(3, "signals.dots")]


def test_columns_that_the_mapping_does_not_mention_are_reported(
    store: Store, tmp_path: Path
) -> None:
    path = write_export(shops(["a"]).with_columns(more=pl.lit(1)), tmp_path / "x.parquet")
    assert import_file(store, path, "shops").ignored == ("more",)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (shops(["a"]).with_columns(host=pl.Series([["a", "b"]])), "lists or objects"),
        (shops(["a"]).with_columns(host=pl.Series([b"a"])), "bytes"),
        (shops(["a"]).rename({"host": "a b"}).with_columns(pl.lit(1).alias("a  b")), "host"),
    ],
)
def test_columns_of_impossible_types_are_refused(
    tmp_path: Path, frame: pl.DataFrame, told: str
) -> None:
    path = tmp_path / "x.parquet"
    frame.write_parquet(path)
    with pytest.raises(ConfigError, match=told):
        read_records(path, "shops")


def test_two_columns_that_differ_in_spaces_only_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("shop_id,a  b,a   b\n1,x.example,y.example\n")
    text = 'kind = "shops"\n[columns]\nshop_id = { from = "shop_id" }\nhost = { from = "a b" }\n'
    with pytest.raises(ConfigError, match="differ in spaces"):
        read_records(path, "shops", parse_mapping(text, "mine"))


def test_a_constant_must_be_a_value_of_its_column(tmp_path: Path) -> None:
    path = write_export(shops(["a"]), tmp_path / "x.csv")
    text = """
    kind = "shops"
    [columns]
    shop_id = { from = "shop_id" }
    host = { from = "host" }
    created_at = { constant = "yesterday" }
    """
    with pytest.raises(ConfigError, match="constant of 'created_at'"):
        read_records(path, "shops", parse_mapping(text, "mine"))


def test_a_file_that_changes_while_it_is_read_is_refused(store: Store, tmp_path: Path) -> None:
    path = write_export(shops(["a"]), tmp_path / "x.csv")

    def grow(_done: int, _total: int | None) -> None:
        with path.open("a") as file:
            file.write("b,b.example,,,,0,\n")

    with pytest.raises(BadInput, match="changed while"):
        import_file(store, path, "shops", progress=grow)
    assert store.records.count("shops") == 0
