"""A second implementation of the feature hash, one character at a time in plain integers.

Shares no code with ``shared.model.features``; writes ``tokens.json``:
``python tests/vectors/features/reference.py > tests/vectors/features/tokens.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys

KEY = hashlib.sha256(b"touchstone/features/v1").digest()[:16]
MASK = 0xFFFFFFFF


def token(text: str) -> int:
    """Keyed BLAKE2b-32, little-endian."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4, key=KEY).digest(), "little")


def fmix32(h: int) -> int:
    """MurmurHash3's finaliser."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & MASK
    h ^= h >> 13
    h = h * 0xC2B2AE35 & MASK
    return h ^ h >> 16


def ngram(field: str, text: str) -> int:
    """A character n-gram of a field."""
    h = token(f"{field}:char")
    for character in text:
        h = (h + (ord(character) * 0x85EBCA6B & MASK)) * 0x9E3779B1 & MASK
        h ^= h >> 15
    return fmix32(h)


def _word_state(word: str) -> int:
    state = 0
    for place, character in enumerate(word[:64]):
        mixed = ord(character) * 0x85EBCA6B & MASK
        mixed ^= mixed >> 15
        state = (state + mixed * pow(0x01000193, place, 1 << 32)) & MASK
    return state


def words(field: str, *parts: str) -> int:
    """A word, or two neighbouring words, of a field."""
    state = _word_state(parts[0]) + token(f"{field}:word") & MASK
    if len(parts) == 2:
        state = (state * 0x9E3779B1 + _word_state(parts[1])) & MASK
    return fmix32(state)


def number(name: str, value: float) -> list[list[float]]:
    """The two bins of a number on the signed-log grid: [hash, weight] each."""
    grid = math.copysign(math.log1p(abs(value) / 1e-3) / 0.5, value)
    grid = min(max(grid, -80.0), 80.0)
    low = math.floor(grid)
    hashes = [
        fmix32(((place + 81) * 0x9E3779B1 + token(f"{name}#")) & MASK) for place in (low, low + 1)
    ]
    return [[hashes[0], round(1 - (grid - low), 6)], [hashes[1], round(grid - low, 6)]]


def vectors() -> dict[str, object]:
    """Everything in the file."""
    grams = [("title", "rep"), ("title", "1:1"), ("title", "高仿手"), ("host", " shop")]
    pairs = [("title", ["replica"]), ("title", ["top", "batch"]), ("description", ["仿"])]
    pairs.append(("title", ["x" * 80]))
    numbers = [("price", 0.0), ("price", 129.9), ("signal.change", -3.5), ("price", 1e300)]
    tokens = ["category=bags", "price#null", "ship_from=HK", "signal.payment=转账"]
    return {
        "provenance": "tests/vectors/features/reference.py, plain integers, feature version 1",
        "key": KEY.hex(),
        "tokens": [{"token": text, "hash": token(text)} for text in tokens],
        "ngrams": [{"field": f, "text": t, "hash": ngram(f, t)} for f, t in grams],
        "words": [{"field": f, "words": w, "hash": words(f, *w)} for f, w in pairs],
        "numbers": [{"name": n, "value": v, "bins": number(n, v)} for n, v in numbers],
        "folds": [
            ["Vеltrinе Bag", "veltrine bag"],
            ["V e l t r i n e", "veltrine"],
            ["rep-lica 1:1", "replica 1:1"],
            ["Vel\u200btrine", "veltrine"],
            ["Réplique ＱＵＡＬＩＴÉ", "replique qualite"],
            ["高仿 A货", "高仿 a货"],
        ],
    }


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, ensure_ascii=False, indent=1)
