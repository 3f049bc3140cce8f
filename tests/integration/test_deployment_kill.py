"""kill -9 at every point of a change leaves the old model running or the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from participant.deployment.fetch import fetch_release
from participant.node.registry_client import channel_factory
from tests.support.alliance import found_alliance
from tests.support.deployment import knowing, member_of, records
from tests.support.registry import serving
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_kill_9_at_every_point_leaves_the_old_model_or_the_new_one(tmp_path):
    member = member_of(found_alliance(tmp_path, ["a"]), "a")
    with serving(member.alliance, member.database):
        old, new = member.publish(1, knowing(0.3)), member.publish(2, knowing(0.8))
        factory = channel_factory(member.folder)
        member.deployer(records(160, own=0.8)).activate(old, factory, personal=False)
        fetch_release(member.folder, new, factory, min_sequence=2)
    member.database.close()
    # torch's own threads do not survive a fork: one thread never starts them.
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deployment_crash", str(member.folder), new.hex()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    before = {"release": old.hex(), "head": None, "pinned": False, "half": []}
    deployed = outcomes["deploy"][-1]["now"]
    assert deployed["head"] is not None
    assert deployed == {**before, "release": new.hex(), "head": deployed["head"]}
    pinned = {**before, "pinned": True}
    for action, start, end, first, again, activations in (
        ("deploy", before, deployed, "activated", "already_active", 1),
        ("activate", before, deployed, "activated", "already_active", 1),
        ("rollback", deployed, before, "activated", "nothing_before", 1),
        ("pin", before, pinned, "pinned", "already_pinned", 0),
        ("unpin", pinned, before, "unpinned", "already_unpinned", 0),
    ):
        found = [one["left"] for one in outcomes[action]]
        assert start in found, action
        assert end in found, action
        for one in outcomes[action]:
            assert one["left"] in (start, end), (action, one)
            assert one["decision"] == (first if one["left"] == start else again), (action, one)
            assert (one["now"], one["activations"]) == (end, activations), (action, one)
            assert one["parts"] == [], (action, one)
