"""The language of a column of texts, where its letters or commonest words give it away."""

from __future__ import annotations

import polars as pl

SURE = 0.8
"""Share of the texts that must look like one language."""

_LETTERS = {
    "ja": r"[\p{Hiragana}\p{Katakana}]",
    "ko": r"\p{Hangul}",
    "zh": r"\p{Han}",
    # Letters that Russian has and its neighbours Ukrainian and Bulgarian have not both.
    "ru": r"[ыэё]",
}
_WORDS = {
    "en": ("the", "and", "with", "for", "new", "of"),
    "de": ("und", "mit", "der", "die", "das", "für", "neu"),
    "fr": ("le", "la", "les", "avec", "et", "pour", "neuf", "des"),
    "es": ("el", "los", "con", "para", "nuevo", "y", "del"),
}
_LONG = 20
"""Characters below which a text need not hold a common word."""


def language_of(texts: pl.Series) -> str:
    """Return the code of the language of most texts, or an empty text where it is not sure."""
    known = texts.drop_nulls().str.to_lowercase().filter(texts.drop_nulls() != "")
    if known.is_empty():
        return ""
    for code, letters in _LETTERS.items():
        script = r"\p{Cyrillic}" if code == "ru" else letters
        in_script = float(known.str.contains(script).mean() or 0)  # type: ignore[arg-type]
        if in_script >= SURE and known.str.contains(letters).any():
            return code
    long = known.filter(known.str.len_chars() >= _LONG)
    if long.is_empty():
        return ""
    hits = {
        code: long.str.contains(rf"(?:^|\P{{L}})(?:{'|'.join(words)})(?:\P{{L}}|$)")
        for code, words in _WORDS.items()
    }
    best = max(hits, key=lambda code: int(hits[code].sum()))
    only = hits[best]
    for code, found in hits.items():
        if code != best:
            only = only & ~found
    return best if float(only.mean() or 0) >= SURE else ""  # type: ignore[arg-type]
