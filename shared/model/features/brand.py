"""Does the title name the brand, and does it hide it?

Strings that look alike to a buyer are reduced further than the general fold reduces them: 0 and
o, 1 and l and i, 3 and e, and so on are one here, because here there is a word to compare with.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from shared.model.features.confusables import is_invisible
from shared.model.features.fold import fold_column

Match = Literal["exact", "digit", "lookalike", "hidden", "spaced", "misspelt", "absent", "unknown"]

MIN_BRAND = 4
"""Letters of a brand below which only the exact name counts: short names occur in other words."""

_LEET = str.maketrans(
    {
        "0": "o",
        "1": "l",
        "!": "l",
        "|": "l",
        "i": "l",
        "3": "e",
        "€": "e",
        "4": "a",
        "@": "a",
        "5": "s",
        "$": "s",
        "7": "t",
        "+": "t",
        "8": "b",
        "9": "g",
        "6": "b",
    }
)
_LEET_SIGNS = frozenset("€@$")
"""Signs that stand for a letter at the edge of a word; an exclamation mark there is only that."""

_LEET_CHARACTERS = frozenset("01!|3€4@5$7+896")
_NOT_WORD = re.compile(r"[\W_]+")
_CHUNKS = re.compile(r"\S+")


class BrandMatch(NamedTuple):
    """How a title names the brand, and the passage that does (empty if exact or absent)."""

    kind: Match
    written: str


def _reduce(text: str) -> str:
    """Return the letters of a folded text with look-alike digits as letters, no spaces."""
    return _NOT_WORD.sub("", text.translate(_LEET))


@lru_cache(maxsize=4096)
def _target(brand: str) -> str:
    return _reduce(fold_column([brand]).texts()[0])


def _one_edit_apart(word: str, brand: str) -> bool:
    """Tell whether one letter was dropped, doubled or swapped with its neighbour."""
    if abs(len(word) - len(brand)) > 1 or word == brand:
        return False
    if len(word) == len(brand):
        differing = [k for k, (a, b) in enumerate(zip(word, brand, strict=True)) if a != b]
        if len(differing) != 2 or differing[1] != differing[0] + 1:
            return False
        first, second = differing
        return word[first] == brand[second] and word[second] == brand[first]
    longer, shorter = (word, brand) if len(word) > len(brand) else (brand, word)
    return any(longer[:k] + longer[k + 1 :] == shorter for k in range(len(longer)))


def _how_hidden(written: str) -> Match:
    """Name the trick by which a passage that reads as the brand is not the brand."""
    if any(is_invisible(ord(character)) for character in written):
        return "hidden"
    if any(character.isspace() for character in written):
        return "spaced"
    if any(character in _LEET_CHARACTERS for character in written):
        return "digit"
    return "spaced" if _NOT_WORD.search(written) else "lookalike"


def _trimmed(passage: str) -> str:
    """Return a passage without the brackets and ornaments around it."""
    first, last = 0, len(passage)
    while first < last and not _belongs(passage[first]):
        first += 1
    while last > first and not _belongs(passage[last - 1]):
        last -= 1
    return passage[first:last]


def _belongs(character: str) -> bool:
    return character.isalnum() or character in _LEET_SIGNS


def _find_passage(title: str, target: str) -> str:
    """Return the shortest run of chunks of ``title`` whose reduction holds ``target``."""
    chunks = [match.group() for match in _CHUNKS.finditer(title)][:64]
    reduced = [_reduce(text) for text in fold_column(chunks).texts()]
    best = ""
    for start in range(len(chunks)):
        joined = ""
        for end in range(start, min(start + len(target) + 2, len(chunks))):
            joined += reduced[end]
            if target in joined:
                passage = " ".join(chunks[start : end + 1])
                best = passage if not best or len(passage) < len(best) else best
                break
    return best


def match_brand(title: str, folded_title: str, brand: str | None) -> BrandMatch:
    """Compare a title with the brand its listing claims.

    Args:
        title: as written.
        folded_title: the same after :func:`~shared.model.features.fold.fold_column`.
        brand: the listing's brand, None if it names none.
    """
    name = (brand or "").strip().lower()
    if not name:
        return BrandMatch("unknown", "")
    if name in title.lower():
        return BrandMatch("exact", "")
    target = _target(name)
    if len(target) < MIN_BRAND:
        return BrandMatch("absent", "")
    if target in _reduce(folded_title):
        passage = _trimmed(_find_passage(title, target))
        return BrandMatch(_how_hidden(passage), passage) if passage else BrandMatch("spaced", name)
    for chunk in folded_title.split():
        if len(target) > MIN_BRAND and _one_edit_apart(_reduce(chunk), target):
            return BrandMatch("misspelt", chunk)
    return BrandMatch("absent", "")
