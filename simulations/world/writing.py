"""Titles and descriptions: what a listing says, honest or not."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.world.catalogue import Product
from simulations.world.draws import Draws
from simulations.world.laws import (
    DECORATED,
    DECORATED_TACTIC,
    HONEST,
    HONEST_TYPO,
    INNOCENT_GLYPH,
    MECHANISMS,
    Honest,
)
from simulations.world.obfuscation import homoglyph, mistype, obfuscate, zero_width
from simulations.world.tactics import TEMPLATES, Tactic
from simulations.world.texts import CODE_CONCEPTS, JARGON_CONCEPTS, Lexicon, lexicon

__all__ = ["Wording", "counterfeit_wording", "honest_wording"]


@dataclass(frozen=True)
class Wording:
    """The text of one listing; the flags are truth, not part of it."""

    title: str
    description: str
    code_word: bool = False
    obfuscated: bool = False


def _assemble(
    lex: Lexicon, title: list[str], phrases: list[str], draws: Draws, template: str, **flags: bool
) -> Wording:
    """Join the parts; phrases are shuffled so that their order says nothing."""
    draws.shuffle(phrases)
    heading = template.format(" ".join(part for part in title if part))
    joint = lex.separator if lex.language == "zh" else ". "
    return Wording(heading, joint.join(phrases), **flags)


def _title(lex: Lexicon, product: Product, brand: str, draws: Draws, attributes: int) -> list[str]:
    words = lex.categories[product.category]
    return [
        brand,
        product.model if draws.chance(0.8) else "",
        words["nouns"][product.noun],
        *draws.some(words["attributes"], attributes),
    ]


def honest_wording(kind: str, product: Product, language: str, draws: Draws) -> Wording:
    """Write an honest listing of ``kind``."""
    lex, law = lexicon(language), HONEST[kind]
    brand = product.brand
    if draws.chance(HONEST_TYPO):
        brand = mistype(brand, draws)
    elif draws.chance(INNOCENT_GLYPH):
        brand = draws.choice((homoglyph, zero_width))(brand, draws)
    title = _title(lex, product, brand, draws, draws.randint(1, 3))
    phrases = draws.some(lex.honest, draws.randint(2, 5))
    phrases += [lex.jargon[c] for c in draws.some(JARGON_CONCEPTS, draws.count(law.jargon))]
    code_word = _give_away(kind, law, lex, title, phrases, product, draws)
    template = draws.choice(TEMPLATES) if draws.chance(DECORATED) else "{}"
    return _assemble(lex, title, phrases, draws, template, code_word=code_word)


def _give_away(
    kind: str,
    law: Honest,
    lex: Lexicon,
    title: list[str],
    phrases: list[str],
    product: Product,
    draws: Draws,
) -> bool:
    """Add what tells the kind, and perhaps an innocent code word; return whether it is there."""
    code = lex.code_words[draws.choice(CODE_CONCEPTS)]
    if kind == "warns":
        warning = draws.choice(lex.kinds[kind])
        phrases.append(warning.format(code=code))
        return "{code}" in warning
    if kind in ("accessory", "inspired"):
        words = lex.kinds[kind]
        if kind == "accessory":
            title[2] = draws.choice(lex.categories[product.category]["accessories"])
        title[0] = f"{draws.choice(words)} {title[0]}" if not draws.chance(law.silent) else title[0]
    elif kind in lex.kinds and not draws.chance(law.silent):
        (title if draws.chance(0.6) else phrases).append(draws.choice(lex.kinds[kind]))
    if draws.chance(law.code_words):
        (title if draws.chance(0.5) else phrases).append(code)
        return True
    return False


def counterfeit_wording(
    mechanism: str,
    tactic: Tactic | None,
    product: Product,
    language: str,
    draws: Draws,
    *,
    hide: float,
    code_words: bool,
) -> Wording:
    """Write a counterfeit listing in the manner of ``tactic``, or of nobody.

    Args:
        mechanism: how the counterfeit is sold.
        tactic: None for a seller who follows no tactic and writes much like anybody else.
        product: what is offered.
        language: of the text.
        draws: source of randomness.
        hide: probability that the brand or the code word is obfuscated.
        code_words: False in the control world without them.
    """
    lex, law = lexicon(language), MECHANISMS[mechanism]
    brand, code = product.brand, ""
    coded = code_words and draws.chance(law.code_words * (1.0 if tactic else 0.5))
    if coded:
        code = lex.code_words[draws.choice(tactic.code_words if tactic else CODE_CONCEPTS)]
    obfuscated = draws.chance(hide if tactic else hide / 2)
    if obfuscated and coded and draws.chance(0.4):
        code = obfuscate(code, draws)
    elif obfuscated:
        brand = obfuscate(brand, draws)
    elif draws.chance(HONEST_TYPO):
        brand = mistype(brand, draws)
    title = _title(lex, product, brand, draws, draws.randint(1, 3))
    phrases = draws.some(lex.honest, draws.randint(1, 4))
    phrases += _jargon(lex, tactic, law.jargon, draws)
    if mechanism == "hidden_link":
        title[0:2] = []
        phrases.append(lex.jargon[draws.choice(("link", "dummy"))])
    if mechanism == "refill" and draws.chance(0.4):
        phrases.append(lex.jargon[draws.choice(("refill", "seal"))])
    if code:
        (title if draws.chance(0.5) else phrases).append(code)
    if draws.chance(0.12):
        phrases.append(draws.choice([w for k in ("used", "outlet", "grey") for w in lex.kinds[k]]))
    template = tactic.template if tactic and draws.chance(DECORATED_TACTIC) else "{}"
    return _assemble(lex, title, phrases, draws, template, code_word=coded, obfuscated=obfuscated)


def _jargon(lex: Lexicon, tactic: Tactic | None, rate: float, draws: Draws) -> list[str]:
    if tactic is None:
        return [lex.jargon[c] for c in draws.some(JARGON_CONCEPTS, draws.count(rate))]
    return [lex.jargon[c] for c in tactic.jargon if draws.chance(rate)]
