"""What a run does when a step fails: another session, another slot, another round, a pause."""

from __future__ import annotations

import pytest

from coordinator.db.records import RunState
from coordinator.rounds.courier import Courier
from coordinator.rounds.journal import Journal
from coordinator.rounds.round import UNMASK_PATIENCE
from shared.fleet.exchange import ADVERTISE, MASKED, UNMASK
from tests.support.cheats import deal_broken_boxes
from tests.support.runs import SETTINGS, Federation, federation, few_slots

ONE_ROUND = SETTINGS.model_copy(update={"rounds": 1})
TWO_ROUNDS = SETTINGS.model_copy(update={"rounds": 2})


def bodies(fed: Federation, kind: str) -> list[dict]:
    events = fed.database.read("events", lambda unit: unit.audit.events())
    return [dict(event.body) for event in events if event.kind == kind]


def test_a_member_that_all_complain_about_is_left_out_of_the_next_session(tmp_path, monkeypatch):
    deal_broken_boxes(monkeypatch, 3, victims={1, 2})
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start(ONE_ROUND))
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert [body["excluded"] for body in bodies(fed, "session.complaints")] == [[3]]
        assert [body["members"] for body in bodies(fed, "session.opened")] == [[1, 2, 4, 5]]
        assert Journal(fed.folder(run.run_id)).excluded() == {3}


@pytest.mark.timeout(120)
def test_a_run_that_complaints_leave_too_few_members_fails_at_once(tmp_path, monkeypatch):
    """Nobody can tell which of a pair cheated, so both are out, and four are needed."""
    deal_broken_boxes(monkeypatch, 3, victims={1})
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start(ONE_ROUND))
        assert (run.state, run.reason_code) == (RunState.FAILED, "too_few_members")
        assert "2 are excluded" in run.reason
        assert [body["excluded"] for body in bodies(fed, "session.complaints")] == [[1, 3]]


def test_a_complaint_outlives_the_coordinator(tmp_path, monkeypatch):
    class Killed(BaseException):
        """The process died here."""

    deal_broken_boxes(monkeypatch, 3, victims={1, 2})
    save, asked, alive = Journal.save_session, [], []

    def dying(journal, setup):
        if not alive:
            raise Killed
        save(journal, setup)

    monkeypatch.setattr(Journal, "save_session", dying)
    with federation(tmp_path) as fed:
        run_id = fed.start(ONE_ROUND)
        with pytest.raises(Killed):  # once the session without the cheat is set up
            fed.drive(run_id)
        alive.append(True)

        def watching(message):
            if message.metadata.message_type == ADVERTISE:
                asked.append(message.metadata.dst_node_id)
            return False

        fed.grid.lose_reply = watching
        assert fed.drive(run_id).state is RunState.COMPLETED
        assert sorted(asked) == [1, 2, 4, 5]
        assert len(bodies(fed, "session.complaints")) == 1


def test_a_round_with_too_few_vectors_is_tried_again_in_the_next_slot(tmp_path):
    with federation(tmp_path) as fed:
        lost = []

        def lose(message):
            said = message.metadata
            if said.message_type == MASKED and said.dst_node_id in {4, 5} and len(lost) < 2:
                lost.append(said.dst_node_id)
                return True
            return False

        fed.grid.lose_reply = lose
        run = fed.drive(fed.start(ONE_ROUND))
        assert sorted(lost) == [4, 5]
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        first, second = fed.rounds(run.run_id)
        assert [(r.round, r.attempt, r.state) for r in (first, second)] == [
            (1, 1, "abandoned"),
            (1, 2, "summed"),
        ]
        assert second.survivors == (1, 2, 3, 4, 5)
        assert first.session == second.session
        assert Journal(fed.folder(run.run_id)).checkpoint().session == 1


def test_shares_are_asked_for_ten_times_the_limit_and_then_the_round_is_burnt(tmp_path):
    with federation(tmp_path) as fed:
        run_id = fed.start(TWO_ROUNDS)
        journal, asked = Journal(fed.folder(run_id)), []

        def lose(message):
            said = message.metadata
            silent = said.message_type == UNMASK and said.dst_node_id in {4, 5}
            if silent and journal.checkpoint().round == 0:
                asked.append((said.dst_node_id, fed.grid.time.monotonic()))
                return True
            return False

        fed.grid.lose_reply = lose
        run = fed.drive(run_id)
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        first, second = fed.rounds(run_id)
        assert (first.state, second.state) == ("burnt", "summed")
        assert first.session != second.session
        times = [when for index, when in asked if index == 4]
        limit = UNMASK_PATIENCE * SETTINGS.unmask_s
        assert limit - 2 * SETTINGS.unmask_s < times[-1] - times[0] < limit
        assert UNMASK_PATIENCE - 1 <= len(times) <= UNMASK_PATIENCE


def test_a_session_without_slots_is_followed_by_another(tmp_path, monkeypatch):
    few_slots(monkeypatch, 2)
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start())
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        first, second, third = fed.rounds(run.run_id)
        assert first.session == second.session != third.session
        assert [body["ordinal"] for body in bodies(fed, "session.opened")] == [1, 2]
        assert {r.survivors for r in (first, second, third)} == {(1, 2, 3, 4, 5)}


BACK_OFF = [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("gone", ["before the first session", "between rounds"])
def test_a_run_without_enough_members_tries_again_ever_less_often(tmp_path, monkeypatch, gone):
    pauses = []
    with federation(tmp_path) as fed:

        def pause(_courier, seconds):
            pauses.append(seconds)
            if pauses[-1:] == [60] and pauses.count(60) == 2:
                fed.grid.absent.clear()

        def leaving(message):
            said = message.metadata
            if said.message_type == UNMASK and not pauses.count(1.0):
                fed.grid.absent.update({4, 5})
            return False

        monkeypatch.setattr(Courier, "pause", pause)
        if gone == "between rounds":
            fed.grid.lose_reply = leaving
        else:
            fed.grid.absent.update({4, 5})
        run = fed.drive(fed.start(TWO_ROUNDS))
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert [seconds for seconds in pauses if seconds >= 1] == BACK_OFF
        assert [r.state for r in fed.rounds(run.run_id)] == ["summed", "summed"]
