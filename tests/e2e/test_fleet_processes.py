"""The coordinator's and a member's long-lived processes, as processes."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.alliance import Alliance, found_alliance
from tests.support.processes import Start, starting
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    return found_alliance(tmp_path, ["a", "b"])


@pytest.mark.slow
def test_life_of_both_processes(start: Start, alliance: Alliance) -> None:
    node_dir = alliance.dir_of("a")
    serve, node = start("serve", alliance.coordinator_dir), start("up", node_dir)
    serve.wait_for("serving 'Test alliance'")
    node.wait_for("connected as member 1")

    second_serve = start("serve", alliance.coordinator_dir)
    second_node = start("up", node_dir)
    assert second_serve.child.wait(PATIENCE_S) == 3
    assert second_serve.said(f"already running on {alliance.coordinator_dir} (process")
    assert second_node.child.wait(PATIENCE_S) == 3
    assert second_node.said("a node is already running")

    assert serve.end(signal.SIGKILL) == -signal.SIGKILL
    node.wait_for("trying again")
    serve = start("serve", alliance.coordinator_dir)
    serve.wait_for("serving")
    wait_until(lambda: states(node_dir).count("connected") >= 2)

    assert serve.end() == 0
    assert serve.said("connected at the end: [1]")
    assert node.end() == 0
    assert node.said("the node has stopped")
    assert (node_dir / "node.log").stat().st_mode & 0o777 == 0o600
    member = alliance.database().read("member", lambda unit: unit.members.get("a"))
    assert member.last_seen_at is not None


def states(node_dir: Path) -> list[str]:
    lines = (node_dir / "node.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


@pytest.mark.slow
def test_a_revoked_node_ends_with_exit_code_4(start: Start, alliance: Alliance) -> None:
    serve, node = start("serve", alliance.coordinator_dir), start("up", alliance.dir_of("b"))
    serve.wait_for("serving")
    node.wait_for("connected as member 2")
    database = alliance.database()
    database.write("revoke", lambda unit: unit.members.revoke("b", database.clock.now()))
    database.close()
    assert node.child.wait(PATIENCE_S) == 4
    assert node.said("error: the member 'b' has been revoked")
    again = start("up", alliance.dir_of("b"))
    assert again.child.wait(PATIENCE_S) == 4
    assert serve.end() == 0


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use_is_a_clear_error(start: Start, alliance: Alliance, offset: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", alliance.port + offset))
        taken.listen()
        serve = start("serve", alliance.coordinator_dir)
        assert serve.child.wait(PATIENCE_S) == 5
    assert serve.said("error: ")
    assert serve.said(str(alliance.port + offset))


def test_folders_without_an_alliance_are_refused(start: Start, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for verb in ("serve", "up"):
        process = start(verb, empty)
        assert process.child.wait(PATIENCE_S) == 3
        assert process.said("hint: ")
    assert list(empty.iterdir()) == []
