"""Folding, brand matching and host names."""

from __future__ import annotations

import pytest

from shared.model.features.brand import match_brand
from shared.model.features.build import host_words
from shared.model.features.fold import fold_column, raw_column


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("   ", ""),
        ("a\tb\n c", "a b c"),
        ("ＶＥＬＴＲＩＮＥ", "veltrine"),
        ("V.e.l.t.r.i.n.e", "veltrine"),
        ("t-shirt", "tshirt"),
        ("1.5 kg", "1.5 kg"),
        ("a b c", "a b c"),
        ("𝓥eltrine", "veltrine"),
        ("ΑΒΕ", "abe"),
        ("が", "が"),
        ("Straße", "straße"),
    ],
)
def test_fold(written: str, read: str) -> None:
    assert fold_column([written]).texts() == [read]


def test_rows_do_not_leak_into_each_other() -> None:
    texts = ["a", "b", "c", "d", "", "e f", "g\nh", "x-", "-y", "rep\u200b", "\u200blica"]
    folded = fold_column(texts).texts()
    assert folded == [fold_column([text]).texts()[0] for text in texts]
    assert raw_column(texts).texts() == [raw_column([text]).texts()[0] for text in texts]
    assert fold_column([]).texts() == []


@pytest.mark.parametrize(
    ("title", "kind", "written"),
    [
        ("New VELTRINE bag", "exact", ""),
        ("Veltr1ne bag", "digit", "Veltr1ne"),
        ("bag V3ltrine!", "digit", "V3ltrine"),
        ("Vеltrine bag", "lookalike", "Vеltrine"),
        ("「Vеltrinе bag」", "lookalike", "Vеltrinе"),
        ("Vel\u200btrine bag", "hidden", "Vel\u200btrine"),
        ("V e l t r i n e bag", "spaced", "V e l t r i n e"),
        ("Vel-trine bag", "spaced", "Vel-trine"),
        ("Veltine bag", "misspelt", "veltine"),
        ("Vletrine bag", "misspelt", "vletrine"),
        ("leather bag", "absent", ""),
        ("", "absent", ""),
    ],
)
def test_brand(title: str, kind: str, written: str) -> None:
    folded = fold_column([title]).texts()[0]
    assert match_brand(title, folded, "Veltrine") == (kind, written)


def test_brands_that_cannot_be_searched() -> None:
    assert match_brand("any", "any", None).kind == "unknown"
    assert match_brand("any", "any", "  ").kind == "unknown"
    # Three letters occur inside other words, and are one letter from very many.
    assert match_brand("l0o bag", "l0o bag", "Loo").kind == "absent"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("www.b-watches.shop", "b-watches"),
        ("outlet.veltrine.co.uk", "outlet.veltrine"),
        ("kanto.lt", "kanto"),
        ("www.com", "www"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_the_country_is_no_part_of_a_host(host: str, words: str) -> None:
    assert host_words(host) == words
