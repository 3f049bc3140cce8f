from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import polars as pl
import pytest

from participant.ingest import parsing
from participant.ingest.mapping import Writing
from participant.ingest.parsing import Parsed, Spelling
from shared.errors import ConfigError

BAD = "bad"


def spelling(**settings: object) -> Spelling:
    return Spelling.of(Writing(**settings), Writing())  # type: ignore[arg-type]


def told(parsed: Parsed) -> list[object]:
    """Values, with what was not understood as BAD."""
    pairs = zip(parsed.values.to_list(), parsed.bad.to_list(), strict=True)
    return [BAD if bad else value for value, bad in pairs]


def run(parse: Callable[..., Parsed], values: list[object], **settings: object) -> list[object]:
    return told(parse(pl.Series("x", values, strict=False), how=spelling(**settings)))


def test_numbers_as_they_are_written() -> None:
    assert run(parsing.number, ["1.5", " 2 ", "", None, "x", "1,5", "inf", "1e3", "NaN"]) == [
        1.5, 2.0, None, None, BAD, BAD, BAD, 1000.0, None,
    ]  # fmt: skip


def test_numbers_with_comma_groups_and_currency_signs() -> None:
    german = {"decimal": ",", "thousands": ".", "strip": "€ "}
    assert run(parsing.number, ["1.234,50 €", "€ 7", "3,5", "-2"], **german) == [
        1234.5, 7.0, 3.5, -2.0,
    ]  # fmt: skip
    assert run(parsing.number, ["1.5"], decimal=",") == [BAD], "a point must not pass for a comma"


def test_typed_numbers_and_their_sentinels() -> None:
    assert run(parsing.number, [1, -1, 3], nulls=("-1",)) == [1.0, None, 3.0]
    assert run(parsing.number, [1.5, float("nan"), float("inf"), None]) == [1.5, None, BAD, None]
    assert run(parsing.number, [True, False, None]) == [1.0, 0.0, None]


def test_whole_numbers() -> None:
    assert run(parsing.whole, ["3", "3.0", "3.5", "x", None, "1e30"]) == [
        3, 3, BAD, BAD, None, BAD,
    ]  # fmt: skip
    assert run(parsing.whole, [2**60, -5, None]) == [2**60, -5, None]
    assert run(parsing.whole, [3.0, 3.5, None]) == [3, BAD, None]


def test_text_is_stripped_and_identifiers_survive_float_columns() -> None:
    assert run(parsing.text, [" a ", "", "-", None, "b\u3000"], nulls=("-",)) == [
        "a", None, None, None, "b",
    ]  # fmt: skip
    assert run(parsing.text, [12.0, 12.5, None]) == ["12", "12.5", None]
    assert run(parsing.text, [7, None]) == ["7", None]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Example.com/a?b#c", "example.com"),
        ("http://user:pw@shop.example:8080/x", "shop.example"),
        ("//shop.example/x", "shop.example"),
        ("shop.example.", "shop.example"),
        ("WWW.shop.example", "shop.example"),
        ("https://bücher.example", "bücher.example"),
        ("localhost", BAD),
        ("not a url", BAD),
        ("", None),
        (None, None),
    ],
)
def test_hosts_out_of_urls(url: str | None, host: object) -> None:
    values = pl.Series("x", [url], dtype=pl.String)
    assert told(parsing.host(values, how=spelling())) == [host]


def test_times_in_the_default_patterns() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    written = [
        "2026-03-01T12:00:00Z",
        "2026-03-01T13:00:00+01:00",
        "2026-03-01T12:00:00.000",
        "2026-03-01 12:00:00",
        "2026-03-01",
        "01/03/2026",
        "",
        None,
    ]
    assert run(parsing.time, written) == [
        noon, noon, noon, noon, noon.replace(hour=0), BAD, None, None,
    ]  # fmt: skip


def test_times_in_other_patterns_and_zones() -> None:
    summer = datetime(2026, 7, 1, 10, tzinfo=UTC)
    berlin = {"dates": ("%d.%m.%Y %H:%M",), "timezone": "Europe/Berlin"}
    assert run(parsing.time, ["01.07.2026 12:00", "2026-07-01"], **berlin) == [summer, BAD]
    skipped, repeated = "29.03.2026 02:30", "25.10.2026 02:30"
    assert run(parsing.time, [skipped, repeated], **berlin) == [
        BAD, datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    ]  # fmt: skip
    assert run(parsing.time, ["1782900000"], dates=("unix",)) == [summer]
    assert run(parsing.time, [1782900000000], dates=("unix_ms",)) == [summer]
    assert run(parsing.time, ["Hidden"], nulls=("Hidden",)) == [None]


def test_typed_times() -> None:
    naive = pl.Series("x", [datetime(2026, 7, 1, 12)])  # noqa: DTZ001
    parsed = parsing.time(naive, how=spelling(timezone="Europe/Berlin"))
    assert told(parsed) == [datetime(2026, 7, 1, 10, tzinfo=UTC)]
    aware = naive.dt.replace_time_zone("Asia/Tokyo").dt.cast_time_unit("ms")
    parsed = parsing.time(aware, how=spelling())
    assert told(parsed) == [datetime(2026, 7, 1, 3, tzinfo=UTC)]
    days = pl.Series("x", [date(2026, 7, 1)])
    assert told(parsing.time(days, how=spelling())) == [datetime(2026, 7, 1, tzinfo=UTC)]


def test_numbers_are_no_times_unless_the_mapping_says_so() -> None:
    assert run(parsing.time, [1782900000]) == [BAD]


def test_words_are_mapped_and_unknown_ones_are_not() -> None:
    how = spelling(nulls=("?",))
    words: dict[str, str | int] = {"fraudulent": 1, "legitimate": 0}
    series = pl.Series("x", ["fraudulent", " legitimate", "?", "other", None])
    assert told(parsing.mapped(series, words, how)) == [1, 0, None, BAD, None]
    sources: dict[str, str | int] = {"1": "counterfeit", "0": "authentic"}
    numbers = pl.Series("x", [1, 0, 2])
    assert told(parsing.mapped(numbers, sources, how)) == ["counterfeit", "authentic", BAD]


def test_image_hashes_in_every_spelling() -> None:
    written = ["00ff|11aa", '["00ff", "11aa"]', "00ff; 11aa", "00ff", "", None]
    assert run(parsing.hashes, written) == [
        ["00ff", "11aa"], ["00ff", "11aa"], ["00ff", "11aa"], ["00ff"], None, None,
    ]  # fmt: skip


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="Mars"):
        spelling(timezone="Mars/Olympus")
