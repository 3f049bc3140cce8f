"""kill -9 at every change of the disk: founding and joining go on where they were."""

from __future__ import annotations

from pathlib import Path

from coordinator.db import Database
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.files import load_authority, load_signing_key
from coordinator.enrolment.founding import found
from coordinator.enrolment.service import invite, roster
from participant.node.keystore import KeyStore, channel_credentials, identity_key
from shared.trust.certificates import fingerprint
from shared.trust.invitation import write_invitation
from tests.support import crash_cases
from tests.support.killed import killed_at_each_step

STEPS = 16


def _folders(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / str(step) for step in range(STEPS)]
    for folder in folders:
        folder.mkdir()
    return folders


def _check_kills(killed: list[bool], at_least: int) -> None:
    """The kills reach from the first change of the disk to the last one."""
    assert sum(killed) >= at_least
    assert killed == sorted(killed, reverse=True)
    assert not killed[-1]


def test_founding_survives_being_killed_anywhere(tmp_path: Path) -> None:
    folders = _folders(tmp_path)
    killed = killed_at_each_step(crash_cases.__name__, "found_here", folders)
    _check_kills(killed, 8)  # two folders, three keys, two certificates, the settings
    for folder in folders:
        founded = found(folder / "c", name="Crash", host="127.0.0.1", port=7443)
        _check_whole(folder / "c", founded.alliance.ca_fingerprint)
        assert not found(folder / "c", name="Crash", host="127.0.0.1", port=7443).fresh


def _check_whole(folder: Path, ca_fingerprint: str) -> None:
    authority = load_authority(folder)
    assert fingerprint(authority.certificate) == ca_fingerprint
    assert authority.key.public_key() == authority.certificate.public_key()
    load_signing_key(folder)
    db = Database.open(folder)
    assert db.read("verify", lambda unit: unit.audit.verify()).seq == 1
    db.close()


def test_joining_survives_being_killed_anywhere(tmp_path: Path) -> None:
    folders = _folders(tmp_path)
    for folder in folders:
        found(folder / "c", name="Crash", host="127.0.0.1", port=7443)
        db = Database.open(folder / "c")
        write_invitation(folder / "token", invite(folder / "c", db, "m"))
        db.close()
    killed = killed_at_each_step(crash_cases.__name__, "join_here", folders)
    _check_kills(killed, 8)  # two folders, two keys, three certificates, policy, node.toml
    for folder in folders:
        crash_cases.join_here(str(folder))
        _check_member(folder)


def _check_member(folder: Path) -> None:
    channel_credentials(folder / "m")
    db = Database.open(folder / "c")
    pem = KeyStore.of(folder / "m").tls.read_bytes()
    assert Gatekeeper.open(folder / "c", db).admit(pem).index == 1
    (entry,) = roster(db).entries
    assert entry.public_key == identity_key(folder / "m").public_key().public_bytes_raw()
    assert roster(db).epoch == 1
    db.close()
