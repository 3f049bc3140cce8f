"""A person's word is about one exact manifest, ends with it, and survives a kill at any moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from participant.node import approvals as module
from participant.node.approvals import Approval, Approvals
from shared.errors import MalformedMessage, PolicyRefused, VerificationError
from shared.trust.manifest import sign_manifest, verify_manifest
from tests.support.killed import killed_at_each_step
from tests.support.manifests import NOW, a_manifest

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def signed(**changes):
    return sign_manifest(a_manifest(coordinator_key=PUBLIC, **changes), KEY)


def verified(data):
    return verify_manifest(data, PUBLIC, NOW)


def keep(approvals, **changes):
    data = signed(**changes)
    approvals.keep(verified(data), data, NOW)
    return verified(data)


def say(approvals, run, said="approved", reason=""):
    approvals.decide(Approval(run.manifest.run_id, run.hash, said, reason, NOW))


def test_what_a_person_said_is_kept_with_its_reason(tmp_path):
    approvals = Approvals(tmp_path, PUBLIC)
    run = keep(approvals)
    assert approvals.said(run) == ""
    say(approvals, run)
    assert approvals.said(run) == "approved"
    say(approvals, run, "refused", "not before the audit")
    again = Approvals(tmp_path, PUBLIC).decision(run)
    assert (again.said, again.reason, again.at) == ("refused", "not before the audit", NOW)
    for path in (tmp_path / "approvals").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "approvals").stat().st_mode & 0o777 == 0o700


def test_an_approval_is_of_one_manifest_and_a_run_has_one(tmp_path):
    approvals = Approvals(tmp_path, PUBLIC)
    looked_at = keep(approvals)
    say(approvals, looked_at)
    other = signed(rounds=500)
    with pytest.raises(PolicyRefused) as refused:
        approvals.keep(verified(other), other, NOW)
    assert refused.value.reason == "manifest_changed"
    assert approvals.said(verified(other)) == ""
    assert approvals.manifest(looked_at.manifest.run_id) == looked_at


def test_a_manifest_signed_by_somebody_else_is_never_shown(tmp_path):
    keep(Approvals(tmp_path, PUBLIC))
    with pytest.raises(VerificationError):
        Approvals(tmp_path, b"s" * 32).runs()


def test_the_folder_forgets_expired_runs_first_and_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ASKED_RUNS", 3)
    approvals = Approvals(tmp_path, PUBLIC)
    old = signed(
        run_id=b"o" * 16, created_at=NOW - timedelta(days=9), expires_at=NOW - timedelta(1)
    )
    approvals.keep(verify_manifest(old, PUBLIC, NOW - timedelta(2)), old, NOW - timedelta(2))
    for name in (b"1", b"2", b"3"):
        keep(approvals, run_id=name * 16)
    assert {run.manifest.run_id for run in approvals.runs()} == {b"1" * 16, b"2" * 16, b"3" * 16}
    with pytest.raises(PolicyRefused) as refused:
        keep(approvals, run_id=b"4" * 16)
    assert refused.value.reason == "too_many_runs"


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_damaged_decision_is_no_approval(tmp_path, cut):
    approvals = Approvals(tmp_path, PUBLIC)
    run = keep(approvals)
    say(approvals, run)
    path = next((tmp_path / "approvals").glob("*.said"))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(MalformedMessage):
        approvals.said(run)


def test_a_word_nobody_knows_is_no_approval():
    entry = Approval(b"r" * 16, b"h" * 32, "approved", "", NOW)
    strange = entry.encode().replace(b"approved", b"APPROVED")
    assert Approval.decode(strange).said == "refused"
    assert Approval.decode(entry.encode()) == entry
    assert Approval.decode(replace(entry, said="refused").encode()).said == "refused"


def decide_once(folder):
    """What `run approve` does on disk; called in a process that is killed on the way."""
    from pathlib import Path

    approvals = Approvals(Path(folder), PUBLIC)
    say(approvals, approvals.manifest(b"r" * 16))


def test_killed_while_deciding_leaves_the_word_said_or_not_said(tmp_path):
    folders = [tmp_path / str(step) for step in range(4)]
    for folder in folders:
        folder.mkdir()
        keep(Approvals(folder, PUBLIC))
    killed = killed_at_each_step(__name__, "decide_once", folders)
    assert killed[0]
    assert not killed[-1]
    for folder, was_killed in zip(folders, killed, strict=True):
        approvals = Approvals(folder, PUBLIC)
        said = approvals.said(approvals.runs()[0])
        assert said == ("" if was_killed else "approved")
