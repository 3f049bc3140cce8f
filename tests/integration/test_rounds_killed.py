"""A coordinator killed before any one write around the end of a round, and what becomes of it.

The journal says how a round ended; the database, the session and who is excluded follow from it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from coordinator.audit.run_audit import audit_run
from coordinator.db import Database
from coordinator.db.records import Round, Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds import journal as journal_files
from coordinator.rounds.book import RunBook
from coordinator.rounds.courier import Courier
from coordinator.rounds.desk import GroupDesk
from coordinator.rounds.grouped import GroupedRounds
from coordinator.rounds.journal import Journal
from coordinator.rounds.run import RunDriver
from shared.fleet.exchange import MASKED, RELEASE
from shared.secagg import Coordinator
from tests.support.cheats import deal_other_secrets, mask_garbage
from tests.support.runs import SETTINGS, Federation, federation

CHEAT = 3
SIZE = 4


class Killed(BaseException):
    """The process died here."""


class Fuse:
    """Dies before one of the writes that follow a call, and at every later one until it is reset.

    Args:
        owner, method: the fuse is lit when this method is called.
        place: which write it dies before, from 0; those of all threads count.
        calls: the call that lights it, from 1.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: type,
        method: str,
        place: int,
        *,
        calls: int = 1,
    ) -> None:
        self._left, self._calls = place, calls
        self._lit = self.blown = False
        self._lock = threading.Lock()
        self._patch = monkeypatch
        lighted = getattr(owner, method)

        def light(this, *arguments, **keywords):
            self._calls -= 1
            self._lit |= self._calls == 0
            try:
                return lighted(this, *arguments, **keywords)
            finally:
                self._lit &= self.blown  # what comes after the method is not its business

        monkeypatch.setattr(owner, method, light)
        self._wrap(journal_files, "write_atomic")
        self._wrap(Journal, "forget_masked")
        self._wrap(Journal, "close_session")
        self._wrap(Database, "write")

    def _wrap(self, owner: object, name: str) -> None:
        write = getattr(owner, name)

        def burning(*arguments, **keywords):
            self._burn(name)
            return write(*arguments, **keywords)

        self._patch.setattr(owner, name, burning)

    def _burn(self, name: str) -> None:
        with self._lock:
            if self._lit:
                self.blown |= self._left == 0
                self._left -= 1
                if self.blown:
                    raise Killed(name)

    def reset(self) -> None:
        """Let the next process live."""
        self._lit = False


def killed_and_resumed(fed: Federation, fuse: Fuse, settings=SETTINGS) -> Run:
    """Drive a run, which the fuse may kill, to its end."""
    run_id = fed.start(settings)
    try:
        fed.drive(run_id)
    except Killed:
        fuse.reset()
        return fed.drive(run_id)
    return fed.run(run_id)


def states(rounds: list[Round]) -> list[tuple[int, str]]:
    return [(item.round, item.state) for item in rounds if item.state != "abandoned"]


def sessions_opened(fed: Federation) -> Iterator[list[int]]:
    for event in fed.database.read("events", lambda unit: unit.audit.events()):
        if event.kind == "session.opened":
            yield event.body["members"]


TWO_ROUNDS = SETTINGS.model_copy(update={"rounds": 2, "keep_masked": True})

# Exclusion, evidence of session and round, record, checkpoint, vectors, session, try, nothing.
BURNT_WRITES = 8


@pytest.mark.parametrize("place", range(BURNT_WRITES + 1))
def test_a_burnt_round_stays_burnt_and_its_cheat_stays_out(tmp_path, monkeypatch, place):
    deal_other_secrets(monkeypatch, CHEAT)
    fuse = Fuse(monkeypatch, RunDriver, "_burn", place)
    with federation(tmp_path) as fed:
        run = killed_and_resumed(fed, fuse, TWO_ROUNDS)
        assert fuse.blown == (place < BURNT_WRITES)
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        first, second = fed.rounds(run.run_id)
        assert states([first, second]) == [(1, "burnt"), (2, "summed")]
        assert second.session != first.session
        assert second.survivors == (1, 2, 4, 5)
        assert list(sessions_opened(fed)) == [[1, 2, 3, 4, 5], [1, 2, 4, 5]]
        journal = Journal(fed.folder(run.run_id))
        assert not journal.masked_path(1, 1).parent.exists()
        report = audit_run(fed.alliance.coordinator_dir, fed.database, run)
        assert (report.summed, report.burnt) == (1, 1)


# 0 and 1 are evidence, then record, checkpoint, vectors, session, try.
@pytest.mark.parametrize("place", [3, 4, 6])
def test_a_second_burnt_round_fails_the_run_also_after_a_crash(tmp_path, monkeypatch, place):
    mask_garbage(monkeypatch, rounds=(1, 2))
    fuse = Fuse(monkeypatch, RunDriver, "_burn", place, calls=2)
    with federation(tmp_path) as fed:
        run = killed_and_resumed(fed, fuse)
        assert fuse.blown
        assert (run.state, run.reason_code) == (RunState.FAILED, "burnt_twice")
        assert states(fed.rounds(run.run_id)) == [(1, "burnt"), (2, "burnt")]


def test_a_run_killed_before_it_could_say_that_it_failed_fails(tmp_path, monkeypatch):
    mask_garbage(monkeypatch, rounds=(1, 2))
    advance = RunBook.advance
    alive = []

    def dying(book, state, *arguments):
        if state is RunState.FAILED and not alive:
            raise Killed
        advance(book, state, *arguments)

    monkeypatch.setattr(RunBook, "advance", dying)
    with federation(tmp_path) as fed:
        run_id = fed.start()
        with pytest.raises(Killed):
            fed.drive(run_id)
        alive.append(True)
        assert fed.drive(run_id).reason_code == "burnt_twice"
        assert len(fed.rounds(run_id)) == 2


# 0 are the figures, then evidence of session and round, record, model, checkpoint, slot, try.
@pytest.mark.parametrize("place", [0, 5, 6, 7])
def test_a_summed_round_keeps_its_figures(tmp_path, monkeypatch, place):
    fuse = Fuse(monkeypatch, RunDriver, "_finish", place)
    with federation(tmp_path) as fed:
        run = killed_and_resumed(fed, fuse, SETTINGS.model_copy(update={"rounds": 1}))
        assert fuse.blown
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        (only,) = fed.rounds(run.run_id)
        assert only.state == "summed"
        assert only.metrics["positives"] > 0


# -- in groups ----------------------------------------------------------------------------------

GROUPS = SETTINGS.model_copy(
    update={"groups": 2, "rounds": 2, "unsafe_min_group": SIZE, "keep_masked": True}
)
EVERYBODY = range(1, 2 * SIZE + 1)

# Two records, checkpoint, two groups' checkpoints, try, nothing.
GROUPS_BURNT_WRITES = 6


@pytest.mark.parametrize("place", range(GROUPS_BURNT_WRITES + 1))
def test_a_round_burnt_by_its_groups_stays_burnt(tmp_path, monkeypatch, place):
    mask_garbage(monkeypatch, rounds=(1,), members=EVERYBODY)
    fuse = Fuse(monkeypatch, GroupedRounds, "_burn", place)
    with federation(tmp_path, 2 * SIZE, min_group=SIZE) as fed:
        run = killed_and_resumed(fed, fuse, GROUPS)
        assert fuse.blown == (place < GROUPS_BURNT_WRITES)
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert states(fed.rounds(run.run_id)) == [(1, "burnt"), (2, "summed")]
        journal = Journal(fed.folder(run.run_id))
        assert [journal.of_group(n).checkpoint().burnt_in_a_row for n in (1, 2)] == [0, 0]


# 0 and 1 are records, then checkpoint, two groups' checkpoints and their ends in the log, try.
@pytest.mark.parametrize("place", [3, 7])
def test_a_second_round_burnt_by_its_groups_fails_the_run(tmp_path, monkeypatch, place):
    mask_garbage(monkeypatch, rounds=(1, 2), members=EVERYBODY)
    fuse = Fuse(monkeypatch, GroupedRounds, "_burn", place, calls=2)
    with federation(tmp_path, 2 * SIZE, min_group=SIZE) as fed:
        run = killed_and_resumed(fed, fuse, GROUPS.model_copy(update={"rounds": 3}))
        assert fuse.blown
        assert (run.state, run.reason_code) == (RunState.FAILED, "burnt_twice")
        assert states(fed.rounds(run.run_id)) == [(1, "burnt"), (2, "burnt")]


# 0 is the exclusion, then evidence of session and round, part, vectors, session.
@pytest.mark.parametrize("place", [1, 4, 5])
def test_a_cheat_stays_out_of_its_groups_sessions(tmp_path, monkeypatch, place):
    deal_other_secrets(monkeypatch, CHEAT)
    fuse = Fuse(monkeypatch, GroupDesk, "_burn", place)
    with federation(tmp_path, 2 * SIZE + 2, min_group=SIZE + 1) as fed:
        settings = GROUPS.model_copy(update={"unsafe_min_group": SIZE + 1})
        run = killed_and_resumed(fed, fuse, settings)
        assert fuse.blown
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        first, second = fed.rounds(run.run_id)
        assert states([first, second]) == [(1, "summed"), (2, "summed")]
        others = tuple(range(1, 2 * SIZE + 3))
        assert second.survivors == tuple(index for index in others if index != CHEAT)
        with_cheat = [members for members in sessions_opened(fed) if CHEAT in members]
        assert len(with_cheat) == 1


# 0 are the figures, then two records, model, checkpoint, two groups' checkpoints, try.
@pytest.mark.parametrize("place", [4, 5, 7])
def test_a_round_summed_in_groups_keeps_its_figures(tmp_path, monkeypatch, place):
    fuse = Fuse(monkeypatch, GroupedRounds, "_finish", place)
    with federation(tmp_path, 2 * SIZE, min_group=SIZE) as fed:
        run = killed_and_resumed(fed, fuse, GROUPS.model_copy(update={"rounds": 1}))
        assert fuse.blown
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        (only,) = fed.rounds(run.run_id)
        assert (only.state, only.survivors) == ("summed", tuple(EVERYBODY))
        assert only.metrics["positives"] > 0


# -- before the round's shares are asked for -----------------------------------------------------


def test_the_certificate_is_kept_before_it_is_sent(tmp_path, monkeypatch):
    """Else a restarted coordinator might send another one, which no member may answer."""
    ask, kept = Courier.ask, []

    def asking(courier, action, instructions, **keywords):
        if action == RELEASE:
            journal = Journal(fed.folder(run_id))
            state, accumulator = journal.round()
            core = Coordinator.load(
                signing_key=load_signing_key(fed.alliance.coordinator_dir),
                setup=journal.session(),
                round_state=state,
                accumulator=accumulator,
            )
            kept.append(core.round_facts().certificate)
        return ask(courier, action, instructions, **keywords)

    monkeypatch.setattr(Courier, "ask", asking)
    with federation(tmp_path) as fed:
        fed.grid.lose_reply = lambda m: (
            m.metadata.message_type == MASKED and m.metadata.dst_node_id == 5
        )
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 1}))
        assert fed.drive(run_id).state is RunState.COMPLETED
        assert kept
        assert all(len(certificate) == 4 for certificate in kept)
