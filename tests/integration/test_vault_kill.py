"""kill -9 as a masked vector is kept, or a run's secrets are wiped, wherever the disk changes."""

from __future__ import annotations

from pathlib import Path

from participant.node.vault import Vault
from tests.support import crash_cases
from tests.support.crash_cases import RUN_ID
from tests.support.killed import killed_at_each_step

STEPS = 12


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "secsum").glob(".*"))


def nodes(root: Path) -> list[Path]:
    folders = [root / f"{step}" for step in range(STEPS)]
    for folder in folders:
        vault = Vault(folder / "secsum")
        vault.save_manifest(RUN_ID, b"signed")
        vault.save(RUN_ID, b"guard 1", b"session 1")
        vault.close()
    return folders


def test_a_guard_is_never_behind_its_session_and_the_step_can_be_done_again(
    tmp_path: Path,
) -> None:
    folders = nodes(tmp_path)
    killed = killed_at_each_step(crash_cases.__name__, "save_masked_here", folders)
    assert killed == sorted(killed, reverse=True), "killed up to the end, and not beyond"
    assert 3 <= sum(killed) < STEPS
    assert any(".session-" in name for folder in folders for name in leftovers(folder))
    left = set()
    for folder, died in zip(folders, killed, strict=True):
        vault = Vault(folder / "secsum")
        assert leftovers(folder) == [], "secrets in a file that no name points to"
        state = vault.guard(RUN_ID), vault.session(RUN_ID), vault.upload(RUN_ID)
        left.add(state)
        # A guard ahead of its session refuses; a session ahead of its guard could release twice.
        assert not (state[0] == b"guard 1" and state[1] == b"session 2")
        assert not (state[1] == b"session 2" and state[2] is None), "its bytes are asked for again"
        if not died:
            assert state == (b"guard 2", b"session 2", b"upload 2")
        vault.save(RUN_ID, b"guard 3", b"session 3")
        assert (vault.guard(RUN_ID), vault.session(RUN_ID)) == (b"guard 3", b"session 3")
        vault.close()
    assert len(left) == 4, "before, after the guard, after the upload, after the session"


def test_a_run_that_is_over_is_over_for_good_however_often_it_is_killed(tmp_path: Path) -> None:
    folders = nodes(tmp_path)
    killed = killed_at_each_step(crash_cases.__name__, "end_here", folders)
    assert any(killed)
    for folder in folders:
        vault = Vault(folder / "secsum")
        assert leftovers(folder) == []
        assert vault.manifests() or vault.session(RUN_ID) is None, "secrets go first"
        vault.end(RUN_ID)
        assert vault.session(RUN_ID) is None
        assert vault.manifests() == {}
        assert vault.guard(RUN_ID) == b"guard 1", "a guard outlives its run"
        vault.close()
