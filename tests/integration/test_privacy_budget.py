"""The privacy budget: refused before training, charged before masking, shown on request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from coordinator.db.records import RunState
from coordinator.rounds.plan import RunSettings
from participant.cli.main import app
from participant.privacy.accounting import Charge
from participant.store import Store
from shared.console import run_app
from shared.errors import Exit
from shared.fleet.exchange import MASKED
from shared.secagg import Member
from tests.support.commands import data
from tests.support.commands import run as command
from tests.support.runs import SETTINGS, Federation, federation
from tests.support.waiting import PATIENCE_S

PRIVATE = RunSettings(**{**SETTINGS.model_dump(), "rounds": 2, "dp_epsilon": 8.0})


def folders(fed: Federation) -> list[Path]:
    return list(fed.alliance.member_dirs.values())


def set_policy(folder: Path, text: str) -> None:
    path = folder / "policy.toml"
    path.write_text(path.read_text() + text)


def rows_of(folder: Path) -> list[tuple[str, str]]:
    store = Store.open(folder)
    try:
        return [(row.slot, row.kind) for row in store.ledger.entries()]
    finally:
        store.close()


def test_over_budget_and_too_weak_runs_are_refused_before_training(tmp_path: Path) -> None:
    with federation(tmp_path, members=7) as fed:
        set_policy(folders(fed)[0], "privacy_budget = 1.0\n")
        set_policy(folders(fed)[1], "max_run_epsilon = 2.0\n")
        run_id = fed.start(PRIVATE)
        assert fed.drive(run_id).state is RunState.COMPLETED
        assert fed.refusals(run_id) == {1: "privacy_budget", 2: "privacy_floor"}
        assert rows_of(folders(fed)[0]) == []
        assert rows_of(folders(fed)[2]) != []


def test_a_member_may_demand_record_privacy(tmp_path: Path) -> None:
    with federation(tmp_path) as fed:
        set_policy(folders(fed)[4], "require_record_dp = true\n")
        run_id = fed.start(SETTINGS)
        assert fed.drive(run_id).state is RunState.COMPLETED
        assert fed.refusals(run_id) == {5: "privacy_floor"}


@pytest.mark.parametrize("settings", [SETTINGS, PRIVATE], ids=["plain", "private"])
def test_the_ledger_holds_exactly_what_the_manifest_says_each_vector_costs(
    tmp_path: Path, settings: RunSettings
) -> None:
    """SETTINGS evaluates in rounds 2 and 3 of 3; every vector was masked once."""
    with federation(tmp_path) as fed:
        run_id = fed.start(settings)
        assert fed.drive(run_id).state is RunState.COMPLETED
        manifest = fed.manifest(run_id)
        store = Store.open(folders(fed)[0])
        rows = [(r.round, r.kind, r.mechanism, r.amount) for r in store.ledger.entries()]
        store.close()
    update = ("none", 0.0)
    if settings.dp_epsilon:
        noise = [manifest.privacy.count_noise, *[manifest.privacy.noise] * manifest.privacy.steps]
        update = ("gaussian", sum(one**-2 for one in noise) ** 0.5)
    told = [number for number in range(1, settings.rounds + 1) if manifest.evaluates_in(number)]
    assert told == [number for number in (2, 3) if number <= settings.rounds]
    expected = [(number, "training", *update) for number in range(1, settings.rounds + 1)]
    expected += [
        (number, "evaluation", "laplace", manifest.evaluation.epsilon_milli / 1000)
        for number in told
    ]
    assert sorted(rows) == sorted(expected)


def test_a_budget_that_repeated_rounds_use_up_ends_the_run(tmp_path: Path) -> None:
    """Two answers are lost on the way; what is left of the budget does not last for the run."""
    with federation(tmp_path) as fed:
        for folder in folders(fed):
            set_policy(folder, "privacy_budget = 7.8\n")
        lost: list[int] = []

        def lose(message: Message) -> bool:
            first = message.metadata.message_type == MASKED and message.metadata.group_id == "1"
            if first and len(lost) < 2:
                lost.append(message.metadata.dst_node_id)
                return True
            return False

        fed.grid.lose_reply = lose
        run_id = fed.start(PRIVATE)
        thread = fed.in_background(run_id)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the run goes on for ever"
        run = fed.run(run_id)
        assert (run.state, run.reason_code) == (RunState.FAILED, "too_few_members")
        refused = fed.refusals(run_id)
        assert set(refused.values()) == {"privacy_budget"}
        assert len(fed.rounds(run_id)) < 6
        member = min(refused)
        folder = folders(fed)[member - 1]
        code, printed = command(folder, "run", "explain", run_id[:12])
        assert code == Exit.POLICY
        assert "this node would say no: privacy_budget" in printed
        told = data(folder, "run", "explain", run_id[:12], exit_code=Exit.POLICY)["answers"]
        assert [(item["decision"], item["reason"]) for item in told] == [
            ("accepted", ""),
            ("refused", "privacy_budget"),
        ]
        events = fed.database.read("audit", lambda unit: list(unit.audit.events()))
        noted = {e.body["member"] for e in events if e.kind == "run.refused"}
        assert noted == set(refused)


def test_a_crash_between_charge_and_masking_never_counts_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node dies after the ledger was written; it comes back, masks, and owes at least that."""
    seen: list[list[tuple[str, str]]] = []
    mask, state = Member.mask, {"died": False}
    with federation(tmp_path) as fed:

        def dying(self: Member, vector: np.ndarray):  # type: ignore[no-untyped-def]
            if self.index == 1:
                seen.append(rows_of(folders(fed)[0]))
                if not state["died"]:
                    state["died"] = True
                    raise OSError("killed")
            return mask(self, vector)

        monkeypatch.setattr(Member, "mask", dying)
        fed.drive(fed.start(PRIVATE))
        charged = rows_of(folders(fed)[0])
    assert state["died"]
    assert all(at_mask for at_mask in seen)
    training = [slot for slot, kind in charged if kind == "training"]
    assert len(training) == len(set(training)) >= 2
    for at_mask in seen:
        assert set(at_mask) <= set(charged)


@pytest.mark.parametrize(
    "option",
    [
        ("--epsilon", "nan"), ("--epsilon", "inf"), ("--epsilon", "100000"), ("--epsilon", "0"),
        ("--delta", "1e-12"), ("--delta", "1e-9"), ("--delta", "nan"), ("--delta", "0.5"),
        ("--rounds", "0"), ("--rounds", "10001"), ("--evaluations", "-1"), ("--evaluations", "11"),
    ],
)  # fmt: skip
def test_a_run_that_could_not_be_started_is_not_projected(
    tmp_path: Path, option: tuple[str, str]
) -> None:
    (tmp_path / "policy.toml").write_text("")
    assert command(tmp_path, "privacy", "project", *option)[0] == Exit.USAGE


def test_project_says_no_with_exit_code_8_and_ledger_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["touchstone-participant", *words])
        return run_app(app, "touchstone-participant")

    (tmp_path / "policy.toml").write_text("privacy_budget = 8.5\n")
    store = Store.open(tmp_path)
    here = ("--dir", str(tmp_path))
    assert run("privacy", "project", *here, "--epsilon", "8", "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["within_budget"]
    assert 7 < data["run_epsilon"] <= 8
    store.ledger.charge("ab" * 16, 1, "1.0", "training", Charge("gaussian", 1.5))
    store.ledger.charge("ab" * 16, 1, "1.0", "evaluation", Charge("laplace", 0.4))
    store.ledger.charge("cd" * 16, 1, "1.0", "training", Charge("none", 0.0))
    store.close()
    assert run("privacy", "project", *here, "--epsilon", "8") == 8
    assert "budget" in capsys.readouterr().err
    assert run("privacy", "project", *here, "--epsilon", "8", "--json") == 8
    over = json.loads(capsys.readouterr().out)["data"]
    assert (over["within_budget"], over["reason"]) == (False, "privacy_budget")
    assert over["total_epsilon"] > over["budget"] > over["spent_epsilon"]
    assert run("privacy", "ledger", *here, "--json") == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert [one["run_id"] for one in told["runs"]] == ["ab" * 16, "cd" * 16]
    assert told["unprotected"] == 1
    assert 6.5 < told["epsilon"] < 8.5
    assert run("privacy", "ledger", *here) == 0
    assert "no epsilon bounds" in capsys.readouterr().out
