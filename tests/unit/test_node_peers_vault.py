"""Whom a member knows, and where its session secrets lie."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

import participant.node.vault as vaults
from participant.node.peers import Peers, fingerprint
from participant.node.vault import Vault
from shared.errors import BadInput, StateError, VerificationError
from shared.trust.roster import Roster
from tests.support.manifests import entries

ROSTER = Roster(b"a" * 16, 3, entries(4))
OWN = {"own_index": 2, "own_key": entries(4)[1].public_key}
RUN = b"r" * 16


def accepted(tmp_path):
    peers = Peers(tmp_path)
    assert peers.accept(ROSTER, **OWN) is True
    return peers


def test_a_roster_is_accepted_once_and_pins_are_by_fingerprint(tmp_path):
    peers = accepted(tmp_path)
    assert peers.accept(ROSTER, **OWN) is False
    assert peers.pin("m1", fingerprint(entries(4)[0].public_key)) is True
    assert peers.pin("m1", fingerprint(entries(4)[0].public_key).replace(" ", "").upper()) is False
    assert peers.pinned_indices() == {1}
    assert peers.unpin("m1") is True
    assert peers.unpin("m1") is False
    assert peers.pinned_indices() == frozenset()


def test_a_pin_that_the_roster_contradicts_is_refused(tmp_path):
    peers = accepted(tmp_path)
    with pytest.raises(VerificationError):
        peers.pin("m1", hashlib.sha256(b"somebody else").hexdigest())
    with pytest.raises(BadInput):
        peers.pin("m1", "abc")
    assert peers.pins() == {}


def test_a_roster_may_not_swap_the_key_of_a_pinned_peer(tmp_path):
    peers = accepted(tmp_path)
    peers.pin("m1", fingerprint(entries(4)[0].public_key))
    swapped = replace(entries(4)[0], public_key=b"evil" * 8)
    later = Roster(b"a" * 16, 4, (swapped, *entries(4)[1:]))
    with pytest.raises(VerificationError, match="another key"):
        peers.accept(later, **OWN)
    assert peers.roster() == ROSTER


@pytest.mark.parametrize(
    "roster",
    [
        Roster(b"a" * 16, 2, entries(4)),
        Roster(b"b" * 16, 4, entries(4)),
        Roster(b"a" * 16, 4, entries(1)),
        Roster(b"a" * 16, 4, (entries(4)[0], replace(entries(4)[1], public_key=b"x" * 32))),
    ],
    ids=["older", "another alliance", "without us", "our key swapped"],
)
def test_a_roster_that_cannot_be_ours_is_refused(tmp_path, roster):
    peers = accepted(tmp_path)
    with pytest.raises(VerificationError):
        peers.accept(roster, **OWN)


def renumbered(*changes):
    return Roster(b"a" * 16, 4, tuple(sorted([entries(4)[1], *changes])))


@pytest.mark.parametrize(
    "later",
    [
        renumbered(replace(entries(4)[0], index=5)),
        renumbered(entries(4)[0], replace(entries(4)[2], index=4), replace(entries(4)[3], index=3)),
        renumbered(replace(entries(5)[4], public_key=entries(4)[3].public_key)),
        renumbered(replace(entries(5)[4], member_id="m4")),
    ],
    ids=["moved", "exchanged", "known key under a new name", "known name with a new key"],
)
def test_a_roster_may_not_move_a_member_to_another_index(tmp_path, later):
    peers = accepted(tmp_path)
    with pytest.raises(VerificationError, match="index"):
        peers.accept(later, **OWN)
    assert peers.roster() == ROSTER


def test_members_may_leave_and_join(tmp_path):
    peers = accepted(tmp_path)
    assert peers.accept(renumbered(entries(4)[0], entries(5)[4]), **OWN) is True


def test_members_of_a_run_count_as_pinned_by_name_and_key_not_by_index(tmp_path):
    peers = accepted(tmp_path)
    peers.pin("m1", fingerprint(entries(4)[0].public_key))
    of_run = (replace(entries(4)[0], index=3), replace(entries(4)[2], index=1))
    assert peers.pinned_among(of_run) == {3}
    assert peers.pinned_among([replace(entries(4)[0], public_key=b"x" * 32)]) == frozenset()


def test_pinning_before_a_roster_is_a_state_error(tmp_path):
    with pytest.raises(StateError):
        Peers(tmp_path).pin("m1", "0" * 64)


def test_secrets_are_private_files_and_end_with_the_run(tmp_path):
    vault = Vault(tmp_path / "secsum", binding=b"boot-1")
    vault.save(RUN, b"guard", b"secret-1")
    vault.save(RUN, b"guard-2", b"secret-2")
    assert (vault.guard(RUN), vault.session(RUN)) == (b"guard-2", b"secret-2")
    for path in (tmp_path / "secsum").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secsum").stat().st_mode & 0o777 == 0o700
    vault.end(RUN)
    assert (vault.guard(RUN), vault.session(RUN)) == (b"guard-2", None)
    left = b"".join(path.read_bytes() for path in (tmp_path / "secsum").iterdir())
    assert b"secret" not in left


def test_another_boot_wipes_secrets_and_keeps_guards(tmp_path):
    first = Vault(tmp_path / "secsum", binding=b"boot-1")
    first.save(RUN, b"guard", b"secret")
    first.close()
    again = Vault(tmp_path / "secsum", binding=b"boot-1")
    assert again.session(RUN) == b"secret"
    again.close()
    other = Vault(tmp_path / "secsum", binding=b"boot-2")
    assert (other.guard(RUN), other.session(RUN)) == (b"guard", None)


def test_without_a_boot_id_secrets_are_bound_to_the_process_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(vaults, "BOOT_ID", tmp_path / "none")
    here = vaults.boot_binding()
    assert here == vaults.boot_binding()
    code = (
        "from pathlib import Path; import participant.node.vault as vaults, os;"
        f"vaults.BOOT_ID = Path({str(tmp_path / 'none')!r}); os.getpid = lambda: {os.getpid()};"
        "print(vaults.boot_binding().decode())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(other.stdout) > 32
    assert other.stdout.strip().encode() != here


def test_two_processes_cannot_hold_one_store(tmp_path):
    vault = Vault(tmp_path / "secsum")
    with pytest.raises(StateError):
        Vault(tmp_path / "secsum")
    vault.close()
    Vault(tmp_path / "secsum").close()


def test_what_a_killed_process_was_writing_is_wiped(tmp_path):
    folder = tmp_path / "secsum"
    vault = Vault(folder, binding=b"boot-1")
    vault.save(RUN, b"guard", b"secret")
    own, other = (f".session-{run.hex()}.bin.1.ab.part" for run in (RUN, b"o" * 16))
    for name in (own, f".upload-{RUN.hex()}.bin.1.ab.part", other):
        (folder / name).write_bytes(b"secret")
    vault.end(RUN)
    assert [path.name for path in folder.glob(".*")] == [other], "another run may be writing it"
    vault.close()
    again = Vault(folder, binding=b"boot-1")
    assert list(folder.glob(".*")) == []
    again.close()
