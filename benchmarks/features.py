"""Features per second, beside scikit-learn's HashingVectorizer on the same titles.

Run: ``python benchmarks/features.py``. One core; prints rows/s and ratios, the median of repeats.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import HashingVectorizer

from shared.model.features.build import build_features
from shared.model.features.fold import fold_column
from shared.model.features.text import char_pieces
from simulations.world import WorldConfig, generate

ROWS = 20_000
REPEATS = 5
BITS = 18
CHUNK = 4096


def seconds(work: Callable[[], object]) -> float:
    """Return the median processor time of a piece of work: other load does not count."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def listings() -> pl.DataFrame:
    """Return listings of the synthetic world, repeated up to the wanted number."""
    world = generate(WorldConfig())
    frame = pl.concat([member.listings for member in world.members.values()])
    index = np.arange(ROWS) % frame.height
    return frame[index]


def our_titles(titles: list[str]) -> None:
    """Fold and hash the character 3-5-grams of titles, chunk by chunk as training does."""
    for start in range(0, len(titles), CHUNK):
        char_pieces("title", fold_column(titles[start : start + CHUNK]), BITS)


def main() -> None:
    """Measure and print."""
    frame = listings()
    titles = frame["title"].fill_null("").to_list()
    theirs = HashingVectorizer(
        analyzer="char", ngram_range=(3, 5), n_features=1 << BITS, alternate_sign=False
    )
    as_of = frame["created_at"].max()
    base = seconds(lambda: theirs.transform(titles))
    ours = seconds(lambda: our_titles(titles))
    whole = seconds(lambda: build_features(frame, "listings", hash_bits=BITS, as_of=as_of))
    tokens = build_features(frame, "listings", hash_bits=BITS, as_of=as_of).ids.size / ROWS
    figures = {
        "title character 3-5-grams, folded, rows/s": round(ROWS / ours),
        "the same with HashingVectorizer, unfolded, rows/s": round(ROWS / base),
        "ratio": round(base / ours, 1),
        "whole listings, rows/s": round(ROWS / whole),
        "tokens in a listing": round(tokens),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
