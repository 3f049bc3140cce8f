from __future__ import annotations

from pathlib import Path

import pytest

from participant.ingest.mapping import (
    identity_mapping,
    load_mapping,
    parse_mapping,
    shipped_mappings,
)
from shared.domain.schemas import REQUIRED, SCHEMAS
from shared.domain.vocabulary import KINDS, Kind
from shared.errors import ConfigError, Exit

SHOPS = """
kind = "shops"
[columns]
shop_id = { from = "id" }
host = { from = "site", extract = "host" }
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_maps_every_column_and_requires_only_what_must_be(kind: Kind) -> None:
    mapping = load_mapping(None, kind)
    assert mapping == identity_mapping(kind)
    assert list(mapping.columns) == list(SCHEMAS[kind])
    needed = [name for name, rule in mapping.columns.items() if not rule.optional]
    assert sorted(needed) == sorted(REQUIRED[kind])


def test_every_shipped_mapping_is_valid() -> None:
    kinds: dict[str, Kind] = {
        "ecup_listings": "listings",
        "ecup_verdicts": "verdicts",
        "online_shops": "shops",
    }
    assert shipped_mappings() == sorted(kinds)
    for name, kind in kinds.items():
        assert load_mapping(name, kind).kind == kind


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("colour = 1", "colour: unknown key"),
        ("[column]\nhost = 1", "column: unknown key"),
        ('[columns.url]\nfrom = "u"\nformat = "x"', "columns.url.format: unknown key"),
        ('[columns.colour]\nfrom = "c"', "'colour' is not a column of shops"),
        ('[columns.url]\nfrom = "u"\nconstant = "x"', "either 'from' or 'constant'"),
        ("[columns.url]\noptional = true", "either 'from' or 'constant'"),
        ('[signals]\ndots = { type = "colour" }', "signals.dots.type"),
        ("[signals]\ndots = {}", "signals.dots.type"),
        ('[file]\nseparator = ";;"', "file.separator"),
        ('[defaults]\ndecimal = ";"', "defaults.decimal"),
        ("kind = ", "is not toml"),
        ('[columns.signals]\nfrom="s"\n[signals]\ndots = { type = "text" }', "one by one"),
    ],
)
def test_a_wrong_mapping_is_refused_and_the_place_is_named(change: str, told: str) -> None:
    text = f"{SHOPS}\n{change}" if change.startswith("[") else f"{change}\n{SHOPS}"
    with pytest.raises(ConfigError) as caught:
        parse_mapping(text, "mine.toml")
    assert told in caught.value.message.lower() or told in caught.value.message
    assert "mine.toml" in caught.value.message
    assert caught.value.exit_code == Exit.CONFIG


def test_a_required_column_must_be_mapped() -> None:
    with pytest.raises(ConfigError, match="'host' is required"):
        parse_mapping('kind = "shops"\n[columns]\nshop_id = { from = "id" }', "mine.toml")


def test_a_mapping_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="makes shops, not listings"):
        load_mapping("online_shops", "listings")
    with pytest.raises(ConfigError, match="there is no mapping") as caught:
        load_mapping("nothing", "shops")
    assert "online_shops" in caught.value.hint
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_mapping(broken, "shops")


def test_the_digest_follows_the_meaning_not_the_words() -> None:
    base = parse_mapping(SHOPS, "a").digest
    assert parse_mapping(f"description = 'text'\n{SHOPS}", "b").digest == base
    assert parse_mapping(SHOPS.replace('"id"', '"nr"'), "a").digest != base
