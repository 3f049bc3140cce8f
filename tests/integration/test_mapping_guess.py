"""A guessed mapping is a mapping: it loads, it imports, and what is unsure stays a comment."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.ingest import load_mapping, parse_mapping, read_records
from participant.ingest.guess import Guess, guess_mapping
from shared.domain.vocabulary import KINDS
from shared.errors import BadInput, Exit
from simulations.world import WorldConfig, generate, training_records
from tests.support.store import command, write_export

REAL_SHOPS = Path("../shared/data/fraudulent_online_shops/shops.csv")
needs_real_shops = pytest.mark.skipif(not REAL_SHOPS.exists(), reason="the data set is not here")


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    world = generate(WorldConfig(members=5, listings_per_week=15, seed=8))
    return training_records(world, next(iter(world.members)))


def imported(path: Path, kind: str, guess: Guess) -> pl.DataFrame:
    frame, rejects = read_records(path, kind, parse_mapping(guess.text, "guess"))
    assert not rejects
    assert guess.rejected == 0
    return frame


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", ["listings", "complaints", "verdicts"])
def test_our_own_schema_is_recognised(
    tables: dict[str, pl.DataFrame], tmp_path: Path, kind: str, ending: str
) -> None:
    path = write_export(tables[kind], tmp_path / f"export.{ending}")
    guess = guess_mapping(path, kind)
    assert (guess.missing, guess.unsure) == ((), ())
    wanted, _ = read_records(path, kind)
    found = imported(path, kind, guess)
    empty = [name for name in wanted.columns if wanted[name].null_count() == wanted.height]
    assert found.drop(empty).equals(wanted.drop(empty))


RENAMED = {
    "listing_id": "Artikel-Nr", "title": "Bezeichnung", "description": "Beschreibung",
    "brand": "Marke", "category": "Kategorie", "price": "Preis", "list_price": "UVP",
    "quantity": "Menge", "seller_id": "Händler-ID", "seller_name": "Händlername",
    "created_at": "angelegt am", "ship_from": "Versand aus",
}  # fmt: skip


def german_export(listings: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Write the listings as a German shop system would; return what must come back."""
    listings = listings.with_columns(
        pl.col("created_at").dt.truncate("1m"),
        *(pl.col(name).str.replace_all(r"[^\x00-\x7f]", "") for name in ("title", "description")),
    )
    money = [
        pl.col(name).map_elements(
            lambda value: f"{value:,.2f} €".translate(str.maketrans(",.", ".,")), pl.String
        )
        for name in ("price", "list_price")
    ]
    day = pl.col("created_at").dt.strftime("%d.%m.%Y %H:%M")
    shown = listings.with_columns(*money, day).select(list(RENAMED)).rename(RENAMED)
    shown = shown.with_columns(pl.col("Marke").fill_null("k.A."))
    path.write_bytes(shown.write_csv(separator=";").encode("cp1252"))
    return listings


def test_a_foreign_export_is_read_back_to_the_cent_and_the_minute(
    tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    wanted = german_export(tables["listings"], path)
    guess = guess_mapping(path, "listings")
    assert guess.columns == RENAMED
    mapping = tomllib.loads(guess.text)
    assert mapping["file"] == {"encoding": "cp1252", "separator": ";"}
    assert mapping["columns"]["brand"]["nulls"] == ["k.A."]
    assert mapping["columns"]["created_at"]["dates"] == ["%d.%m.%Y %H:%M"]
    assert mapping["columns"]["currency"] == {"constant": "EUR"}
    found = imported(path, "listings", guess)
    for name in ("listing_id", "price", "list_price", "quantity", "seller_id", "created_at"):
        near = pl.col(name).round(2) if wanted.schema[name].is_float() else pl.col(name)
        assert found.select(near).equals(wanted.select(near)), name


def ecup(path: Path, rows: int = 400) -> Path:
    """Write a file in E-CUP's columns: numbers, up to 76 % null, Russian texts."""
    draw = np.random.Generator(np.random.Philox(3))
    mapping = load_mapping("ecup_listings", "listings")
    words = ("сумка", "кожаная", "новая", "чёрная", "белый", "крышка", "наушники", "копия", "мышь")
    columns: dict[str, object] = {"id": np.arange(rows)}
    columns |= {"resolution": draw.integers(0, 2, rows), "ItemID": draw.integers(0, 200, rows)}
    columns["brand_name"] = draw.choice(["Veltrine", "Portolan"], rows)
    for name, length in (("name_rus", 5), ("description", 20)):
        columns[name] = [" ".join(draw.choice(words, length)) for _ in range(rows)]
    columns["CommercialTypeName4"] = draw.choice(["Сумки", "Обувь", "Часы"], rows)
    columns["PriceDiscounted"] = np.round(draw.lognormal(7, 1, rows), 2)
    columns["SellerID"] = draw.integers(0, 90, rows)
    for name, rule in mapping.signals.items():
        gone = draw.random(rows) < 0.76
        values = draw.integers(0, 50, rows)
        columns[rule.source or name] = pl.Series(values).set(pl.Series(gone), None)
    pl.DataFrame(columns).write_csv(path)
    return path


def test_e_cup_columns_are_known(tmp_path: Path) -> None:
    path = ecup(tmp_path / "train.csv")
    for kind in ("listings", "verdicts"):
        guess = guess_mapping(path, kind)
        assert guess.shipped == f"ecup_{kind}"
        assert imported(path, kind, guess).height == 400
    assert guess_mapping(path, "complaints").shipped == ""


def test_e_cup_columns_are_guessed_as_the_shipped_mapping_has_them(tmp_path: Path) -> None:
    path = ecup(tmp_path / "train.csv")
    shipped = load_mapping("ecup_listings", "listings")
    guess = guess_mapping(path, "listings", shipped=False)
    known = {ours: rule.source for ours, rule in shipped.columns.items() if rule.source}
    assert guess.columns == known
    mapping = parse_mapping(guess.text, "guess")
    assert set(mapping.signals) == set(shipped.signals)
    assert {"resolution", "ItemID"} <= set(mapping.drop)
    assert mapping.columns["language"].constant == "ru"
    assert "currency" not in mapping.columns, "nothing in the file says roubles"
    assert imported(path, "listings", guess).height == 400


def test_which_of_nought_and_one_is_fake_is_for_a_person_to_say(tmp_path: Path) -> None:
    guess = guess_mapping(ecup(tmp_path / "train.csv"), "verdicts", shipped=False)
    assert "verdict" in guess.unsure
    assert set(guess.missing) == {"verdict", "source", "decided_at"}
    assert guess.columns == {"listing_id": "id"}
    told = tmp_path / "told.csv"
    told.write_text("listing,is_fake,decided\n1,1,2026-01-05\n2,0,2026-01-06\n3,1,2026-01-07\n")
    sure = guess_mapping(told, "verdicts")
    values = tomllib.loads(sure.text)["columns"]["verdict"]["values"]
    assert values == {"1": "counterfeit", "0": "authentic"}
    assert sure.missing == ("source",)


@needs_real_shops
def test_the_online_shops_are_known_and_would_be_guessed() -> None:
    assert guess_mapping(REAL_SHOPS, "shops").shipped == "online_shops"
    shipped = load_mapping("online_shops", "shops")
    guess = guess_mapping(REAL_SHOPS, "shops", shipped=False)
    mapping = parse_mapping(guess.text, "guess")
    for name, rule in shipped.columns.items():
        mine = mapping.columns[name]
        assert " ".join((mine.source or "").split()) == " ".join((rule.source or "").split())
        assert (mine.extract, mine.values) == (rule.extract, rule.values)
    assert set(mapping.columns["created_at"].dates or ()) == set(
        shipped.columns["created_at"].dates or ()
    )
    assert "tells the label" in mapping.drop["TrustPilot score"]
    found = imported(REAL_SHOPS, "shops", guess)
    wanted, _ = read_records(REAL_SHOPS, "shops", "online_shops")
    columns = ["shop_id", "host", "url", "created_at", "label"]
    assert found.select(columns).equals(wanted.select(columns))


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("created", ["03/04/2026", "11/12/2025", "07/08/2026"], "which is the day?"),
        ("price", ["1.234", "2.500", "3.999"], "may group thousands"),
        ("price", ["1,234", "2,500", "3,999"], "may group thousands"),
    ],
)
def test_what_can_be_read_in_two_ways_is_left_to_a_person(
    tmp_path: Path, column: str, values: list[str], told: str
) -> None:
    path = tmp_path / "x.csv"
    pl.DataFrame({"item id": ["a", "b", "c"], column: values}).write_csv(path)
    guess = guess_mapping(path, "listings")
    (ours,) = guess.unsure
    (line,) = [line for line in guess.text.splitlines() if line.startswith(f"# {ours} = {{ from")]
    assert told in line
    assert imported(path, "listings", guess)[ours].null_count() == len(values)


def test_a_day_above_twelve_settles_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("item id,created\na,03/04/2026\nb,31/12/2025\n")
    created = imported(path, "listings", guess_mapping(path, "listings"))["created_at"]
    assert created.dt.strftime("%Y-%m-%d").to_list() == ["2026-04-03", "2025-12-31"]


def test_two_columns_that_could_be_it_are_both_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,preis netto,preis brutto\n1,10,12\n2,20,24\n")
    guess = guess_mapping(path, "listings")
    assert guess.unsure == ("price",)
    assert guess.text.count("# price = { from = ") == 2


def test_a_moment_may_be_a_number(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"offer_id": ["a", "b"], "created": [1767225600, 1767312000]}).write_parquet(path)
    created = imported(path, "listings", guess_mapping(path, "listings"))["created_at"]
    assert created.dt.strftime("%Y-%m-%d").to_list() == ["2026-01-01", "2026-01-02"]


def test_a_proposal_repeats_no_value_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [f"{at},secretword{at % 3} and more text here,classified{at % 2}" for at in range(30)]
    path.write_text("id,title,colour\n" + "\n".join(rows))
    for kind in KINDS:
        text = json.dumps(guess_mapping(path, kind).as_dict())
        assert "secretword" not in text
        assert "classified" not in text


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), min_size=1)
VALUES = st.one_of(
    st.none(), st.text(max_size=9), st.sampled_from(["1", "-1", "n/a", "2026-01-02", "1,5"])
)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_columns_are_called_the_text_is_toml_and_loads(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    rows = data.draw(st.integers(1, 8))
    columns = {
        name: pl.Series(data.draw(st.lists(VALUES, min_size=rows, max_size=rows)), dtype=pl.String)
        for name in names
    }
    path = tmp_path_factory.mktemp("guess") / "x.parquet"
    pl.DataFrame(columns).write_parquet(path)
    kind = data.draw(st.sampled_from(KINDS))
    guess = guess_mapping(path, kind)
    assert tomllib.loads(guess.text)["kind"] == kind
    if not guess.missing:
        parse_mapping(guess.text, "guess")


@pytest.mark.parametrize("content", ["", "\n", "a,b\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(BadInput):
        guess_mapping(path, "listings")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[..., int] = command(monkeypatch)
    path = tmp_path / "x.csv"
    path.write_text("offer id,price\na,10\nb,20\n")
    guess = ("data", "mapping", "guess", path, "--kind", "listings")
    out = tmp_path / "m.toml"
    assert run(*guess, "--out", out) == Exit.OK
    assert (
        run("data", "import", path, "--kind", "listings", "--mapping", out, "--dir", tmp_path) == 0
    )
    assert run(*guess, "--out", out) == Exit.CONFIG, "a person may have worked on it"
    capsys.readouterr()
    assert run(*guess, "--json") == Exit.OK
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["columns"] == {"listing_id": "offer id", "price": "price"}
    assert run(*guess[:-1], "verdicts") == Exit.PARTIAL
    shown = capsys.readouterr()
    assert tomllib.loads(shown.out)["kind"] == "verdicts"
    assert "required and not found: verdict, source, decided_at" in shown.err


ANSWERS = [
    "fake", "fraudulent", "is_fraudulent", "scam", "isScam", "status", "result", "class", "target",
    "y", "Fälschung", "gefaelscht", "contrefaçon", "removed", "blocked", "moderation_status",
    "decision_reason", "appeal_result", "counterfeit_flag", "takedown_by",
]  # fmt: skip
MOMENTS = [
    "takedown_date", "decision_date", "complaint_date", "date_removed", "sold_date", "order_date",
]  # fmt: skip


def with_column(tables: dict[str, pl.DataFrame], path: Path, name: str, values: pl.Series) -> Path:
    bare = tables["listings"].drop("created_at", "updated_at", "signals")
    return write_export(bare.with_columns(values.alias(name)), path)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_column_that_tells_the_answer_becomes_a_signal(
    tables: dict[str, pl.DataFrame], tmp_path: Path, name: str
) -> None:
    flags = pl.Series([at % 3 == 0 for at in range(tables["listings"].height)]).cast(pl.Int8)
    guess = guess_mapping(with_column(tables, tmp_path / "export.csv", name, flags), "listings")
    mapping = tomllib.loads(guess.text)
    assert name not in mapping.get("signals", {})
    assert mapping["drop"][name] == "it tells the answer"


@pytest.mark.parametrize("name", MOMENTS)
def test_the_moment_of_something_else_is_not_when_a_listing_was_created(
    tables: dict[str, pl.DataFrame], tmp_path: Path, name: str
) -> None:
    moments = tables["listings"]["created_at"]
    path = with_column(tables, tmp_path / "export.csv", name, moments)
    mapping = tomllib.loads(guess_mapping(path, "listings").text)
    assert "created_at" not in mapping["columns"]
    assert name not in mapping.get("signals", {})


@pytest.mark.parametrize("name", ["item_count_fake_returns7", "fraud rate", "fake complaints"])
def test_a_count_of_complaints_is_a_signal(
    tables: dict[str, pl.DataFrame], tmp_path: Path, name: str
) -> None:
    counts = pl.Series([at % 5 for at in range(tables["listings"].height)])
    path = with_column(tables, tmp_path / "export.csv", name, counts)
    text = guess_mapping(path, "listings").text
    assert name in text.split("[drop]")[0]
