"""Renewal in real processes: killed anywhere, and while a node and a coordinator run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from coordinator.db import Database
from participant.node.keystore import KeyStore, connection_pair
from participant.node.membership_client import membership
from participant.node.renewal import over_grpc, renew
from participant.store import Store
from shared.clock import SystemClock
from shared.trust.certificates import fingerprint, load_certificate, renewal_due
from tests.support import crash_cases
from tests.support.alliance import Alliance
from tests.support.killed import killed_at_each_step
from tests.support.processes import starting
from tests.support.renewal import old_alliance, renewals_of
from tests.support.waiting import wait_until

STEPS = 7


def test_renewing_survives_being_killed_anywhere(tmp_path: Path) -> None:
    old_alliance(tmp_path / "0", ["a"])
    folders = [tmp_path / str(step) for step in range(STEPS)]
    for folder in folders[1:]:
        shutil.copytree(folders[0], folder)
    killed = killed_at_each_step(crash_cases.__name__, "renew_here", folders)
    assert sum(killed) >= 3  # key, identity certificate, connection certificate
    assert killed == sorted(killed, reverse=True)
    assert not killed[-1]
    stores = [KeyStore.of(folder / "members" / "a") for folder in folders]
    assert any(store.leftovers() for store in stores)
    for folder in folders:
        _check_admitted(folder)
        crash_cases.renew_here(str(folder))
        _check_admitted(folder)
        _check_tidy(folder / "members" / "a")


def _check_admitted(folder: Path) -> None:
    db = Database.open(folder / "coordinator")
    pair = connection_pair(folder / "members" / "a")
    assert renewals_of(folder / "coordinator", db).admit(pair.pem).index == 1
    db.close()


def _check_tidy(member: Path) -> None:
    pair = connection_pair(member)
    assert KeyStore.of(member).tls_keys() == [pair.key_path]
    assert not KeyStore.of(member).leftovers()
    store = Store.open(member)
    last = list(store.audit.events())[-1]
    store.audit.verify()
    store.close()
    assert last.kind == "certificate.renewed"
    assert last.body["tls_fingerprint"] == fingerprint(pair.certificate)


def _events(folder: Path) -> list[str]:
    lines = (folder / "node.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def _last_state(folder: Path) -> str:
    return [event for event in _events(folder) if event in {"connected", "lost", "stopped"}][-1]


def _admitted(alliance: Alliance) -> str:
    db = alliance.database()
    try:
        return db.read("member", lambda unit: unit.members.get("a")).tls_fingerprint
    finally:
        db.close()


@pytest.mark.slow
def test_a_running_node_and_its_coordinator_renew_without_a_restart(tmp_path: Path) -> None:
    alliance = old_alliance(tmp_path, ["a"])
    folder, joined = alliance.dir_of("a"), _admitted(alliance)
    with starting(tmp_path) as start:
        serve = start("serve", alliance.coordinator_dir)
        serve.wait_for("serving 'Test alliance'")
        server = load_certificate((alliance.coordinator_dir / "keys" / "server.pem").read_bytes())
        assert not renewal_due(server, SystemClock().now())  # it was, before `serve` started

        node = start("up", folder)
        wait_until(lambda: _admitted(alliance) != joined)
        by_itself = fingerprint(connection_pair(folder).certificate)
        assert _admitted(alliance) == by_itself
        wait_until(lambda: _last_state(folder) == "connected")

        connections = _events(folder).count("connected")
        renew(folder, over_grpc(folder))  # as `cert renew` does beside a running node
        with membership(folder) as client:
            assert client.check().index == 1  # from here on the old certificate is refused
        assert _admitted(alliance) != by_itself
        wait_until(lambda: _events(folder).count("connected") > connections)
        assert node.end() == 0
        assert serve.end() == 0
