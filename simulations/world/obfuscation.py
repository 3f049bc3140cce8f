"""How sellers hide a word from filters, and how honest people mistype one."""

from __future__ import annotations

from collections.abc import Callable

from simulations.world.draws import Draws

_LEET = {"e": "3", "i": "1", "o": "0", "a": "4", "s": "5", "t": "7"}
_CONFUSABLE = {
    "a": "а", "e": "е", "o": "о", "c": "с", "p": "р", "x": "х", "i": "і",
    "A": "А", "K": "К", "M": "М", "T": "Т", "H": "Н", "O": "О", "C": "С",
}  # fmt: skip
_ZERO_WIDTH = "\u200b"


def _swap(table: dict[str, str], word: str, draws: Draws) -> str:
    places = [i for i, letter in enumerate(word) if letter in table]
    letters = list(word)
    for place in draws.some(places, draws.choice((1, 1, 2))):
        letters[place] = table[letters[place]]
    return "".join(letters)


def leet(word: str, draws: Draws) -> str:
    """Replace one or two letters by digits that look like them."""
    return _swap(_LEET, word, draws)


def homoglyph(word: str, draws: Draws) -> str:
    """Replace one or two Latin letters by Cyrillic ones of the same shape."""
    return _swap(_CONFUSABLE, word, draws)


def zero_width(word: str, draws: Draws) -> str:
    """Put an invisible space into the word."""
    place = draws.randrange(1, max(2, len(word)))
    return word[:place] + _ZERO_WIDTH + word[place:]


def spaced(word: str, draws: Draws) -> str:
    """Write the word letter by letter."""
    return draws.choice((" ", ".", "-")).join(word.replace(" ", ""))


def dropped(word: str, draws: Draws) -> str:
    """Leave out one inner letter; also what an honest typist does."""
    if len(word) < 4:
        return word
    place = draws.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1 :]


def swapped(word: str, draws: Draws) -> str:
    """Exchange two neighbouring letters: the other honest typo."""
    if len(word) < 4:
        return word
    place = draws.randrange(1, len(word) - 2)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


_HIDING: tuple[Callable[[str, Draws], str], ...] = (leet, homoglyph, zero_width, spaced, dropped)


def obfuscate(word: str, draws: Draws) -> str:
    """Hide ``word`` by one of the five ways; the result always differs for words of 4 letters."""
    hidden = draws.choice(_HIDING)(word, draws)
    return hidden if hidden != word else zero_width(word, draws)


def mistype(word: str, draws: Draws) -> str:
    """Return ``word`` with an honest typo."""
    return draws.choice((dropped, swapped))(word, draws)
