"""A node as a process finds a release of which nobody tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.db.records import RunState
from participant.deployment.state import read_state
from participant.store import Store
from tests.support.alliance import found_alliance
from tests.support.forked import Forked
from tests.support.registry import release
from tests.support.release import run_id
from tests.support.waiting import wait_until


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_that_connects_judges_what_it_was_never_told_of(tmp_path: Path) -> None:
    """The run has no manifest any more, so that its end is told to nobody."""
    alliance = found_alliance(tmp_path, ["a"])
    database = alliance.database()
    release_id = release(alliance, database)
    ended = database.clock.now()
    database.write(
        "end", lambda unit: unit.runs.advance(run_id(1).hex(), RunState.COMPLETED, ended)
    )
    database.close()
    folder, children = alliance.dir_of("a"), []
    try:
        for name, at in (("serve", alliance.coordinator_dir), ("up", folder)):
            log = tmp_path / f"{name}.txt"
            log.touch()
            children.append(Forked("tests.support.run_process", [name, "--dir", str(at)], log))

        def runs() -> bool:
            active = read_state(folder / "models").active
            return active is not None and active.release_id == release_id.hex()

        wait_until(runs)
    finally:
        for child in children:
            child.kill()
            child.wait()
    store = Store.open(folder, create=False)
    assert [event.kind for event in store.audit.events() if event.kind == "run.ended"] == []
    store.close()
