"""What `make bench` says of its target."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DEFAULT = (5, 1_179_809)
"""Members and parameters that `make bench` measures."""


@pytest.mark.parametrize(
    ("median", "size", "said"),
    [
        (0.4, DEFAULT, "target 1.0 s: met"),
        (1.0, DEFAULT, "target 1.0 s: met"),
        (1.001, DEFAULT, "target 1.0 s: missed"),
        (0.9, (20, 4_000_000), "target 1.0 s: met"),  # it holds all the more
        (9.0, (20, 4_000_000), "not judged"),
        (0.1, (3, 1_179_809), "not judged"),
        (0.1, (5, 40_000), "not judged"),
    ],
)
def test_a_median_is_held_against_the_target_of_its_size(
    monkeypatch: pytest.MonkeyPatch, median: float, size: tuple[int, int], said: str
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import secure_round

    try:
        assert said in secure_round.verdict(median, *size)
        assert "27-31 s" in secure_round.FLOWER
    finally:
        for name in ("secure_round", "loopback"):
            sys.modules.pop(name, None)
