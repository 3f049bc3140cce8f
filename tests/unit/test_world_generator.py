from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import COMPLAINT_CLAIMS, COMPLAINT_SOURCES, VERDICT_SOURCES, VERDICTS
from shared.errors import ConfigError
from simulations.world import (
    PRESETS,
    World,
    WorldConfig,
    fresh_listings,
    generate,
    split,
    training_records,
    write,
)
from simulations.world.draws import stream
from simulations.world.files import encode
from simulations.world.obfuscation import mistype, obfuscate
from simulations.world.texts import LANGUAGES, lexicon
from tests.support.world import fold

SMALL = WorldConfig(members=5, listings_per_week=12, seed=3)


@pytest.fixture(scope="module")
def small() -> World:
    return generate(SMALL)


@pytest.fixture(scope="module")
def large() -> World:
    return generate(WorldConfig(members=10, listings_per_week=60, seed=1))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_another_process_with_another_hash_seed_writes_the_same_bytes(
    small: World, tmp_path: Path
) -> None:
    write(small, tmp_path / "here")
    program = (
        "import sys; from pathlib import Path; from simulations.world import *;"
        "write(generate(WorldConfig(members=5, listings_per_week=12, seed=3)), Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "there")],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "1234", "PYTHONPATH": str(root)},
    )
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
    assert len(digest(tmp_path / "here")) == 5 * 4 + 5 + 1


def test_another_seed_is_another_world(small: World) -> None:
    other = generate(WorldConfig(members=5, listings_per_week=12, seed=4))
    for name, member in small.members.items():
        titles = set(member.listings["title"])
        assert len(titles & set(other.members[name].listings["title"])) < 0.2 * len(titles)


def test_a_members_story_does_not_depend_on_the_size_of_another(small: World) -> None:
    skewed = generate(WorldConfig(members=5, listings_per_week=12, seed=3, preset="free-rider"))
    assert skewed.members["veltrine"].listings.equals(small.members["veltrine"].listings)
    assert skewed.members["portolan"].listings.height < 40


def test_tables_are_canonical(small: World) -> None:
    for member in small.members.values():
        assert member.listings.schema == SCHEMAS["listings"]
        assert member.complaints.schema == SCHEMAS["complaints"]
        assert member.verdicts.schema == SCHEMAS["verdicts"]
        assert member.truth["listing_id"].equals(member.listings["listing_id"])
        assert member.listings["listing_id"].is_unique().all()
        assert member.complaints["complaint_id"].is_unique().all()
        assert member.listings["created_at"].is_sorted()
        assert set(member.complaints["claim"]) <= set(COMPLAINT_CLAIMS)
        assert set(member.complaints["source"]) <= set(COMPLAINT_SOURCES)
        assert set(member.verdicts["verdict"]) <= set(VERDICTS)
        assert set(member.verdicts["source"]) <= set(VERDICT_SOURCES)
        assert all(isinstance(json.loads(text), dict) for text in member.listings["signals"])
        age = member.listings["created_at"] - member.listings["seller_created_at"]
        assert age.dt.total_days().is_between(0, 6300).all()


def test_no_two_members_export_alike(small: World, tmp_path: Path) -> None:
    paths = write(small, tmp_path)
    assert {path.suffix for tables in paths.values() for path in tables.values()} == {
        ".csv",
        ".jsonl",
        ".parquet",
    }


def test_truth_stays_out_of_every_export(small: World, tmp_path: Path) -> None:
    write(small, tmp_path)
    secrets = {t.tactic_id for t in small.tactics}
    secrets |= {c for m in small.members.values() for c in m.truth["crew_id"].drop_nulls()}
    for name, member in small.members.items():
        extra = set(member.truth.columns) - {"listing_id", "seller_id"}
        assert not extra & set(member.listings.columns)
        text = encode(member.listings, "jsonl").decode()
        assert not any(f'"{secret}"' in text for secret in secrets)
        assert (tmp_path / "truth" / f"{name}.parquet").is_file()


def test_training_records_hold_nothing_from_the_future(large: World) -> None:
    now = large.week_start(large.config.train_weeks)
    for name, member in large.members.items():
        records = training_records(large, name)
        assert records["listings"]["created_at"].max() < now
        assert records["complaints"]["created_at"].max() < now
        assert records["verdicts"]["decided_at"].max() < now
        assert (records["verdicts"]["reversed_at"].drop_nulls() < now).all()
        assert (fresh_listings(large, name)["created_at"] >= now).all()
        assert records["verdicts"].height < member.verdicts.height
        assert records["complaints"].height < member.complaints.height


def test_a_reversal_to_come_is_not_yet_known(large: World) -> None:
    hidden = 0
    for weeks in range(8, 26, 2):
        world = replace(large, config=replace(large.config, train_weeks=weeks))
        now = world.week_start(weeks)
        for name, member in world.members.items():
            later = member.verdicts.filter(pl.col("decided_at") < now, pl.col("reversed_at") >= now)
            known = training_records(world, name)["verdicts"].join(later, on="listing_id")
            assert known["reversed_at"].null_count() == known.height
            hidden += known.height
    assert hidden >= 3


def test_splits_cover_the_world_without_overlap(small: World) -> None:
    for name, member in small.members.items():
        parts = split(small, name)
        total = parts.train.astype(int) + parts.test + parts.fresh
        assert (total == 1).all()
        weeks = member.truth["week"].to_numpy()
        assert weeks[parts.train].max() < weeks[parts.test].min()
        assert weeks[parts.test].max() < weeks[parts.fresh].min()


def test_rates_are_those_of_the_design(large: World) -> None:
    truth = pl.concat([m.truth for m in large.members.values()])
    fakes, honest = truth.filter("counterfeit"), truth.filter(~pl.col("counterfeit"))
    assert 0.03 <= fakes.height / truth.height <= 0.08
    for member in large.members.values():
        assert 0.01 <= member.truth["counterfeit"].mean() <= 0.12
    assert 0.2 <= fakes["code_word"].mean() <= 0.4
    assert 0.005 <= honest["code_word"].mean() <= 0.025
    assert 0.2 <= fakes["obfuscated"].mean() <= 0.4
    near_retail = fakes["kind"].is_in(["deceptive", "hijacked", "commingled"]).mean()
    assert 0.4 <= near_retail <= 0.65
    share = {kind: (honest["kind"] == kind).mean() for kind in honest["kind"].unique()}
    assert 0.50 <= share["new"] <= 0.55
    assert 0.15 <= share["used"] <= 0.18
    assert 0.06 <= share["grey"] <= 0.08
    assert 0.08 <= share["accessory"] <= 0.10


def test_labels_err_and_complaints_are_late_as_designed(large: World) -> None:
    parts = [
        m.verdicts.join(m.truth, on="listing_id").with_columns(member=pl.lit(m.name))
        for m in large.members.values()
    ]
    judged = pl.concat(parts)
    accused = pl.col("verdict") == "counterfeit"
    fakes, honest = judged.filter("counterfeit"), judged.filter(~pl.col("counterfeit"))
    assert 0.08 <= 1 - fakes.select(accused.mean()).item() <= 0.15
    assert 0.005 <= honest.select(accused.mean()).item() <= 0.02
    reversals = judged.filter(accused)["reversed_at"].is_not_null().mean()
    assert 0.015 <= reversals <= 0.045
    delays = pl.concat(
        [
            m.complaints.join(m.listings, on="listing_id").select(
                (pl.col("created_at") - pl.col("created_at_right")).dt.total_days()
            )
            for m in large.members.values()
        ]
    ).to_series()
    assert 18 <= delays.mean() <= 31


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_keys(language: str) -> None:
    english, other = lexicon("en"), lexicon(language)
    assert list(other.code_words) == list(english.code_words)
    assert list(other.jargon) == list(english.jargon)
    assert len(other.honest) == len(english.honest)
    for name, words in english.categories.items():
        assert {k: len(v) for k, v in other.categories[name].items()} == {
            k: len(v) for k, v in words.items()
        }
    assert {k: len(v) for k, v in other.kinds.items()} == {
        k: len(v) for k, v in english.kinds.items()
    }
    assert set(other.complaints) == set(COMPLAINT_CLAIMS)


@pytest.mark.parametrize("word", ["Veltrine", "mirror quality", "高仿", "莆田", "AAA", "1:1"])
def test_obfuscation_always_changes_the_word(word: str) -> None:
    draws = stream(1, word)
    forms = [obfuscate(word, draws) for _ in range(50)]
    assert word not in forms
    assert len(set(forms)) >= 2


def test_folding_undoes_invisible_and_confusable_disguises() -> None:
    draws = stream(2)
    forms = {obfuscate("Veltrine", draws) for _ in range(200)}
    assert sum(fold(form) == "veltrine" for form in forms) >= 5
    assert all(mistype("Veltrine", draws).isascii() for _ in range(50))


@pytest.mark.parametrize(
    "settings",
    [
        {"members": 1},
        {"listings_per_week": 0},
        {"weeks": 20},
        {"preset": "unheard-of"},
        {"test_weeks": 0},
    ],
)
def test_impossible_worlds_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        WorldConfig(**settings)


class TestPresets:
    @pytest.fixture(scope="class")
    def worlds(self) -> dict[str, World]:
        return {p: generate(WorldConfig(preset=p, listings_per_week=15, seed=2)) for p in PRESETS}

    def test_iid_members_are_alike(self, worlds: dict[str, World]) -> None:
        sizes = [m.listings.height for m in worlds["iid"].members.values()]
        assert max(sizes) < 1.25 * min(sizes)
        for member in worlds["iid"].members.values():
            assert member.listings["category"].n_unique() == 8
            assert member.listings["language"].n_unique() == 5

    def test_quantity_skew_is_about_size(self, worlds: dict[str, World]) -> None:
        sizes = [m.listings.height for m in worlds["quantity-skew"].members.values()]
        assert sizes[0] > 5 * sizes[-1]

    def test_label_skew_is_about_prevalence(self, worlds: dict[str, World]) -> None:
        rates = [m.truth["counterfeit"].mean() for m in worlds["label-skew"].members.values()]
        assert rates[0] < 0.03
        assert rates[-1] > 0.08

    def test_language_split_gives_each_one_language(self, worlds: dict[str, World]) -> None:
        members = worlds["language-split"].members.values()
        assert {m.listings["language"].n_unique() for m in members} == {1}
        assert len({m.listings["language"][0] for m in members}) == 5

    def test_brand_members_trade_in_one_category(self, worlds: dict[str, World]) -> None:
        members = worlds["brand-natural"].members
        assert {n: m.listings["category"].n_unique() for n, m in members.items()} == {
            "veltrine": 1,
            "tonvara": 1,
            "felsgrat": 1,
            "luzmira": 1,
            "portolan": 4,
        }

    def test_late_joiner_has_listings_but_no_verdict(self, worlds: dict[str, World]) -> None:
        *others, last = worlds["late-joiner"].members.values()
        assert last.listings.height > 0
        assert last.verdicts.height == 0
        assert all(m.verdicts.height > 0 for m in others)

    def test_poisoner_lets_fakes_pass_and_accuses_the_genuine(
        self, worlds: dict[str, World]
    ) -> None:
        *_, last = worlds["poisoner"].members.values()
        accused = last.verdicts.filter(pl.col("verdict") == "counterfeit").join(
            last.truth, on="listing_id"
        )
        assert accused.height > 8
        assert accused["counterfeit"].mean() < 0.1

    def test_free_rider_brings_next_to_nothing(self, worlds: dict[str, World]) -> None:
        *others, last = worlds["free-rider"].members.values()
        assert last.listings.height < 0.1 * min(m.listings.height for m in others)
