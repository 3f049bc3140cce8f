"""What a column's values look like: numbers, dates, words, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from participant.ingest import parsing
from participant.ingest.guess.words import MISSING
from participant.ingest.mapping import DEFAULT_DATES, Writing
from participant.ingest.parsing import Spelling

Shape = Literal["empty", "number", "date", "url", "host", "words", "text", "json", "hashes"]

UNDERSTOOD = 0.98
"""Share of values that a way of reading must understand; the rest are slips."""

MAX_STYLES = 4
"""Ways in which one column's dates may be written; more are no ways but accidents."""

MAX_WORDS = 40
"""Different values up to which a column is a vocabulary."""

SENTINEL_SHARE = 0.02
"""Share from which a -1 among numbers that are never below 0 stands for "not known"."""

_CURRENCIES = {
    "€": "EUR", "EUR": "EUR", "$": "USD", "USD": "USD", "£": "GBP", "GBP": "GBP", "¥": "JPY",
    "CNY": "CNY", "₽": "RUB", "руб.": "RUB", "CHF": "CHF", "zł": "PLN",
}  # fmt: skip
_NUMBER_STYLES = ((".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (",", "\u00a0"),
                  (",", "\u202f"), (".", "'"), (".", " "))  # fmt: skip
_DATE_STYLES = (
    "%Y-%m-%d %H:%M", "%Y.%m.%d", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%Y%m%d",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M",
    "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y",
    "%b %d, %Y", "%d %B %Y",
)  # fmt: skip
_URL = r"^(?i)[a-z][a-z0-9+.-]*://"
_HOST = r"^(?i)(?:[a-z0-9-]+\.)+[a-z]{2,}$"
_UNIX_FROM, _UNIX_TO = 946_684_800, 4_102_444_800  # the years 2000 to 2100


AS_USUAL = Writing()
"""Values are written as a mapping assumes unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one column of a sample looks like.

    Attributes:
        name: The column.
        shape: What its values are.
        writing: How they are written, beyond the defaults.
        filled: Share of rows with a value.
        distinct: Share of different values among these.
        words: The values of a small vocabulary, as they are written; empty for others.
        length: Mean characters of a value.
        doubt: Another way of writing that fits as well, in words; empty if there is none.
        currency: ISO code of the currency sign written beside the numbers, if any.
    """

    name: str
    shape: Shape
    writing: Writing = AS_USUAL
    filled: float = 0.0
    distinct: float = 0.0
    words: tuple[str, ...] = ()
    length: float = 0.0
    doubt: str = ""
    currency: str = ""

    @property
    def whole_key(self) -> bool:
        """Whether the column could identify the rows: always there, never twice."""
        return self.filled == 1.0 and self.distinct == 1.0


def look_at(name: str, column: pl.Series) -> Look:
    """Return what a column looks like."""
    if column.dtype.is_nested():
        hashes = column.dtype == pl.List(pl.String)
        return Look(name, "hashes" if hashes else "json", filled=1.0)
    if column.dtype != pl.String:
        return _typed(name, column)
    text = column.str.strip_chars()
    nulls = [word for word in MISSING if (text == word).any()]
    known = text.filter(~text.is_in(["", *nulls])).drop_nulls()
    if known.is_empty():
        return Look(name, "empty")
    base = Look(
        name,
        "text",
        Writing(nulls=tuple(nulls) or None),
        filled=len(known) / len(column),
        distinct=known.n_unique() / len(known),
        words=_vocabulary(known),
        length=float(known.str.len_chars().mean() or 0),  # type: ignore[arg-type]
    )
    return _number(base, known) or _date(base, known) or _texts(base, known)


def _typed(name: str, column: pl.Series) -> Look:
    known = column.drop_nulls()
    if known.is_empty():
        return Look(name, "empty")
    shape: Shape = "date" if column.dtype.is_temporal() else "number"
    look = Look(
        name,
        shape,
        filled=len(known) / len(column),
        distinct=known.n_unique() / len(known),
        words=_vocabulary(known.cast(pl.String)),
    )
    if shape == "date":
        return look
    return _with_sentinel(look, known.cast(pl.Float64))


def _vocabulary(known: pl.Series) -> tuple[str, ...]:
    if known.n_unique() > MAX_WORDS:
        return ()
    return tuple(sorted(known.unique().to_list()))


def _spelling(writing: Writing) -> Spelling:
    return Spelling.of(writing, AS_USUAL)


def _share(parsed: parsing.Parsed) -> float:
    return 1.0 - float(parsed.values.null_count()) / max(len(parsed.values), 1)


def _number(base: Look, known: pl.Series) -> Look | None:
    sign = next((sign for sign in _CURRENCIES if known.str.contains(sign, literal=True).all()), "")
    strip = f"{sign} " if sign else ""
    fits: list[Writing] = []
    for decimal, thousands in _NUMBER_STYLES:
        writing = base.writing.model_copy(
            update={
                "decimal": decimal if decimal != "." else None,
                "thousands": thousands or None,
                "strip": strip or None,
            }
        )
        if thousands and not known.str.contains(thousands, literal=True).any():
            continue
        grouped = rf"^\D*\d{{1,3}}(?:[{thousands}]\d{{3}})*(?:[{decimal}]\d+)?\D*$"
        if thousands and not known.str.contains(grouped).all():
            continue
        if _share(parsing.number(known, _spelling(writing))) >= UNDERSTOOD:
            fits.append(writing)
    if not fits or known.str.contains(r"^0\d+$").any():  # leading noughts: a number in name only
        return None
    values = parsing.number(known, _spelling(fits[0])).values.drop_nulls()
    doubt = ""
    # "1.234" is a thousand in Berlin and little more than one in Boston.
    if len(fits) > 1 and known.str.contains(r"^\D*\d{1,3}[.,]\d{3}\D*$").all():
        doubt = "the sign may group thousands or begin the fraction"
    look = replace(
        base, shape="number", writing=fits[0], doubt=doubt, currency=_CURRENCIES.get(sign, "")
    )
    return _with_sentinel(look, values)


def _with_sentinel(look: Look, values: pl.Series) -> Look:
    missing = float((values == -1).mean() or 0)  # type: ignore[arg-type]
    if not (SENTINEL_SHARE <= missing < 1 and (values.filter(values != -1) >= 0).all()):
        return look
    nulls = (*(look.writing.nulls or ()), "-1")
    return replace(look, writing=look.writing.model_copy(update={"nulls": nulls}))


def _date(base: Look, known: pl.Series) -> Look | None:
    fits = {style: _share(_times(known, (style,))) for style in (*DEFAULT_DATES, *_DATE_STYLES)}
    chosen: list[str] = []
    share = 0.0
    for style in sorted(fits, key=lambda style: -fits[style]):
        more = _share(_times(known, (*chosen, style)))
        if share < 1.0 and more > share and len(chosen) < MAX_STYLES:
            chosen.append(style)
            share = more
    if share < UNDERSTOOD:
        return None
    day_first = [style for style in chosen if style.startswith("%d/")]
    month_first = [style for style in chosen if style.startswith("%m/")]
    doubt = ""
    for style in (*day_first, *month_first):
        other = "%m/%d" + style[5:] if style in day_first else "%d/%m" + style[5:]
        if fits[other] == fits[style]:
            doubt = f"{other} fits as well: which is the day?"
    usual = set(chosen) <= set(DEFAULT_DATES)
    writing = base.writing.model_copy(update={"dates": None if usual else tuple(chosen)})
    return replace(base, shape="date", writing=writing, words=(), doubt=doubt)


def _times(known: pl.Series, dates: tuple[str, ...]) -> parsing.Parsed:
    return parsing.time(known, _spelling(Writing(dates=dates)))


def unix_writing(column: pl.Series) -> Writing | None:
    """Return the writing of numbers that are moments since 1970, or None if they are not."""
    values = column.cast(pl.Float64, strict=False).drop_nulls()
    for name, scale in (("unix", 1), ("unix_ms", 1_000)):
        if len(values) and values.is_between(_UNIX_FROM * scale, _UNIX_TO * scale).all():
            return Writing(dates=(name,))
    return None


def _texts(base: Look, known: pl.Series) -> Look:
    for pattern, shape in ((_URL, "url"), (_HOST, "host"), (r"^\s*\{.*\}\s*$", "json")):
        if float(known.str.contains(pattern).mean() or 0) >= UNDERSTOOD:  # type: ignore[arg-type]
            return replace(base, shape=shape, words=())  # type: ignore[arg-type]
    if base.words and base.distinct < 0.5:
        return replace(base, shape="words")
    return replace(base, words=base.words if base.distinct < 0.5 else ())
