"""The fast pattern for signals may only vouch for what a JSON parser would accept."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from participant.ingest.checks import _PLAIN, _bad_signals, _good_signals

VALUES = st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers()
NOISE = st.text(alphabet='{}",:0123456789.eE-+ \\\n\tantrufl')


@given(st.one_of(NOISE, NOISE.map(lambda text: f'{{"a":{text}}}')))
def test_the_pattern_accepts_no_text_that_the_parser_refuses(text: str) -> None:
    if pl.Series([text]).str.contains(_PLAIN).item():
        assert _good_signals(text)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_flat_objects_are_accepted(signals: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(signals, ensure_ascii=ascii_only)
    expected = all(abs(v) < 1e308 for v in signals.values() if type(v) is int)
    assert _bad_signals(pl.Series([text])).to_list() == [not expected]
