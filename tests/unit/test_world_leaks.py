"""No single column gives a counterfeit away, and nothing about the truth leaks into a table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from simulations.world import World, WorldConfig, generate
from simulations.world.texts import LANGUAGES, lexicon
from tests.support.world import categorical_columns, numeric_columns

LIMIT = 0.80


@pytest.fixture(scope="module", params=[7, 8])
def world(request: pytest.FixtureRequest) -> World:
    return generate(WorldConfig(listings_per_week=60, seed=request.param))


def gathered(world: World) -> tuple[pl.DataFrame, np.ndarray]:
    members = world.members.values()
    truth = pl.concat([m.truth for m in members])["counterfeit"].to_numpy()
    return pl.concat([m.listings for m in members]), truth


def separation(truth: np.ndarray, values: np.ndarray) -> float:
    """Return the AUC of a number in its better direction; a missing value may mean anything."""
    known = ~np.isnan(values)
    low, high = (np.where(known, values, fill) for fill in (-1e12, 1e12))
    found = [roc_auc_score(truth, low), roc_auc_score(truth, high), roc_auc_score(truth, known)]
    return max(max(area, 1 - area) for area in found)


def frequencies(words: list[str], sellers: pl.Series, truth: np.ndarray) -> np.ndarray:
    """Return the share of counterfeits among rows with the same word of the other sellers' half.

    Halves are apart by seller: an account's own earlier listings tell about it in any world.
    """
    half = pl.Series([int(seller[-1], 16) % 2 for seller in sellers])
    table = pl.DataFrame({"word": words, "truth": truth, "half": half, "row": range(len(words))})
    swapped = table.with_columns(half=1 - pl.col("half"))
    rates = swapped.group_by("word", "half").agg(rate=pl.col("truth").mean())
    joined = table.join(rates, on=["word", "half"], how="left").sort("row")
    return joined["rate"].fill_null(truth.mean()).to_numpy()


def test_no_number_separates_alone(world: World) -> None:
    listings, truth = gathered(world)
    areas = {n: separation(truth, v) for n, v in numeric_columns(listings).items()}
    assert max(areas.values()) < LIMIT, areas
    assert max(areas.values()) > 0.6, "a world without any signal would pass the test above"


def test_no_word_separates_alone(world: World) -> None:
    listings, truth = gathered(world)
    columns = categorical_columns(listings)
    columns["currency"] = listings["currency"].to_list()
    columns["member"] = [name.rsplit("-", 1)[0] for name in listings["listing_id"]]
    areas = {
        n: roc_auc_score(truth, frequencies(v, listings["seller_id"], truth))
        for n, v in columns.items()
    }
    assert max(areas.values()) < LIMIT, areas


def test_identifiers_and_order_say_nothing(world: World) -> None:
    for member in world.members.values():
        serial = member.listings["listing_id"].str.extract(r"(\d+)$").cast(pl.Int64).to_numpy()
        assert (np.diff(serial) == 1).all()
        assert member.listings["seller_id"].str.len_chars().n_unique() == 1
        assert member.listings["listing_id"].str.len_chars().n_unique() == 1
        table = member.listings.select("seller_id", "created_at").with_columns(
            serial=pl.Series(serial), truth=member.truth["counterfeit"]
        )
        # One row an account: a busy account would count its identifier many times.
        accounts = table.unique("seller_id", keep="first", maintain_order=True)
        number = pl.Series([int(text, 16) for text in accounts["seller_id"]], dtype=pl.Float64)
        assert abs(noise_units(accounts["truth"], number)) < 4
        assert abs(noise_units(accounts["truth"], accounts["created_at"].dt.second())) < 4
        assert abs(noise_units(table["truth"], table["serial"])) < 4


def noise_units(truth: pl.Series, values: pl.Series) -> float:
    """Return how far the AUC of ``values`` is from 1/2, in its standard deviations under chance."""
    positives, negatives = truth.sum(), (~truth).sum()
    deviation = np.sqrt((positives + negatives + 1) / (12.0 * positives * negatives))
    return (roc_auc_score(truth.to_numpy(), values.to_numpy()) - 0.5) / deviation


def test_missing_values_say_little(world: World) -> None:
    listings, truth = gathered(world)
    for name in listings.columns:
        assert separation(truth, listings[name].is_null().cast(pl.Float64).to_numpy()) < 0.6


def test_a_code_word_rule_finds_less_than_two_fifths(world: World) -> None:
    listings, truth = gathered(world)
    words = {word.lower() for tongue in LANGUAGES for word in lexicon(tongue).code_words.values()}
    text = (listings["title"] + " " + listings["description"]).str.to_lowercase()
    hit = text.str.contains_any(sorted(words)).to_numpy()
    recall, precision = hit[truth].mean(), truth[hit].mean()
    assert 0.1 < recall < 0.4
    assert precision < 0.8


def test_most_honest_offers_at_a_fakes_price_are_genuine(world: World) -> None:
    listings, truth = gathered(world)
    ratio = (listings["price"] / listings["list_price"]).fill_null(1.0).to_numpy()
    assert truth[ratio < 0.35].mean() < 0.35
