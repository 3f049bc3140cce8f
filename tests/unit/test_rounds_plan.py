"""Run settings, manifests, journal and the operator's commands, without a network."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db.records import RunState
from coordinator.rounds.journal import Checkpoint, Journal
from coordinator.rounds.launch import abort_run, start_run
from coordinator.rounds.plan import RunSettings, build_manifest, secure_sum_terms
from shared.errors import BadInput, NotFound, StateError, VerificationError
from shared.trust.roster import Roster
from tests.support.alliance import found_alliance
from tests.support.manifests import NOW, entries

ROSTER = Roster(b"a" * 16, 3, entries(9))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def built(**changes):
    return build_manifest(RunSettings(**changes), ROSTER, KEY, b"r" * 16, NOW)


@pytest.mark.parametrize(
    ("n", "m", "expected"),
    [(5, 1, (4, 4, 1)), (9, None, (7, 7, 2)), (20, None, (14, 14, 6)), (64, None, (43, 43, 21))],
)
def test_default_secure_sum_terms(n, m, expected):
    terms = secure_sum_terms(RunSettings(max_colluders=m), n)
    assert (terms.threshold, terms.n_min, terms.max_colluders) == expected
    assert n * (2**terms.value_bits - 1) < 2**terms.lane_bits


def test_a_run_over_too_few_members_is_refused():
    with pytest.raises(StateError, match=r"^1 member is too few: 3 must stay") as alone:
        secure_sum_terms(RunSettings(), 1)
    assert "colluders" not in alone.value.hint, "it is 0 already"
    with pytest.raises(StateError, match=r"^4 members are too few") as few:
        secure_sum_terms(RunSettings(max_colluders=2), 4)
    assert "lower --max-colluders" in few.value.hint
    with pytest.raises(BadInput, match="--n-min must be 7 or more"):
        secure_sum_terms(RunSettings(n_min=3), 9)


def test_members_are_chosen_by_name_and_listed_in_order():
    manifest = built(members=("m7", "m1", "m2", "m3", "m4"), max_colluders=1)
    assert [member.index for member in manifest.members] == [1, 2, 3, 4, 7]
    with pytest.raises(NotFound):
        built(members=("nobody",))


def test_the_manifest_carries_the_time_outs_under_the_operators_names():
    times = built(setup_s=11, mask_s=12, away_s=13, unmask_s=14).timeouts
    assert asdict(times) == {"setup_s": 11, "mask_s": 12, "away_s": 13, "unmask_s": 14}


def test_excluded_members_are_kept_and_added_to(tmp_path):
    journal = Journal.create(tmp_path / "run", b"manifest", np.zeros(4, dtype=np.float32))
    assert journal.excluded() == frozenset()
    journal.exclude([])
    assert not (journal.folder / "excluded.bin").exists()
    journal.exclude({7, 2})
    journal.exclude([2, 300])
    assert Journal(journal.folder).excluded() == {2, 7, 300}


def test_start_writes_a_pending_run_and_abort_ends_it_once(tmp_path):
    alliance = found_alliance(tmp_path, [f"m{i}" for i in range(5)])
    database = alliance.database()
    run_id = start_run(alliance.coordinator_dir, database, RunSettings(max_colluders=1))
    run = database.read("r", lambda unit: unit.runs.get(run_id))
    assert (run.state, run.rounds) == (RunState.PENDING, 10)
    assert abort_run(database, run_id, "why") is True
    assert abort_run(database, run_id, "again") is False
    ended = database.read("r", lambda unit: unit.runs.get(run_id))
    assert (ended.state, ended.reason) == (RunState.ABORTED, "why")
    database.read("audit", lambda unit: unit.audit.verify())


def test_the_journal_keeps_the_first_and_the_newest_models_and_counts_rounds(tmp_path):
    model = np.arange(6, dtype=np.float32)
    journal = Journal.create(tmp_path / "run", b"manifest", model)
    assert journal.checkpoint() == Checkpoint()
    journal.finish_round(1, model + 1, b"one")
    journal.burn_round(2, b"two")
    journal.finish_round(3, model + 2, b"three")
    assert journal.checkpoint() == Checkpoint(round=3, trained=2, burnt_in_a_row=0, session=0)
    assert np.array_equal(journal.model(2, 6), model + 2)
    assert journal.transcript() == [b"one", b"two", b"three"]
    journal.finish_round(4, model + 3, b"four")
    kept = sorted(path.name for path in (tmp_path / "run").glob("model-*.f32"))
    assert kept == ["model-00000.f32", "model-00002.f32", "model-00003.f32"]
    with pytest.raises(VerificationError):
        journal.model(3, 7)
    with pytest.raises(StateError):
        Journal.create(tmp_path / "run", b"manifest", model)


def test_a_half_made_run_folder_is_made_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.bin").write_bytes(b"half")
    journal = Journal(tmp_path / "run")
    assert not journal.begun
    assert Journal.create(tmp_path / "run", b"whole", np.zeros(3, np.float32)).begun
    assert journal.manifest() == b"whole"


def coordinator(monkeypatch, capsys, *arguments):
    from coordinator.cli.main import main

    monkeypatch.setattr("sys.argv", ["touchstone-coordinator", *map(str, arguments)])
    code = main()
    return code, capsys.readouterr()


def test_run_commands(tmp_path, monkeypatch, capsys):
    alliance = found_alliance(tmp_path, [f"m{i}" for i in range(5)])
    at = ("--dir", alliance.coordinator_dir)
    code, said = coordinator(
        monkeypatch, capsys, "run", "start", *at, "--max-colluders", 1, "--dry-run", "--json"
    )
    assert code == 0
    assert json.loads(said.out)["data"]["threshold"] == 4
    for bad in ("", "x" * 121, "fine\x1b[2K"):
        code, said = coordinator(
            monkeypatch, capsys, "run", "start", *at, "--purpose", bad, "--dry-run"
        )
        assert (code, "a purpose must have" in said.err) == (2, True)
    code, said = coordinator(monkeypatch, capsys, "run", "start", *at, "--rounds", 0)
    assert (code, "error: --rounds" in said.err) == (2, True)
    code, said = coordinator(
        monkeypatch, capsys, "run", "start", *at, "--max-colluders", 1, "--json"
    )
    run_id = json.loads(said.out)["data"]["run_id"]
    code, said = coordinator(monkeypatch, capsys, "run", "list", *at, "--json")
    assert [item["state"] for item in json.loads(said.out)["data"]["runs"]] == ["pending"]
    assert coordinator(monkeypatch, capsys, "run", "abort", run_id[:8], *at)[0] == 0
    code, said = coordinator(monkeypatch, capsys, "run", "watch", run_id[:8], *at)
    assert (code, said.out.strip()) == (1, "aborted: operator")
    assert coordinator(monkeypatch, capsys, "run", "show", "ffff", *at)[0] == 3
    assert coordinator(monkeypatch, capsys, "run", "list", "--dir", tmp_path / "none")[0] == 3
