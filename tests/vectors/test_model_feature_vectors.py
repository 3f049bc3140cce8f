"""The hash against vectors made by a second, scalar implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared.model.features.fold import Codes, fold_column
from shared.model.features.hashing import token_hash
from shared.model.features.space import HASH_KEY
from shared.model.features.text import char_pieces, word_pieces
from shared.model.features.values import log_grid, number_pieces
from shared.model.layout import ModelSpec, feature_space_hash

FOLDER = Path(__file__).parent / "features"
VECTORS = json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))
BITS = 30
SHIFT = 32 - BITS


def _column(text: str) -> Codes:
    codes = np.array([ord(character) for character in text], dtype=np.uint32)
    return Codes(codes, np.zeros(codes.size, dtype=np.int32), 1)


def test_the_key_is_the_one_of_the_vectors() -> None:
    assert HASH_KEY.hex() == VECTORS["key"]


@pytest.mark.parametrize("case", VECTORS["tokens"])
def test_tokens(case: dict) -> None:
    assert token_hash(case["token"]) == case["hash"]


@pytest.mark.parametrize("case", VECTORS["ngrams"])
def test_character_ngrams(case: dict) -> None:
    pieces = char_pieces(case["field"], _column(case["text"]), BITS)
    found = next(piece for piece in pieces if piece.lengths[0] == len(case["text"]))
    assert found.ids.tolist() == [case["hash"] >> SHIFT]


@pytest.mark.parametrize("case", VECTORS["words"])
def test_words(case: dict) -> None:
    pieces = word_pieces(case["field"], _column(" ".join(case["words"])), BITS)
    found = pieces[len(case["words"]) - 1]
    assert found.ids.tolist() == [case["hash"] >> SHIFT]


@pytest.mark.parametrize("case", VECTORS["numbers"])
def test_numbers(case: dict) -> None:
    row = np.zeros(1, dtype=np.int32)
    pieces = number_pieces(case["name"], row, log_grid(np.array([case["value"]])), BITS)
    found = [[int(piece.ids[0]), float(piece.weights[0])] for piece in pieces]
    for (place, weight), (expected, share) in zip(found, case["bins"], strict=True):
        assert place == expected >> SHIFT
        assert weight == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(("written", "read"), VECTORS["folds"])
def test_folds(written: str, read: str) -> None:
    assert fold_column([written]).texts() == [read]


def test_the_space_has_one_name_for_ever() -> None:
    # A change here without a new FEATURE_VERSION would let old models read new tokens.
    recorded = json.loads((FOLDER / "space.json").read_text())
    assert feature_space_hash(ModelSpec(hash_bits=16)).hex() == recorded["16"]
    assert feature_space_hash(ModelSpec(hash_bits=18)).hex() == recorded["18"]
