"""A coordinator that has forgotten a round asks for it again; members have not and do not answer.

With the members' rule taken out they do, and the check that the kill tests rest on says so.
"""

from __future__ import annotations

import pytest

from coordinator.rounds.journal import Journal
from coordinator.rounds.launch import abort_run
from participant.node.runs import MemberRun
from shared.fleet.exchange import MASKED
from shared.secagg import RunGuard
from tests.support.reveals import noting, revealed_once, reveals
from tests.support.runs import SETTINGS, Federation, federation

ASKED_AGAIN = 15
"""Masked requests after which the second try is ended; five members refuse each."""


class Killed(Exception):
    """The process died here."""


def forgetful(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> str:
    """Open round 1, forget all of it, and go on; return the run's id."""
    run_id = fed.start(SETTINGS.model_copy(update={"rounds": 1}))

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(Journal, "finish_round", die)
        with pytest.raises(Killed):
            fed.drive(run_id)
    Journal(fed.folder(run_id)).close_session()
    asked: list[int] = []

    def count(message) -> bool:
        if message.metadata.message_type == MASKED:
            asked.append(message.metadata.dst_node_id)
            if len(asked) == ASKED_AGAIN:
                abort_run(fed.database, run_id, "it does not come to an end")
        return False

    fed.grid.lose_reply = count
    fed.drive(run_id)
    return run_id


@pytest.mark.parametrize("guarded", [True, False], ids=["rule", "rule taken out"])
def test_a_round_that_was_forgotten_is_not_released_again(tmp_path, monkeypatch, guarded):
    monkeypatch.setattr(MemberRun, "handle", noting(MemberRun.handle))
    if not guarded:
        monkeypatch.setattr(RunGuard, "check_round", lambda *_: None)
    with federation(tmp_path) as fed:
        run_id = forgetful(fed, monkeypatch)
        folders = list(fed.alliance.member_dirs.values())
        assert sum(len(reveals(folder, run_id)) >= 1 for folder in folders) >= 4
        if guarded:
            assert all(len(revealed_once(folder, run_id)) <= 1 for folder in folders)
            return
        twice = [folder for folder in folders if len(reveals(folder, run_id)) > 1]
        assert len(twice) >= 4
        for folder in twice:
            with pytest.raises(AssertionError, match="released twice"):
                revealed_once(folder, run_id)
