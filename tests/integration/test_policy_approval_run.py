"""A run that waits for people: nobody is stalled, who approves joins, who refuses stays out."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from coordinator.db.records import RunState
from coordinator.rounds.courier import Courier
from participant.node import decide
from participant.node.peers import PINS_FILE
from participant.node.runtime import NodeRuntime
from participant.store import Store
from shared.clock import FixedClock, SystemClock
from shared.files import write_atomic
from shared.fleet.exchange import MASKED
from tests.support.commands import data
from tests.support.docs import ROOT
from tests.support.runs import POLICY, SETTINGS, KnownLearner, federation
from tests.support.waiting import PATIENCE_S, wait_until

ASKS = POLICY.replace('approval = "never"', 'approval = "always"')


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """Ask again soon: how long a coordinator pauses is not what is tested here."""

    def pause(self, _seconds):
        self._stop()
        time.sleep(0.3)

    monkeypatch.setattr(Courier, "pause", pause)


def ask_a_person(fed, *members):
    for member in members:
        (fed.alliance.dir_of(f"member-{member}") / "policy.toml").write_text(ASKS)


def say(fed, member, run_id, said="approve"):
    folder = fed.alliance.dir_of(f"member-{member}")
    store = Store.open(folder)
    getattr(decide, said)(folder, store, run_id, SystemClock().now())
    store.close()


def by_command(fed, member, *words):
    """Run the member's command in a process of its own, as a person does."""
    folder = fed.alliance.dir_of(f"member-{member}")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}"}
    command = [sys.executable, "-m", "participant", *words, "--dir", str(folder)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_end(fed, run_id, thread):
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    return fed.run(run_id)


def test_a_run_waits_for_its_people_and_begins_when_enough_have_approved(tmp_path):
    with federation(tmp_path) as fed:
        ask_a_person(fed, 1, 2, 3, 4, 5)
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 1}))
        thread = fed.in_background(run_id)
        wait_until(lambda: len(fed.refusals(run_id)) == 5)
        assert set(fed.refusals(run_id).values()) == {"approval_pending"}
        assert fed.run(run_id).state is RunState.SETUP
        folder = fed.alliance.dir_of("member-1")
        assert [item["run_id"] for item in data(folder, "run", "pending")["runs"]] == [run_id]
        by_command(fed, 1, "run", "approve", run_id[:12])  # its node is running meanwhile
        assert data(folder, "run", "pending")["runs"] == []
        fed.nodes.restart(2)  # and this one is killed, and decided for while it is down
        for member in (2, 3, 4):
            say(fed, member, run_id)
        run = wait_for_end(fed, run_id, thread)
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert fed.rounds(run_id)[0].survivors == (1, 2, 3, 4)
        assert fed.refusals(run_id) == {5: "approval_pending"}


def test_who_is_approved_late_joins_and_the_others_were_not_kept_waiting(tmp_path):
    with federation(tmp_path) as fed:
        ask_a_person(fed, 5)
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 4}))

        def approve_in_round_two(message):
            if message.metadata.message_type == MASKED and message.metadata.group_id == "2":
                say(fed, 5, run_id)
            return False

        fed.grid.lose_reply = approve_in_round_two
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED
        survivors = [item.survivors for item in fed.rounds(run_id)]
        assert survivors == [(1, 2, 3, 4)] * 2 + [(1, 2, 3, 4, 5)] * 2
        assert fed.refusals(run_id) == {}


def test_enough_refusing_people_end_the_run(tmp_path):
    with federation(tmp_path) as fed:
        ask_a_person(fed, 1, 2)
        run_id = fed.start()
        thread = fed.in_background(run_id)
        wait_until(lambda: len(fed.refusals(run_id)) == 2)
        for member in (1, 2):
            say(fed, member, run_id, "refuse")
        run = wait_for_end(fed, run_id, thread)
        assert (run.state, run.reason_code) == (RunState.FAILED, "too_few_members")
        assert set(fed.refusals(run_id).values()) == {"refused_by_person"}


def test_a_person_takes_a_running_node_out_at_the_next_round(tmp_path):
    with federation(tmp_path) as fed:
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 2}))

        def refuse_in_round_one(message):
            if message.metadata.message_type == MASKED and message.metadata.group_id == "1":
                say(fed, 5, run_id, "refuse")
            return False

        fed.grid.lose_reply = refuse_in_round_one
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED
        assert fed.rounds(run_id)[-1].survivors == (1, 2, 3, 4)


class Counting(KnownLearner):
    """Remembers with how many threads it was told to train."""

    threads: list[int] = []  # noqa: RUF012 - shared by the learners of one test

    def update(self, model, terms, *, seed, threads):
        self.threads.append(threads)
        return super().update(model, terms, seed=seed, threads=threads)


def test_hours_and_threads_hold_in_every_round(tmp_path):
    with federation(tmp_path) as fed:
        folder = fed.alliance.dir_of("member-5")
        now = SystemClock().now()
        start, end = (now.hour - 1) % 24, (now.hour + 2) % 24
        hours = f'hours = "{start:02}:00-{end:02}:00"'
        (folder / "policy.toml").write_text(f"{POLICY}{hours}\nthreads = 3\n")
        clock = FixedClock(now)
        fed.nodes.running[5] = NodeRuntime(
            folder, clock=clock, make_learner=lambda _store, _kind, spec: Counting(0.05, spec)
        )
        Counting.threads.clear()
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 2}))

        def night_falls(message):
            if message.metadata.message_type == MASKED and message.metadata.group_id == "1":
                shut = f'hours = "{(now.hour + 3) % 24:02}:00-{(now.hour + 4) % 24:02}:00"'
                (folder / "policy.toml").write_text(f"{POLICY}{shut}\n")
            return False

        fed.grid.lose_reply = night_falls
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED
        rounds = [item.survivors for item in fed.rounds(run_id)]
        assert rounds == [(1, 2, 3, 4, 5), (1, 2, 3, 4)]
        assert Counting.threads == [3]
        store = Store.open(folder)
        answers = [e.body["reason_code"] for e in store.audit.events() if e.kind == "run.answered"]
        store.close()
        assert answers == ["", "outside_hours"]


def test_pins_cohort_and_privacy_hold_from_the_next_round(tmp_path):
    with federation(tmp_path, members=12) as fed:
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 2, "n_min": 9}))

        def change_in_round_one(message):
            if message.metadata.message_type == MASKED and message.metadata.group_id == "1":
                for member, rule in ((10, "require_record_dp = true"), (11, "min_cohort = 12")):
                    kept = [line for line in POLICY.splitlines() if line.split()[0] not in rule]
                    path = fed.alliance.dir_of(f"member-{member}") / "policy.toml"
                    write_atomic(path, "\n".join([*kept, rule, ""]).encode(), mode=0o600)
                (fed.alliance.dir_of("member-12") / PINS_FILE).write_text("[pinned]\n")
            return False

        fed.grid.lose_reply = change_in_round_one
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED
        assert fed.rounds(run_id)[-1].survivors == tuple(range(1, 10))
        assert fed.refusals(run_id) == {
            10: "privacy_floor",
            11: "cohort_too_small",
            12: "too_few_known_peers",
        }


def test_a_member_outside_its_hours_comes_back_into_the_same_session(tmp_path):
    """Its refusal no longer stands then, and nobody had to set up a session for it."""
    with federation(tmp_path) as fed:
        path = fed.alliance.dir_of("member-5") / "policy.toml"
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 3}))
        later = (SystemClock().now().hour + 3) % 24

        def hours(message):
            if message.metadata.message_type == MASKED:
                shut = f'hours = "{later:02}:00-{(later + 1) % 24:02}:00"\n'
                text = POLICY + (shut if message.metadata.group_id == "1" else "")
                write_atomic(path, text.encode(), mode=0o600)
            return False

        fed.grid.lose_reply = hours
        assert fed.drive(run_id).state is RunState.COMPLETED
        survivors = [item.survivors for item in fed.rounds(run_id)]
        assert survivors == [(1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3, 4, 5)]
        assert fed.refusals(run_id) == {}
        events = fed.database.read("audit", lambda unit: list(unit.audit.events()))
        assert [e.kind for e in events].count("session.opened") == 1
