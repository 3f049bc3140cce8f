"""The reference of the mapping format is checked against the code."""

from __future__ import annotations

import re
from pathlib import Path

from participant.ingest import convert
from participant.ingest.mapping import parse_mapping
from shared.domain.schemas import REQUIRED, SCHEMAS
from shared.domain.vocabulary import KINDS

PAGE = (Path(__file__).parents[2] / "docs/reference/column-mapping.md").read_text(encoding="utf-8")


def test_the_example_is_a_valid_mapping() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    mapping = parse_mapping(example, "example")
    assert set(mapping.columns) == {
        "listing_id", "title", "price", "currency", "seller_id", "created_at",
    }  # fmt: skip


def test_the_table_lists_every_column_and_marks_the_required_ones() -> None:
    for kind in KINDS:
        row = re.search(rf"^\| {kind} \| (.*) \|$", PAGE, re.MULTILINE)
        assert row is not None
        cells = re.sub(r" \([^)]*\)", "", row.group(1)).split(", ")
        assert [cell.strip("*") for cell in cells] == list(SCHEMAS[kind])
        assert {cell.strip("*") for cell in cells if "**" in cell} == set(REQUIRED[kind])


def test_every_reason_code_is_explained() -> None:
    folder = Path(convert.__file__).parent
    code = "".join((folder / f"{name}.py").read_text() for name in ("checks", "convert", "readers"))
    pattern = r'"((?:bad|too|field|missing)_[a-z]+|negative)"'
    codes = set(re.findall(pattern, code)) - {"bad_text"}
    assert len(codes) >= 12
    assert {name for name in codes if f"`{name}`" not in PAGE} == set()
