"""Every command on a real disk that is full, and on one that is read-only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from participant.node.registry_client import channel_factory
from participant.store import Store
from shared.errors import Exit
from tests.support.alliance import found_alliance
from tests.support.deployment import knowing, member_of, records
from tests.support.model import listing
from tests.support.model import records as tables
from tests.support.registry import serving
from tests.support.small_disk import FULL, READ_ONLY, on_small_disk, why_not
from tests.support.store import shops, write_export

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

FAULTS = (FULL, READ_ONLY)
WORKS, REFUSED = Exit.OK, Exit.CONFIG
PARTICIPANT: dict[str, int] = {
    "model list": WORKS,
    "model show": WORKS,
    "model verify": WORKS,
    "model rollback --dry-run": WORKS,
    "model rollback": REFUSED,
    "model pin RELEASE": REFUSED,
    "audit verify": WORKS,
    "audit show": WORKS,
    "privacy ledger": WORKS,
    "privacy project": WORKS,
    "run pending": WORKS,
    "run list": WORKS,
    "data profile": WORKS,
    "data check": REFUSED,
    "data import EXPORT --kind shops": REFUSED,
    "score LISTINGS --out DISK/scores.csv": REFUSED,
    "peers list": WORKS,
    "policy show": WORKS,
    "cert show": WORKS,
    "doctor --offline": Exit.DOCTOR,
    "bugreport --offline": WORKS,
}
COORDINATOR: dict[str, int] = {
    "member list": WORKS,
    "member invite c --token-out DISK/token": REFUSED,
    "member revoke a": REFUSED,
    "run list": WORKS,
    "release list": WORKS,
    "audit verify": WORKS,
    "audit show": WORKS,
    "cert show": WORKS,
    "doctor --offline": Exit.DOCTOR,
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What every command said, by side, fault and command."""
    root = tmp_path_factory.mktemp("small")
    member = member_of(found_alliance(root, ["a", "b"]), "a")
    with serving(member.alliance, member.database):
        old, new = member.publish(1, knowing(0.3)), member.publish(2, knowing(0.8))
        factory = channel_factory(member.folder)
        for release in (old, new):
            member.deployer(records(120)).activate(release, factory, personal=False)
    member.database.close()
    store = Store.open(member.folder)
    store.records.put("shops", shops([f"s{at}" for at in range(30)]))
    store.close()
    given = {
        "RELEASE": new.hex(),
        "EXPORT": str(write_export(shops(["new"]), root / "shops.csv")),
        "LISTINGS": str(write_export(tables("listings", listing(0)), root / "listings.csv")),
    }
    sides = (
        ("participant", member.folder, PARTICIPANT),
        ("coordinator", member.alliance.coordinator_dir, COORDINATOR),
    )
    asked = [
        (side, fault, command) for side, _, table in sides for fault in FAULTS for command in table
    ]
    jobs = [
        (
            "run_on",
            {
                "fault": fault,
                "side": side,
                "source": str(folder),
                "commands": [[given.get(word, word) for word in line.split()] for line in table],
            },
        )
        for side, folder, table in sides
        for fault in FAULTS
    ]
    found = [one for result in on_small_disk(*jobs) for one in result]
    return dict(zip(asked, found, strict=True))


CASES = [("participant", one, PARTICIPANT[one]) for one in PARTICIPANT] + [
    ("coordinator", one, COORDINATOR[one]) for one in COORDINATOR
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("side", "command", "code"), CASES)
def test_a_command_works_or_names_the_disk(
    told: dict[tuple[str, str, str], dict[str, Any]], fault: str, side: str, command: str, code: int
) -> None:
    said = told[side, fault, command]
    both = said["out"] + said["err"]
    assert said["code"] == code, both
    assert said["changed"] == []
    assert "damaged" not in both
    assert "Traceback" not in both
    assert "backup" not in both
    if code == REFUSED:
        assert f"the disk is {fault}" in said["err"]
        assert "hint: " in said["err"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("side", ["participant", "coordinator"])
def test_doctor_finds_the_disk_and_no_damage(
    told: dict[tuple[str, str, str], dict[str, Any]], fault: str, side: str
) -> None:
    said = told[side, fault, "doctor --offline"]["out"].splitlines()
    (disk,) = [line for line in said if line.split()[1:2] == ["disk"]]
    assert disk.startswith("fail")
    assert f"the disk is {fault}" in disk
    for name in ("database", "audit"):
        (line,) = [line for line in said if line.split()[1:2] == [name]]
        assert line.startswith("ok"), line


def test_what_only_the_log_of_changes_knows_is_not_left_out(tmp_path: Path) -> None:
    """A process was killed: its last commits lie beside the database. Old data is no answer."""
    Store.open(tmp_path / "node").close()  # the schema is in the file itself
    store = Store.open(tmp_path / "node")
    store.audit.append("test.done", {"n": 1})
    copied = tmp_path / "killed"
    shutil.copytree(tmp_path / "node", copied)
    store.close()
    (copied / "store" / "touchstone.db-shm").unlink()
    assert (copied / "store" / "touchstone.db-wal").stat().st_size
    arguments = {"side": "participant", "source": str(copied), "commands": [["audit", "show"]]}
    jobs = [("run_on", {**arguments, "fault": fault}) for fault in FAULTS]
    for fault, (said,) in zip(FAULTS, on_small_disk(*jobs), strict=True):
        assert said["code"] == REFUSED, said
        assert f"cannot use touchstone.db: the disk is {fault}" in said["err"]


def test_damage_is_still_called_damage(tmp_path: Path) -> None:
    """On a full disk too: the database is as it lies, and does not hold."""
    Store.open(tmp_path / "node").close()
    path = tmp_path / "node" / "store" / "touchstone.db"
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    arguments = {"side": "participant", "source": str(tmp_path / "node"), "fault": FULL}
    commands = [["doctor", "--offline", "--json"]]
    ((said,),) = on_small_disk(("run_on", {**arguments, "commands": commands}))
    checks = {one["name"]: one for one in json.loads(said["out"])["data"]["checks"]}
    assert "damaged" in checks["database"]["text"]
    assert "backup" in checks["database"]["hint"]
    assert "the disk is full" in checks["disk"]["text"]
