"""The words of synthetic listings, one TOML file a language, all with the same keys."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

LANGUAGES = ("en", "zh", "de", "fr", "es")
"""Languages of the world, ISO 639-1."""


@dataclass(frozen=True)
class Lexicon:
    """Everything a listing or complaint of one language is written with.

    Attributes:
        language: ISO 639-1 code.
        separator: what stands between two phrases of a description.
        categories: category -> ``nouns``, ``attributes``, ``accessories``.
        kinds: kind of honest offer -> words that give it away.
        code_words: concept -> what the trade writes for "counterfeit" in this language.
        jargon: concept -> phrase that counterfeiters favour and honest sellers use at times.
        honest: phrases everybody uses.
        complaints: claim -> complaint texts.
    """

    language: str
    separator: str
    categories: dict[str, dict[str, list[str]]]
    kinds: dict[str, list[str]]
    code_words: dict[str, str]
    jargon: dict[str, str]
    honest: list[str]
    complaints: dict[str, list[str]]


@cache
def lexicon(language: str) -> Lexicon:
    """Load the lexicon of ``language``, one of `LANGUAGES`."""
    text = resources.files(__package__).joinpath(f"{language}.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return Lexicon(
        language=language,
        separator=table["separator"],
        categories=table["categories"],
        kinds=table["kinds"],
        code_words=table["code_words"],
        jargon=table["jargon"],
        honest=table["honest"]["phrases"],
        complaints=table["complaints"],
    )


CODE_CONCEPTS = tuple(lexicon("en").code_words)
JARGON_CONCEPTS = tuple(lexicon("en").jargon)
