"""The data contract: sound records pass without a word, and each rule is met by what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from participant.contract import check_records, view
from participant.contract.rules import RULES
from participant.ingest import import_file
from participant.store import Store
from participant.store.segments import Segments
from participant.training.split import Split
from shared.clock import FixedClock
from simulations.world import WorldConfig, generate, training_records
from tests.support.contract import JUDGED, ROWS, Tables, check, fakes, sound, told, with_signal
from tests.support.model import NOW
from tests.support.store import shops

REAL_SHOPS = Path("../shared/data/fraudulent_online_shops/shops.csv")
SOUND = sound()
DAY = timedelta(days=1)


def test_sound_records_pass_without_a_finding() -> None:
    report = check(SOUND)
    assert report.findings == ()
    assert report.holds
    figures = {name: part.figures for name, part in report.parts.items()}
    assert figures["labels"]["labelled"] == JUDGED
    assert figures["labels"]["sources"] == {"analyst": JUDGED}
    assert figures["split"]["by"] == ["seller", "time"]
    assert figures["duplicates"]["near_records"] == 0
    assert 0.5 < figures["leakage"]["strongest"]["signals.views"] < 0.95


def listings(**columns: object) -> Callable[[Tables], Tables]:
    return lambda tables: tables.but(listings=tables.listings.with_columns(**columns))


def verdicts(**columns: object) -> Callable[[Tables], Tables]:
    return lambda tables: tables.but(verdicts=tables.verdicts.with_columns(**columns))


def signal(name: str, value: Callable[[int, bool], object]) -> Callable[[Tables], Tables]:
    values = [value(at, bool(fake)) for at, fake in enumerate(fakes())]
    return lambda tables: with_signal(tables, name, values)


def first(rows: int, when_true: object, otherwise: str | object) -> pl.Expr:
    """Return a value in the first ``rows`` rows."""
    other = pl.col(otherwise) if isinstance(otherwise, str) else pl.lit(otherwise)
    return pl.when(pl.int_range(pl.len()) < rows).then(when_true).otherwise(other)


def twins(tables: Tables) -> Tables:
    """Give every counterfeit the text of the listing before it, but for one word."""
    texts = pl.col("title") + " of the house", pl.col("description")
    copied = [
        pl.when(pl.Series(fakes())).then(text.shift(1).fill_null(text)).otherwise(text)
        for text in texts
    ]
    words = tables.listings.with_columns(title=copied[0], description=copied[1])
    return tables.but(listings=words)


def repeated(tables: Tables) -> Tables:
    """Let the last listings repeat the first ones' texts, word for word."""
    rows = pl.int_range(pl.len())
    texts = {
        name: pl.when(rows >= 300).then(pl.col(name).shift(300)).otherwise(pl.col(name))
        for name in ("title", "description")
    }
    return tables.but(listings=tables.listings.with_columns(**texts))


def copies(tables: Tables) -> Tables:
    extra = tables.listings.head(60).with_columns(listing_id="copy-" + pl.col("listing_id"))
    return tables.but(listings=pl.concat([tables.listings, extra]))


def torn(tables: Tables) -> Tables:
    other = tables.verdicts.head(60).with_columns(
        verdict=pl.when(pl.col("verdict") == "counterfeit")
        .then(pl.lit("authentic"))
        .otherwise(pl.lit("counterfeit")),
        source=pl.lit("platform"),
        decided_at=pl.col("decided_at") - timedelta(hours=1),
    )
    return tables.but(verdicts=pl.concat([tables.verdicts, other]))


def snapshots(tables: Tables) -> Tables:
    """Half the judged listings were exported after their verdict, and only those have a value."""
    late = pl.int_range(pl.len()) % 2 == 0
    updated = pl.when(late).then(pl.col("created_at") + 9 * DAY).otherwise(pl.col("created_at"))
    values = [1.0 if at % 2 == 0 else None for at in range(ROWS)]
    return with_signal(
        tables.but(listings=tables.listings.with_columns(updated_at=updated)), "strikes", values
    )


@pytest.mark.parametrize(
    ("code", "level", "spoil"),
    [
        ("column_empty", "warn", listings(price=pl.lit(None, dtype=pl.Float64))),
        ("exact_duplicates", "warn", copies),
        ("near_duplicates_disagree", "warn", twins),
        ("near_duplicates_across_split", "warn", repeated),
        ("no_labels", "fail", lambda tables: tables.but(verdicts=tables.verdicts.clear())),
        ("one_class", "warn", verdicts(verdict=pl.lit("authentic"))),
        (
            "small_holdout",
            "warn",
            lambda tables: tables.but(verdicts=tables.verdicts.gather_every(5)),
        ),
        (
            "old_labels",
            "warn",
            lambda tables: tables.but(
                listings=tables.listings.with_columns(pl.col("^.*ted_at$") - 400 * DAY),
                verdicts=tables.verdicts.with_columns(pl.col("decided_at") - 400 * DAY),
            ),
        ),
        ("labels_by_rule", "warn", verdicts(source=pl.lit("rule"))),
        ("contradicting_verdicts", "warn", torn),
        ("single_feature", "warn", signal("risk", lambda at, fake: fake * 5 + at % 7)),
        (
            "single_feature",
            "warn",
            signal("till", lambda at, fake: "ab"[fake ^ (at % 40 == 0)] + str(at % 4)),
        ),
        ("equals_label", "fail", signal("sanctions", lambda at, fake: fake * 2 + at % 2)),
        ("equals_label", "fail", signal("queue", lambda at, fake: "ab"[fake] + str(at % 4))),
        ("nulls_tell_label", "fail", signal("reason", lambda at, fake: 1.0 if fake else None)),
        (
            "known_after_verdict",
            "fail",
            signal("handled", lambda at, fake: at % 5 if at < JUDGED else None),
        ),
        ("known_after_verdict", "fail", snapshots),
        (
            "known_after_verdict",
            "fail",
            signal("closed", lambda at, fake: f"{NOW - (296 - 11 * at / 24) * DAY:%Y-%m-%d}"),
        ),
        (
            "known_after_verdict",
            "fail",
            signal("closed_unix", lambda at, fake: NOW.timestamp() - at),
        ),
        ("answer_as_signal", "fail", signal("Verdict", lambda at, fake: at % 3)),
        (
            "answer_as_signal",
            "fail",
            signal("outcome", lambda at, fake: ("authentic", "counterfeit")[at % 2]),
        ),
        ("changed_after_verdict", "warn", listings(updated_at=pl.lit(NOW - 200 * DAY))),
        ("seen_late", "warn", listings(updated_at=pl.col("created_at") + 90 * DAY)),
        (
            "updated_before_created",
            "warn",
            listings(updated_at=first(5, NOW - 999 * DAY, "created_at")),
        ),
        ("updated_before_created", "fail", listings(updated_at=pl.lit(NOW - 999 * DAY))),
        ("decided_before_created", "fail", verdicts(decided_at=pl.col("decided_at") - 5 * DAY)),
        (
            "decided_when_created",
            "fail",
            lambda tables: tables.but(
                listings=tables.listings.drop("created_at")
                .join(
                    tables.verdicts.select("listing_id", created_at="decided_at"),
                    on="listing_id",
                    how="left",
                )
                .select(tables.listings.columns)
            ),
        ),
        ("reversed_before_decided", "fail", verdicts(reversed_at=pl.col("decided_at") - DAY)),
        (
            "complaint_before_listing",
            "fail",
            lambda tables: tables.but(
                complaints=tables.complaints.with_columns(created_at=pl.lit(NOW - 999 * DAY))
            ),
        ),
        ("in_the_future", "warn", listings(updated_at=first(5, NOW + 9 * DAY, "created_at"))),
        ("in_the_future", "fail", listings(seller_created_at=pl.lit(NOW + 9 * DAY))),
        ("no_time", "warn", listings(created_at=first(5, None, "created_at"))),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_found(
    code: str, level: str, spoil: Callable[[Tables], Tables]
) -> None:
    spoilt = spoil(SOUND)
    schema = {name: SOUND.listings.schema[name] for name in spoilt.listings.columns}
    report = check(spoilt.but(listings=spoilt.listings.cast(schema)))
    assert told(report).get(code) == level, told(report)
    assert report.holds == ("fail" not in told(report).values())
    told_to_person = " ".join(one.text for one in report.findings)
    assert not any(title in told_to_person for title in spoilt.listings["title"][:50])


def test_a_signal_that_is_there_for_some_judged_and_some_not_is_no_finding() -> None:
    values = [1.0 if at % 4 else None for at in range(ROWS)]
    assert check(with_signal(SOUND, "photos", values)).findings == ()


def test_few_values_among_the_judged_may_be_chance() -> None:
    values = [1.0 if at < 19 else None for at in range(ROWS)]
    assert check(with_signal(SOUND, "photos", values)).findings == ()


def test_a_segment_of_another_schema_is_named_and_nothing_else_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path, clock=FixedClock(NOW))
    store.records.put("listings", SOUND.listings)
    as_text = pl.col("quantity").cast(pl.String)
    path = Segments(store.folder / "segments", "listings").path(1)
    pl.read_parquet(path).with_columns(as_text).write_parquet(path)
    report = check_records(store, "listings")
    assert told(report) == {"foreign_schema": "fail"}
    assert list(report.parts) == ["schema"]


def test_a_required_value_that_is_missing_is_named() -> None:
    gone = SOUND.verdicts.with_columns(verdict=first(9, None, "verdict"))
    report = check(SOUND.but(verdicts=gone))
    found = {one.code: one for one in report.findings}
    assert (found["required_missing"].column, found["required_missing"].count) == (
        "verdicts.verdict",
        9,
    )


@pytest.mark.skipif(not REAL_SHOPS.exists(), reason="the data set is not here")
def test_the_real_shops_pass_and_their_leak_is_told_when_it_is_let_in(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "sound")
    import_file(store, REAL_SHOPS, "shops", "online_shops")
    report = check_records(store, "shops")
    assert report.holds
    assert [(one.code, one.column) for one in report.findings] == [
        ("single_feature", "shop_age_days")
    ], "the domain's age: the strongest honest signal there is"
    from importlib import resources

    shipped = resources.files("participant.ingest.mappings") / "online_shops.toml"
    lines = [
        line for line in shipped.read_text("utf-8").splitlines() if "TrustPilot score" not in line
    ]
    at = lines.index("[signals]") + 1
    lines.insert(at, 'score = { from = "TrustPilot score", type = "number", nulls = [] }')
    mapping = tmp_path / "careless.toml"
    mapping.write_text("\n".join(lines), "utf-8")
    careless = Store.open(tmp_path / "careless")
    import_file(careless, REAL_SHOPS, "shops", mapping)
    told_of = {one.column: one.value for one in check_records(careless, "shops").findings}
    assert told_of["signals.score (empty or not)"] == pytest.approx(0.983, abs=0.005)


def test_what_a_later_version_says_is_no_leak_where_the_earlier_one_is_stored(
    tmp_path: Path,
) -> None:
    store = Store.open(tmp_path, clock=FixedClock(NOW))
    handled = with_signal(SOUND, "handled", [at % 5 if at < JUDGED else None for at in range(ROWS)])
    later = handled.listings.with_columns(pl.col("updated_at") + 90 * DAY).head(JUDGED)
    for records in (SOUND.listings, later):
        store.records.put("listings", records)
    store.records.put("verdicts", SOUND.verdicts)
    store.records.put("complaints", SOUND.complaints)
    assert told(check_records(store, "listings")) == {}
    alone = Store.open(tmp_path / "alone", clock=FixedClock(NOW))
    alone.records.put("listings", later)
    alone.records.put("listings", SOUND.listings.tail(ROWS - JUDGED))
    alone.records.put("verdicts", SOUND.verdicts)
    found = told(check_records(alone, "listings"))
    assert found.keys() >= {"known_after_verdict", "changed_after_verdict", "seen_late"}


def test_shops_are_told_by_host(tmp_path: Path) -> None:
    store = Store.open(tmp_path, clock=FixedClock(NOW))
    frame = shops([f"s{at}" for at in range(50)])
    store.records.put("shops", frame.with_columns(host=first(10, pl.lit("same.example"), "host")))
    assert "exact_duplicates" in told(check_records(store, "shops"))


def test_a_split_that_is_not_apart_by_seller_or_by_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, none = np.arange(JUDGED), np.empty(0, dtype=np.int64)
    # Five listings a seller, in order of time: a cut at 200 is clean, one at 198 is not.
    cases = [
        (Split(rows[:200], none, rows[200:]), None),
        (Split(rows[200:], none, rows[:200]), ("fail", 200)),  # the older half judges
        (Split(rows[:198], none, rows[198:]), ("fail", 2)),  # two of a seller that trains judge
    ]
    for halves, wanted in cases:
        monkeypatch.setattr(view, "split_records", lambda *_, halves=halves: halves)
        found = [one for one in check(SOUND).findings if one.code == "split_not_apart"]
        assert [(one.level, one.count) for one in found] == ([wanted] if wanted else [])


def test_every_code_has_a_test() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [code for code in RULES if f'"{code}"' not in text] == []


@pytest.mark.parametrize(("preset", "late"), [("brand-natural", ""), ("late-joiner", "portolan")])
def test_the_synthetic_world_has_nothing_that_fails(preset: str, late: str) -> None:
    world = generate(WorldConfig(members=5, listings_per_week=15, seed=8, preset=preset))
    for member in world.members:
        told_then = training_records(world, member)
        names = ("listings", "verdicts", "complaints")
        report = check(Tables(**{name: told_then[name] for name in names}))
        failed = [code for code, level in told(report).items() if level == "fail"]
        # Who joins late has no label yet, and nothing else is wrong with its records.
        assert failed == (["no_labels"] if member == late else []), member
