"""Turns one column of an export into one canonical column, a whole batch at a time.

Every function takes a polars Series of any type a file can hold and returns the parsed values
with a mask of the rows whose value was there but could not be understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import polars as pl

from participant.ingest.mapping import DEFAULT_DATES, Writing
from shared.domain.schemas import TIME
from shared.errors import ConfigError

_HOST = r"^(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?(?://)?(?:[^/?#@]*@)?(?i:www\.)?([^/?#:@\s]+)"
_WHOLE_SECONDS = "%Y-%m-%dT%H:%M:%SZ"
_IMAGE_HASH = r"""[^\s|;,"'\[\]]+"""


@dataclass(frozen=True, slots=True)
class Parsed:
    """Parsed values (null where unknown) and a Boolean mask of values not understood."""

    values: pl.Series
    bad: pl.Series


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one column's values are written, with every default filled in."""

    nulls: tuple[str, ...]
    dates: tuple[str, ...]
    timezone: str
    decimal: str
    thousands: str
    strip: str

    @classmethod
    def of(cls, column: Writing, defaults: Writing) -> Spelling:
        """Return the column's own settings over the mapping's over the product's.

        Raises:
            ConfigError: the time zone does not exist.
        """

        def pick(name: str, fallback: object) -> object:
            for level in (getattr(column, name), getattr(defaults, name)):
                if level is not None:
                    return level
            return fallback

        zone = str(pick("timezone", "UTC"))
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigError(f"there is no time zone {zone!r}") from error
        return cls(
            nulls=("", *pick("nulls", ())),  # type: ignore[misc]
            dates=tuple(pick("dates", DEFAULT_DATES)),  # type: ignore[arg-type]
            timezone=zone,
            decimal=str(pick("decimal", ".")),
            thousands=str(pick("thousands", "")),
            strip=str(pick("strip", "")),
        )


def text(series: pl.Series, how: Spelling) -> Parsed:
    """Return strings without surrounding white space; whole floats lose their ``.0``."""
    if series.dtype.is_float():
        whole = series.is_finite() & (series == series.floor()) & (series.abs() < 2**53)
        series = _choose(
            whole, series.cast(pl.Int64, strict=False).cast(pl.String), series.cast(pl.String)
        )
    if series.dtype != pl.String:
        series = series.cast(pl.String)
    return _understood(_without_nulls(series.str.strip_chars(), how))


def host(series: pl.Series, how: Spelling) -> Parsed:
    """Return host names out of URLs or bare hosts: lower case, no port, no leading ``www.``."""
    raw = text(series, how).values
    found = raw.str.extract(_HOST).str.to_lowercase().str.strip_chars_end(".")
    found = _choose(found.str.contains(".", literal=True), found)
    return _parsed(raw, found)


def number(series: pl.Series, how: Spelling) -> Parsed:
    """Return float64; NaN means unknown, infinity and other text are not understood."""
    raw = _numeric_source(series, how)
    values = raw
    if raw.dtype == pl.String:
        values = _plain_number(raw, how)
    values = values.cast(pl.Float64, strict=False)
    unknown = values.is_nan().fill_null(value=False)
    finite = _choose(values.is_finite(), values)
    return Parsed(finite, raw.is_not_null() & finite.is_null() & ~unknown)


def whole(series: pl.Series, how: Spelling) -> Parsed:
    """Return int64; a fraction is not understood."""
    if series.dtype.is_integer():
        raw = _numeric_source(series, how)
        return _parsed(raw, raw.cast(pl.Int64, strict=False))
    floats = number(series, how)
    exact = (floats.values == floats.values.floor()) & (floats.values.abs() < 2**53)
    values = _choose(exact, floats.values).cast(pl.Int64)
    return Parsed(values, floats.bad | (floats.values.is_not_null() & values.is_null()))


def time(series: pl.Series, how: Spelling) -> Parsed:
    """Return UTC times in microseconds; times without a zone are in ``how.timezone``."""
    if series.dtype.is_temporal():
        return _understood(_typed_time(series, how))
    raw = _numeric_source(series, how)
    values = pl.Series(series.name, [None], dtype=TIME).new_from_index(0, len(raw))
    for pattern in how.dates:
        missing = raw.is_not_null() & values.is_null()
        if not missing.any():
            break
        values = _choose(missing, _by_pattern(raw, pattern, how), values)
    return _parsed(raw, values)


def mapped(series: pl.Series, words: dict[str, str | int], how: Spelling) -> Parsed:
    """Return the word of ours for each word of the file; others are not understood."""
    raw = text(series, how).values
    numeric = all(isinstance(value, int) for value in words.values())
    kind = pl.Int64 if numeric else pl.String
    ours = [value if numeric else str(value) for value in words.values()]
    return _parsed(raw, raw.replace_strict(list(words), ours, default=None, return_dtype=kind))


def hashes(series: pl.Series, how: Spelling) -> Parsed:
    """Return lists of image hashes, from a list column or a text such as ``a|b`` or a JSON list."""
    if series.dtype == pl.List(pl.String):
        return _understood(series)
    raw = text(series, how).values
    return _understood(raw.str.extract_all(_IMAGE_HASH))


def json_text(series: pl.Series, how: Spelling) -> Parsed:
    """Return JSON objects as text, from text or from a struct column."""
    if series.dtype == pl.Struct:
        return _understood(series.struct.json_encode())
    return text(series, how)


def _numeric_source(series: pl.Series, how: Spelling) -> pl.Series:
    """Return text without nulls, or numbers without those that mean null."""
    if series.dtype == pl.Boolean:
        return series.cast(pl.Int64)
    if not series.dtype.is_numeric():
        return text(series, how).values
    sentinels = [value for value in map(_as_float, how.nulls) if value is not None]
    if not sentinels:
        return series
    return _choose(~series.cast(pl.Float64).is_in(sentinels), series)


def _as_float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _plain_number(raw: pl.Series, how: Spelling) -> pl.Series:
    if how.strip:
        raw = raw.str.strip_chars(how.strip).str.strip_chars()
    if how.thousands:
        raw = raw.str.replace_all(how.thousands, "", literal=True)
    if how.decimal != ".":
        # A point would now mean something else: such a value is not understood.
        raw = raw.str.replace_all(".", "?", literal=True)
        raw = raw.str.replace_all(how.decimal, ".", literal=True)
    return raw


def _typed_time(series: pl.Series, how: Spelling) -> pl.Series:
    if series.dtype == pl.Date:
        series = series.cast(pl.Datetime("us"))
    if getattr(series.dtype, "time_zone", None) is None:
        return _zoned(series, how)
    return series.dt.convert_time_zone("UTC").cast(TIME)


def _by_pattern(raw: pl.Series, pattern: str, how: Spelling) -> pl.Series:
    if pattern in ("unix", "unix_ms"):
        scale = 1_000_000 if pattern == "unix" else 1_000
        seconds = raw.cast(pl.Float64, strict=False)
        return (seconds * scale).cast(pl.Int64, strict=False).cast(TIME)
    if raw.dtype != pl.String:
        return pl.Series(raw.name, [None], dtype=TIME).new_from_index(0, len(raw))
    if pattern == "rfc3339":
        return _rfc3339(raw)
    if any(sign in pattern for sign in ("%z", "%:z", "%#z")):
        return raw.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    return _zoned(raw.str.to_datetime(pattern, time_unit="us", strict=False), how)


def _rfc3339(raw: pl.Series) -> pl.Series:
    # Nearly every export writes whole seconds in UTC, which a fixed pattern reads 4 times faster.
    usual = raw.str.to_datetime(_WHOLE_SECONDS, time_unit="us", strict=False, cache=False)
    if usual.null_count() == raw.null_count():
        return usual.dt.replace_time_zone("UTC")
    return raw.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)


def _zoned(naive: pl.Series, how: Spelling) -> pl.Series:
    # An hour that summer time repeats or skips is taken as the earlier or as unknown.
    return (
        naive.dt.replace_time_zone(how.timezone, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
        .cast(TIME)
    )


def _without_nulls(series: pl.Series, how: Spelling) -> pl.Series:
    if how.nulls == ("",):
        return _choose(series != "", series)
    return _choose(~series.is_in(list(how.nulls)), series)


def _choose(mask: pl.Series, yes: pl.Series, no: pl.Series | None = None) -> pl.Series:
    """Return ``yes`` where the mask is true, else ``no`` (null by default)."""
    other = pl.lit(None) if no is None else no
    return pl.select(pl.when(mask).then(yes).otherwise(other).alias(yes.name)).to_series()


def _understood(values: pl.Series) -> Parsed:
    return Parsed(values, pl.Series([False]).new_from_index(0, len(values)))


def _parsed(raw: pl.Series, values: pl.Series) -> Parsed:
    return Parsed(values, raw.is_not_null() & values.is_null())
