"""The contract gates training: a node refuses a run on records that fail it, and says little."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from coordinator.db.records import RunState
from participant.contract import check_records, contract_of, service
from participant.node.learner import DataFacts, StoreLearner
from participant.node.reasons import told_to_coordinator
from participant.node.runtime import NodeRuntime
from participant.store import Store
from shared.clock import FixedClock
from shared.errors import Exit
from shared.fleet.refusals import DATA_NOT_READY
from tests.support.contract import ROWS, Tables, sound, store_of, with_signal
from tests.support.model import NOW, SPEC
from tests.support.runs import SETTINGS, KnownLearner, federation
from tests.support.store import command

LEAKY = with_signal(sound(), "outcome", [at % 4 if at < 400 else None for at in range(ROWS)])


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that were really checked, not read from what was kept."""
    done: list[str] = []
    real = service.examine

    def counted(view, progress=None):  # type: ignore[no-untyped-def]
        done.append(view.table)
        return real(view, progress)

    monkeypatch.setattr(service, "examine", counted)
    return done


@pytest.mark.parametrize(("tables", "holds"), [(sound(), True), (LEAKY, False)])
def test_a_learner_tells_the_policy_whether_the_contract_holds(
    tmp_path: Path, tables: Tables, *, holds: bool
) -> None:
    store = store_of(tables, tmp_path)
    facts = StoreLearner(store, "listing", SPEC).facts()
    assert facts.contract_holds is holds
    assert facts.rows > 100


def test_the_coordinator_does_not_hear_that_it_was_the_contract() -> None:
    assert told_to_coordinator("data_contract") == DATA_NOT_READY
    assert told_to_coordinator("too_few_rows") == DATA_NOT_READY


def test_a_verdict_is_kept_for_the_same_records(tmp_path: Path, checks: list[str]) -> None:
    store = store_of(sound(), tmp_path)
    first = contract_of(store, "listings")
    assert contract_of(store, "listings") == first
    store.close()
    again = Store.open(tmp_path, clock=FixedClock(NOW + timedelta(days=6)))
    assert contract_of(again, "listings") == first, "it outlives the process"
    assert len(checks) == 1
    kept = tmp_path / "store" / "contract-listings.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert sound().listings["title"][0] not in kept.read_text("utf-8")


def test_new_records_another_kind_and_a_week_are_checked_anew(
    tmp_path: Path, checks: list[str]
) -> None:
    clock = FixedClock(NOW)
    store = store_of(sound(), tmp_path)
    store.clock = clock
    contract_of(store, "listings")
    contract_of(store, "shops")
    assert checks == ["listings", "shops"]
    store.records.put("verdicts", sound().verdicts.head(1).with_columns(source=pl.lit("customs")))
    contract_of(store, "listings")
    assert checks == ["listings", "shops", "listings"]
    contract_of(store, "shops")
    assert len(checks) == 3
    store.clock = FixedClock(NOW + timedelta(days=7))
    contract_of(store, "listings")
    assert len(checks) == 4
    store.clock = FixedClock(NOW - timedelta(days=1))
    contract_of(store, "listings")
    assert len(checks) == 5, "a verdict of tomorrow is not to be trusted"


@pytest.mark.parametrize("text", ["", "{", '{"contract": 0}', "[]"])
def test_a_kept_verdict_that_cannot_be_read_is_found_again(
    tmp_path: Path, checks: list[str], text: str
) -> None:
    store = store_of(sound(), tmp_path)
    (store.folder / "contract-listings.json").write_text(text, "utf-8")
    assert contract_of(store, "listings").holds
    assert len(checks) == 1


def test_the_command_exits_1_when_it_fails_and_0_when_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = command(monkeypatch)
    for name, tables, code in (("a", sound(), Exit.OK), ("b", LEAKY, Exit.FAILED)):
        store_of(tables, tmp_path / name).close()
        capsys.readouterr()
        assert run("data", "check", "--dir", tmp_path / name) == code
        out = capsys.readouterr().out
        assert ("fail: signals.outcome: a value is known only after the verdict" in out) == bool(
            code
        )
        assert (
            run("data", "check", "--kind", "listings", "--json", "--dir", tmp_path / name) == code
        )
        answer = json.loads(capsys.readouterr().out)["data"]
        assert answer["holds"] is (code == Exit.OK)
        assert answer["figures"]["labels"]["labelled"] == 400
    assert run("data", "check", "--dir", tmp_path / "none") == Exit.CONFIG


def test_progress_names_the_parts(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    store = store_of(sound(), tmp_path)
    check_records(store, "listings", lambda *step: told.append(step))
    assert [part for part, _, _ in told] == [
        "schema", "labels", "split", "time", "leakage", "duplicates", "",
    ]  # fmt: skip
    assert [done for _, done, _ in told] == list(range(7))


def test_a_run_goes_on_without_the_member_whose_records_fail(tmp_path: Path) -> None:
    with federation(tmp_path) as fed:
        folder = fed.alliance.dir_of("member-3")
        facts = DataFacts(100, 10, contract_holds=False)
        fed.nodes.running[3] = NodeRuntime(
            folder, make_learner=lambda _store, _kind, spec: KnownLearner(0.03, spec, facts)
        )
        run = fed.drive(fed.start(SETTINGS.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        assert fed.refusals(run.run_id) == {3: DATA_NOT_READY}
        assert fed.rounds(run.run_id)[0].survivors == (1, 2, 4, 5)
        answers = [one.body for one in Store.open(folder).audit.events() if "run." in one.kind]
        assert answers[0]["reason_code"] == "data_contract"
