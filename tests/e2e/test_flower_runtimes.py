"""The same two applications on Flower's own runtimes: simulation engine and SuperLink."""

from __future__ import annotations

import json
import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from coordinator.db.records import RunState
from coordinator.rounds.launch import start_run
from participant.ingest.service import import_file
from participant.store import Store
from tests.support.alliance import Alliance, found_alliance
from tests.support.flower import BIN, ROOT, Flower, environment, flower
from tests.support.runs import POLICY, SETTINGS, prepare_members
from tests.support.waiting import PATIENCE_S, wait_until

PAIR_POLICY = """\
allowed_purposes = ["counterfeit-detection"]
approval = "never"
min_cohort = 2
max_colluders = 0
min_known_peers = 1
min_training_rows = 1
min_class_rows = 0
"""


def shops(path: Path, seed: int) -> Path:
    """Eighty labelled shops whose names tell the label most of the time."""
    draw = random.Random(seed)
    lines = ["shop_id,host,url,label"]
    for number in range(80):
        bad = draw.random() < 0.5
        host = f"outlet-{number}-{seed}.example" if bad else f"family-store-{number}-{seed}.example"
        lines.append(f"{seed}-{number},{host},https://{host},{int(bad)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def prepared(tmp_path: Path, members: int, policy: str, **changes: object):
    alliance = found_alliance(tmp_path, [f"member-{i}" for i in range(1, members + 1)])
    database = alliance.database()
    prepare_members(alliance, database, policy)
    for seed, folder in enumerate(alliance.member_dirs.values()):
        store = Store.open(folder)
        import_file(store, shops(tmp_path / f"{seed}.csv", seed), "shops")
        store.close()
    settings = SETTINGS.model_copy(
        update={"rounds": 2, "kind": "shop", "setup_s": 100, "mask_s": 100, "unmask_s": 60}
        | changes
    )
    return alliance, database, start_run(alliance.coordinator_dir, database, settings)


def follow(link: Flower, alliance: Alliance, database, run_id: str, *extra: str):
    config = {
        "state-dir": str(alliance.coordinator_dir),
        "run-id": run_id,
        "state-root": str(next(iter(alliance.member_dirs.values())).parent),
    }
    text = " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())

    def started() -> bool:
        return link.run("--run-config", text, *extra).returncode == 0

    wait_until(started)

    def ended() -> bool:
        return database.read("r", lambda unit: unit.runs.get(run_id)).state.terminal

    try:
        wait_until(ended, 400)
    except AssertionError:
        pytest.fail(link.said())
    run = database.read("r", lambda unit: unit.runs.get(run_id))
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    return database.read("rounds", lambda unit: unit.rounds.of_run(run_id))


@pytest.mark.slow
def test_two_rounds_on_the_simulation_engine(tmp_path):
    alliance, database, run_id = prepared(tmp_path, 5, POLICY)
    with flower(tmp_path / "flower", simulation=True) as link:
        rounds = follow(link, alliance, database, run_id, "--federation-config", "num-supernodes=5")
    assert [(item.state, item.survivors) for item in rounds] == [("summed", (1, 2, 3, 4, 5))] * 2


@pytest.mark.slow
def test_a_round_on_a_superlink_with_two_supernodes(tmp_path):
    alliance, database, run_id = prepared(
        tmp_path, 2, PAIR_POLICY, max_colluders=0, n_min=2, rounds=1
    )
    with flower(tmp_path / "flower", simulation=False) as link:
        for folder in alliance.member_dirs.values():
            link.supernode(folder)
        rounds = follow(link, alliance, database, run_id)
    assert [(item.state, item.survivors) for item in rounds] == [("summed", (1, 2))]


def test_the_bundle_that_flower_ships_carries_no_code(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [str(BIN / "flwr"), "build", "--app", str(ROOT)],
        env=environment(home), cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    (bundle,) = tmp_path.glob("*.fab")
    names = zipfile.ZipFile(bundle).namelist()
    assert "pyproject.toml" in names
    assert not [name for name in names if name.endswith((".py", ".so", ".pyc"))]
