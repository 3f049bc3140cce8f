"""Near-duplicates: copies with a word changed are found, strangers are not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from participant.contract.minhash import MIN_WORDS, clusters

WORDS = np.array([f"word{number}" for number in range(400)])


@pytest.fixture
def draw() -> np.random.Generator:
    """The same draws in each test, whatever ran before."""
    return np.random.Generator(np.random.Philox(5))


def texts(draw: np.random.Generator, count: int, words: int) -> list[str]:
    return [" ".join(draw.choice(WORDS, words)) for _ in range(count)]


def changed(draw: np.random.Generator, text: str, places: int) -> str:
    words = text.split()
    for at in draw.choice(len(words), places, replace=False):
        words[at] = f"other{at}"
    return " ".join(words)


def found(pairs: list[tuple[str, str]]) -> float:
    """Return the share of pairs whose halves lie in one cluster."""
    names = clusters(pl.Series([text for pair in pairs for text in pair]))
    first, second = names[::2], names[1::2]
    return float(((first == second) & (first >= 0)).mean())


@pytest.mark.parametrize(
    ("places", "least", "most"),
    # 60 words have 59 neighbouring pairs; k changed words break some 2k of them:
    # Jaccard 1, .93, .87, then .48 and .18.
    [(0, 1.0, 1.0), (1, 0.97, 1.0), (2, 0.75, 1.0), (11, 0.0, 0.05), (24, 0.0, 0.0)],
)
def test_likeness_decides(
    draw: np.random.Generator, places: int, least: float, most: float
) -> None:
    pairs = [(text, changed(draw, text, places)) for text in texts(draw, 400, 60)]
    assert least <= found(pairs) <= most


def test_strangers_stay_alone(draw: np.random.Generator) -> None:
    assert (clusters(pl.Series(texts(draw, 2000, 40))) == -1).all()


def test_a_template_is_one_cluster_however_many_follow_it(draw: np.random.Generator) -> None:
    template = texts(draw, 1, 40)[0]
    followers = [f"{template} {word}" for word in WORDS]
    names = clusters(pl.Series([*followers, *texts(draw, 100, 40)]))
    assert (names[:400] == names[0]).all()
    assert (names[400:] == -1).all()


def test_case_marks_and_width_make_no_difference() -> None:
    plain = "veltrine shoulder bag black leather new with receipt"
    loud = "VELTRINE  shoulder-bag, black: ｌｅａｔｈｅｒ! (new) with receipt."
    assert found([(plain, loud)]) == 1.0


def test_chinese_and_japanese_need_no_spaces() -> None:
    assert found([("全新正品真皮女士单肩包黑色", "全新正品真皮女士单肩包黑色 ")]) == 1.0
    assert found([("全新正品真皮女士单肩包黑色", "二手手机壳蓝色防摔透明软壳")]) == 0.0


def test_short_texts_and_missing_ones_are_no_copies() -> None:
    short = " ".join(["bag"] * (MIN_WORDS - 1))
    assert clusters(pl.Series([short, short, None, None, "", ""])).tolist() == [-1] * 6
    assert clusters(pl.Series([], dtype=pl.String)).tolist() == []
    assert clusters(pl.Series([None], dtype=pl.String)).tolist() == [-1]


def test_the_same_texts_in_another_order_have_the_same_partners(draw: np.random.Generator) -> None:
    bases = texts(draw, 30, 40)
    mixed = [text for base in bases for text in (base, changed(draw, base, 1))]
    order = draw.permutation(len(mixed))
    names = clusters(pl.Series(mixed))
    shuffled = clusters(pl.Series([mixed[at] for at in order]))
    together = {(a, b) for a in range(60) for b in range(a) if names[a] == names[b] != -1}
    back = np.argsort(order)
    again = {
        (a, b) for a in range(60) for b in range(a) if shuffled[back[a]] == shuffled[back[b]] != -1
    }
    assert together == again
