"""``kill -9`` of a real node in the middle of real training, with the commands people run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from coordinator.db.records import RunState
from coordinator.rounds.launch import start_run
from shared.fleet.exchange import MASKED
from tests.support.alliance import found_alliance
from tests.support.contract import sound, store_of
from tests.support.forked import Forked
from tests.support.runs import SETTINGS, prepare_members
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = [f"member-{index}" for index in range(1, 6)]
VICTIM = NAMES[1]
ROUNDS = 3
WAIT_S = 400.0

LONG = SETTINGS.model_copy(
    update={
        "rounds": ROUNDS,
        # A second or more of training, so that it can be met.
        "local_epochs": 20,
        "batch_size": 2,
        "setup_s": 240,
        "mask_s": 240,
        "away_s": 120,
    }
)


def asked_to_train(folder: Path) -> int:
    """Return how often the node has been asked for a masked update, as its log has it."""
    path = folder / "node.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(json.loads(line).get("kind") == MASKED for line in lines if line.endswith("}"))


def kept_upload(folder: Path) -> bytes:
    """Return the masked vector that the node has finished last."""
    return b"".join(path.read_bytes() for path in (folder / "secsum").glob("upload-*.bin"))


def test_a_node_killed_while_it_trains_is_back_in_the_same_round(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, NAMES)
    database = alliance.database()
    prepare_members(alliance, database)
    for folder in alliance.member_dirs.values():
        store_of(sound(), folder).close()
    victim = alliance.dir_of(VICTIM)

    def start(side: str, verb: str, folder: Path) -> Forked:
        log = tmp_path / f"{folder.name}.txt"
        return Forked(f"{side}.cli.main", [verb, "--dir", str(folder)], log)

    children = {"coordinator": start("coordinator", "serve", alliance.coordinator_dir)}
    try:
        for name, folder in alliance.member_dirs.items():
            children[name] = start("participant", "up", folder)
        run_id = start_run(alliance.coordinator_dir, database, LONG)
        # Its second training: the first round's vector lies there, and would be another after it.
        wait_until(lambda: asked_to_train(victim) == 2, WAIT_S)
        before = kept_upload(victim)
        children[VICTIM].kill()
        assert children[VICTIM].wait() == -signal.SIGKILL
        assert before
        assert kept_upload(victim) == before, "it was killed after its training"
        rounds = database.read("r", lambda unit: unit.rounds.of_run(run_id))
        assert [one.state for one in rounds if one.round == 2] == ["masking"]

        children[VICTIM] = start("participant", "up", victim)
        wait_until(
            lambda: database.read("r", lambda unit: unit.runs.get(run_id)).state.terminal, WAIT_S
        )
    finally:
        for child in children.values():
            child.kill()
        for child in children.values():
            child.wait()
    run = database.read("r", lambda unit: unit.runs.get(run_id))
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    rounds = database.read("r", lambda unit: unit.rounds.of_run(run_id))
    summed = {one.round: one.survivors for one in rounds if one.state == "summed"}
    assert sorted(summed) == list(range(1, ROUNDS + 1))
    assert all(2 in survivors for survivors in summed.values())
    database.close()
