"""The figure of the study is drawn from a printed table alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from simulations.studies import privacy_utility
from simulations.studies.privacy_utility import EPSILONS, plot

SVG = "{http://www.w3.org/2000/svg}"
TOGETHER = ("| world 31, 410 rows | together | 0.101 | 0.202 | 0.303 | 0.404 | 0.505 | 0.606 |",)
ALONE = "| world 31, 410 rows | each its own private model | 0.1 | 0.1 | 0.1 | 0.1 | 0.1 | 0.6 |"
SHOPS = "| shops 31, 90 rows | together | 0.51 | 0.52 | 0.53 | 0.54 | 0.55 | 0.56 |"
TABLE = "\n".join(
    [
        "| data, training rows a member | model | ε 1 | ε 2 | ε 4 | ε 8 | none | alone |",
        "|---|---|---|---|---|---|---|---|",
        *TOGETHER,
        ALONE,
        SHOPS,
        *TOGETHER,  # a run prints its rows as it goes and the whole table at the end
    ]
)


def drawn(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text("utf-8"))  # noqa: S314 - written by this test


def test_each_federation_has_a_mark_for_each_epsilon(tmp_path: Path) -> None:
    plot(TABLE, tmp_path / "figure.svg")
    root = drawn(tmp_path / "figure.svg")
    assert root.tag == f"{SVG}svg"
    lines = [
        group
        for group in root.iter(f"{SVG}g")
        if group.get("id", "").startswith("line2d") and len(list(group.iter(f"{SVG}use"))) > 1
    ]
    marks = [list(group.iter(f"{SVG}use")) for group in lines]
    assert [len(found) for found in marks] == [len(EPSILONS) + 1] * 2
    for found in marks:
        across = [float(use.get("x", "nan")) for use in found]
        assert across == sorted(across)
        assert len(set(across)) == len(across)
        heights = [float(use.get("y", "nan")) for use in found]
        assert heights == sorted(heights, reverse=True)  # the figures grow, and SVG's y falls
    written = (tmp_path / "figure.svg").read_text("utf-8")
    for text in ("world 31, 410 rows", "shops 31, 90 rows", "none", *(f"{e:g}" for e in EPSILONS)):
        assert f"<!-- {text} -->" in written
    assert written.count("stroke-dasharray") == 2  # each member's own model, beside its federation
    assert "own private model" not in written
    assert "<dc:date>" not in written


def test_the_command_draws_a_stored_table_and_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("it was measured")

    monkeypatch.setattr(privacy_utility, "world_members", never)
    (tmp_path / "table.md").write_text(TABLE, "utf-8")
    arguments = ["study", "--table", str(tmp_path / "table.md"), "--plot", str(tmp_path / "f.svg")]
    monkeypatch.setattr("sys.argv", arguments)
    assert privacy_utility.main() == 0
    assert drawn(tmp_path / "f.svg").tag == f"{SVG}svg"
