"""Which of a file's columns is which of ours, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from participant.ingest.guess.looks import Look, Shape
from participant.ingest.guess.words import (
    FLAGS,
    MEANINGS,
    SAYS_FAKE,
    fold,
    likeness,
    tells_answer,
)
from shared.domain.schemas import KEY_COLUMNS, SCHEMAS
from shared.domain.vocabulary import MAX_SIGNALS, Kind

SURE = 0.6
"""Likeness from which a column is taken."""

NEAR = 0.08
"""A second column this close makes the choice a guess, unless the first has the very name."""

_SHAPES: dict[str, tuple[Shape, ...]] = {
    **dict.fromkeys(("price", "list_price", "seller_rating", "quantity"), ("number",)),
    **dict.fromkeys(
        ("created_at", "updated_at", "seller_created_at", "decided_at", "reversed_at"), ("date",)
    ),
    **dict.fromkeys(("title", "description", "text"), ("text", "words")),
    **dict.fromkeys(("brand", "category", "seller_name", "marketplace"), ("text", "words")),
    **dict.fromkeys(("language", "currency", "ship_from"), ("words", "text")),
    **dict.fromkeys(("verdict", "source", "claim", "label"), ("words", "number")),
    "url": ("url",),
    "host": ("host", "url"),
    "image_hashes": ("hashes", "text", "words", "number"),
    "signals": ("json",),
}
_MOSTLY_ONCE = 0.9
"""Few listings are judged twice: a column that repeats more often names something larger."""

_KEYS: tuple[Shape, ...] = ("text", "words", "number", "url", "host")


@dataclass(frozen=True, slots=True)
class Choice:
    """A file's column as one of ours.

    Attributes:
        ours: Our column.
        look: The file's column.
        values: The file's words -> ours, where they differ.
        extract: ``host`` to take the host out of a URL, else empty.
        doubt: Why a person has to decide; empty when the choice is taken.
    """

    ours: str
    look: Look
    values: dict[str, str] = field(default_factory=dict)
    extract: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What each of a file's columns becomes.

    Attributes:
        columns: Choices for our columns, taken or in doubt, in our order.
        signals: Signal name -> look.
        unsure_signals: Signal name -> look with a doubt.
        drop: File's column -> reason.
    """

    columns: tuple[Choice, ...]
    signals: dict[str, Look]
    unsure_signals: dict[str, Look]
    drop: dict[str, str]


def assign(kind: Kind, looks: list[Look]) -> Assignment:
    """Return what each column of a file becomes."""
    taken, doubtful = _columns(kind, looks)
    used = {choice.look.name for choice in (*taken, *doubtful)}
    signals: dict[str, Look] = {}
    unsure: dict[str, Look] = {}
    drop: dict[str, str] = {}
    for look in looks:
        if look.name in used:
            continue
        reason = _not_a_signal(kind, look, len(signals))
        if reason:
            drop[look.name] = reason
        else:
            (unsure if look.doubt else signals)[_signal_name(look, signals | unsure)] = look
    order = list(SCHEMAS[kind])
    found = sorted((*taken, *doubtful), key=lambda choice: order.index(choice.ours))
    return Assignment(tuple(found), signals, unsure, drop)


def _columns(kind: Kind, looks: list[Look]) -> tuple[list[Choice], list[Choice]]:
    scores = sorted(
        ((_score(kind, ours, look), ours, look) for ours in SCHEMAS[kind] for look in looks),
        key=lambda one: -one[0],
    )
    taken: dict[str, Choice] = {}
    doubtful: list[Choice] = []
    used: set[str] = set()
    for score, ours, look in scores:
        if score < SURE or ours in taken or look.name in used:
            continue
        rivals = [
            other
            for value, mine, other in scores
            if mine == ours and other.name not in used and value >= max(SURE, score - NEAR)
        ]
        choice = _choice(ours, look)
        if len(rivals) > 1 and score < 1.0:
            doubtful += [_choice(ours, rival, "several columns could be it") for rival in rivals]
            used |= {rival.name for rival in rivals}
            taken[ours] = choice
        elif choice.doubt:
            doubtful.append(choice)
            used.add(look.name)
            taken[ours] = choice
        else:
            taken[ours] = choice
            used.add(look.name)
    if kind == "shops":
        _addresses(taken, looks)
    unsure = {choice.ours for choice in doubtful}
    return [choice for ours, choice in taken.items() if ours not in unsure], doubtful


def _addresses(taken: dict[str, Choice], looks: list[Look]) -> None:
    """Take a shop's id, host and URL from the same column where there is but one address."""
    found = [look for look in looks if look.shape in ("url", "host") and look.filled == 1.0]
    if len(found) != 1:
        return
    for ours in ("shop_id", "host"):
        if ours not in taken or taken[ours].look is found[0]:
            taken[ours] = Choice(ours, found[0], extract="host")
    if found[0].shape == "url":
        taken.setdefault("url", Choice("url", found[0]))


def _score(kind: Kind, ours: str, look: Look) -> float:
    shapes = _SHAPES.get(ours, _KEYS)
    if look.shape not in shapes:
        return 0.0
    score = likeness(ours, look.name, kind)
    if (ours,) == KEY_COLUMNS[kind] and not look.whole_key:
        score *= 0.6
    if ours == "listing_id" and ours in KEY_COLUMNS[kind] and look.distinct < _MOSTLY_ONCE:
        score *= 0.8
    if ours == "currency" and not all(len(word) == 3 and word.isupper() for word in look.words):
        return 0.0
    if ours in _WORDS_OF and not look.words:
        return 0.0
    return score


_WORDS_OF = {"verdict": "verdict", "claim": "claim", "label": "label", "source": "source"}


def _choice(ours: str, look: Look, doubt: str = "") -> Choice:
    values: dict[str, str] = {}
    if ours in _WORDS_OF:
        values, unknown = _meanings(ours, look)
        if unknown and not doubt:
            doubt = f"{unknown} of its {len(look.words)} different values are not understood"
    extract = "host" if ours == "host" and look.shape == "url" else ""
    return Choice(ours, look, values, extract, doubt or look.doubt)


def _meanings(ours: str, look: Look) -> tuple[dict[str, str], int]:
    """Return the file's words -> ours, and how many have no meaning that is known."""
    if ours == "verdict" and fold(look.name) in SAYS_FAKE and _all_in(look.words, FLAGS):
        return {word: FLAGS[word.lower()] for word in look.words}, 0
    tables = [ours] if ours != "source" else ["verdict_source", "complaint_source"]
    found: dict[str, str] = {}
    for table in tables:
        meant = {
            word: our
            for word in look.words
            for our, words in MEANINGS[table].items()
            if fold(word) in (fold(our), *words)
        }
        found = max(found, meant, key=len)
    unknown = len(look.words) - len(found)
    same = all(word == our for word, our in found.items())
    return {} if same and not unknown else found, unknown


def _all_in(words: tuple[str, ...], known: dict[str, str]) -> bool:
    return bool(words) and all(word.lower() in known for word in words)


def _not_a_signal(kind: Kind, look: Look, signals: int) -> str:
    """Return why a column cannot be a signal, or an empty text."""
    folded = fold(look.name)
    plain = look.shape in ("text", "words") and look.length < 40
    if tells_answer(folded):
        return "it tells the answer"
    if "signals" not in SCHEMAS[kind]:
        return f"not a column of {kind}"
    if look.shape == "empty":
        return "empty in the rows that were looked at"
    if folded.split()[-1:] in (["id"], ["nr"], ["uuid"], ["guid"]) or (
        plain and look.distinct > 0.9 and look.filled > 0.5
    ):
        return "an identifier: a model would learn the records by heart"
    if look.shape == "date":
        return "a date tells when it was written down, not what it is"
    if look.shape not in ("number", "words") and not (plain and look.distinct < 0.5):
        return "free text or a list, no single fact"
    return "too many signals" if signals >= MAX_SIGNALS else ""


def _signal_name(look: Look, taken: dict[str, Look]) -> str:
    plain = look.name if look.name.isidentifier() else "_".join(fold(look.name).split())
    name = plain or "signal"
    while name in taken:
        name += "_"
    return name
