from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from participant.ingest import read_records
from shared.errors import BadInput, NotFound
from simulations.shops import (
    LABEL,
    LABELS,
    MAPPING,
    MIN_ROWS,
    URL,
    deal_shops,
    load_shops,
    write_shops,
)

DATA = Path(__file__).parents[3] / "shared" / "data" / "fraudulent_online_shops"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shop data are not on this machine")


def invented(rows: int = 400, seed: int = 1) -> pl.DataFrame:
    draws = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            URL: [f"https://shop{i}.{draws.choice(['com', 'lt', 'shop'])}" for i in range(rows)],
            LABEL: draws.choice(LABELS, rows).tolist(),
            "Number  of digits": [str(i % 7) for i in range(rows)],
        }
    )


def test_every_shop_is_dealt_exactly_once() -> None:
    shops = invented()
    dealt = deal_shops(shops)
    urls = [url for member in dealt for part in (member.train, member.test) for url in part[URL]]
    assert sorted(urls) == sorted(shops[URL])
    assert len(dealt) == 8
    assert min(m.train.height + m.test.height for m in dealt) >= MIN_ROWS
    for member in dealt:
        share = member.test.height / (member.train.height + member.test.height)
        assert share == pytest.approx(0.35, abs=0.03)


def test_the_deal_looks_at_labels_and_never_at_the_host() -> None:
    shops = invented()
    renamed = shops.with_columns(pl.Series(URL, [f"https://{i}.example" for i in range(400)]))
    for one, other in zip(deal_shops(shops), deal_shops(renamed), strict=True):
        assert one.train.drop(URL).equals(other.train.drop(URL))


def test_members_differ_in_their_share_of_fraud() -> None:
    shares = [(m.train[LABEL] == LABELS[0]).mean() for m in deal_shops(invented(1140))]
    assert max(shares) - min(shares) > 0.4


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_shops(deal_shops(invented(), seed=4), tmp_path / folder)
    written = sorted((tmp_path / "a").rglob("*.csv"))
    assert len(written) == 16
    for path in written:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert not deal_shops(invented(), seed=5)[0].train.equals(
        deal_shops(invented(), seed=4)[0].train
    )


def test_a_member_with_one_class_in_its_test_part_is_known() -> None:
    found = {m.judgeable for seed in range(6) for m in deal_shops(invented(), seed=seed)}
    assert found == {True, False}


@pytest.mark.parametrize("members", [1, 9])
def test_too_few_or_too_many_members_are_refused(members: int) -> None:
    with pytest.raises(BadInput):
        deal_shops(invented(), members=members)


def test_too_few_shops_are_refused() -> None:
    with pytest.raises(BadInput):
        deal_shops(invented(60))


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_shops(tmp_path)
    (tmp_path / "shops.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput):
        load_shops(tmp_path)
    (tmp_path / "shops.csv").write_text(f"{URL},{LABEL}\nhttps://a.example,odd\n")
    with pytest.raises(BadInput):
        load_shops(tmp_path)


@needs_data
def test_real_shops_are_read_whole_and_as_they_stand() -> None:
    shops = load_shops(DATA)
    assert shops.height == 1140
    assert dict(shops[LABEL].value_counts().rows()) == {"fraudulent": 579, "legitimate": 561}
    assert "Number  of digits" in shops.columns


@needs_data
def test_written_slices_import_without_a_reject_and_without_the_leak(tmp_path: Path) -> None:
    dealt = deal_shops(load_shops(DATA))
    paths = write_shops(dealt, tmp_path)
    for member in dealt:
        for part, rows in (("train", member.train), ("test", member.test)):
            frame, rejects = read_records(paths[member.name][part], "shops", MAPPING)
            assert not list(rejects)
            assert frame.height == rows.height
            assert frame["label"].to_list() == (rows[LABEL] == LABELS[0]).cast(pl.Int8).to_list()
            assert not any("TrustPilot score" in text for text in frame["signals"])
            assert not any("trustpilot_score" in text for text in frame["signals"])
