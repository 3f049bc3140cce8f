"""Whole runs on an in-process grid: what they sum, survive and refuse."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from coordinator.cli.main import app as coordinator_app
from coordinator.db.records import RunState
from coordinator.rounds.journal import Journal
from shared.errors import Exit
from shared.fleet.exchange import ADVERTISE, MASKED, UNMASK
from shared.model.bundle import UnverifiedBundle
from shared.model.layout import ModelSpec, init_vector
from tests.support.runs import BITS, SETTINGS, federation

SPEC = ModelSpec(hash_bits=BITS)


def released_vector(fed, run):
    path = fed.alliance.coordinator_dir / "releases" / run.release_id
    key = fed.database.read("a", lambda u: u.releases.get(run.release_id))
    assert key.run_id == run.run_id
    from coordinator.enrolment.files import load_signing_key

    public = load_signing_key(fed.alliance.coordinator_dir).public_key().public_bytes_raw()
    return (
        UnverifiedBundle.read(path)
        .verify(public, expected_feature_space=None, min_sequence=1)
        .vector
    )


def watched(fed, run):
    """Return the exit code of `run watch` for a run that has ended."""
    words = ["run", "watch", run.run_id, "--dir", str(fed.alliance.coordinator_dir)]
    return CliRunner().invoke(coordinator_app, words).exit_code


def clipped_mean(steps):
    """What the members' constant updates average to under the L2 clip of 3."""
    bound = 3.0 / np.sqrt(SPEC.n_params)
    return float(np.mean([min(step, bound) for step in steps]))


def test_a_run_releases_the_exact_mean_of_all_updates(tmp_path):
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start())
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        moved = released_vector(fed, run) - init_vector(SPEC, 0)
        expected = 3 * clipped_mean([0.01 * i for i in range(1, 6)])
        # 16 bits over [-1, 1] with dither: 3 rounds of at most one quantum each.
        assert np.abs(moved - expected).max() < 3 * 2.0**-15
        assert [item.state for item in fed.rounds(run.run_id)] == ["summed"] * 3
        assert fed.rounds(run.run_id)[1].metrics["positives"] > 0


def test_a_member_lost_before_uploading_costs_only_its_own_update(tmp_path):
    with federation(tmp_path) as fed:
        fed.grid.lose_reply = lambda m: (
            m.metadata.message_type == MASKED and m.metadata.dst_node_id == 5
        )
        run = fed.drive(fed.start(SETTINGS.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        assert fed.rounds(run.run_id)[0].survivors == (1, 2, 3, 4)
        moved = released_vector(fed, run) - init_vector(SPEC, 0)
        expected = clipped_mean([0.01 * i for i in range(1, 5)])
        assert np.abs(moved - expected).max() < 2.0**-15


def test_a_member_that_falls_silent_after_uploading_is_still_summed(tmp_path):
    with federation(tmp_path) as fed:
        fed.grid.lose_reply = lambda m: (
            m.metadata.message_type == UNMASK and m.metadata.dst_node_id == 2
        )
        run = fed.drive(fed.start(SETTINGS.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        assert fed.rounds(run.run_id)[0].survivors == (1, 2, 3, 4, 5)


def test_a_refusal_is_recorded_with_its_reason_and_does_not_stall_the_others(tmp_path):
    with federation(tmp_path) as fed:
        folder = fed.alliance.dir_of("member-3")
        text = (folder / "policy.toml").read_text()
        (folder / "policy.toml").write_text(text.replace("counterfeit-detection", "else"))
        run = fed.drive(fed.start(SETTINGS.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        assert fed.refusals(run.run_id) == {3: "purpose_not_allowed"}
        assert fed.rounds(run.run_id)[0].survivors == (1, 2, 4, 5)


def test_too_many_refusals_fail_the_run_at_once(tmp_path):
    with federation(tmp_path) as fed:
        for name in ("member-1", "member-2"):
            folder = fed.alliance.dir_of(name)
            (folder / "policy.toml").write_text("allowed_purposes = []\n")
        run = fed.drive(fed.start())
        assert (run.state, run.reason_code) == (RunState.FAILED, "too_few_members")
        assert run.release_id is None
        assert watched(fed, run) == Exit.POLICY


def test_a_member_that_comes_back_joins_the_next_session(tmp_path):
    with federation(tmp_path) as fed:
        fed.grid.absent.add(4)
        came = []

        def lose(message):
            if message.metadata.message_type == MASKED and message.metadata.group_id == "2":
                fed.grid.absent.discard(4)
                came.append(True)
            return False

        fed.grid.lose_reply = lose
        run = fed.drive(fed.start())
        assert came
        assert run.state is RunState.COMPLETED
        rounds = fed.rounds(run.run_id)
        assert rounds[0].survivors == (1, 2, 3, 5)
        assert rounds[2].survivors == (1, 2, 3, 4, 5)
        assert rounds[0].session != rounds[2].session


def test_an_abort_ends_the_run_without_a_release(tmp_path):
    from coordinator.rounds.launch import abort_run

    with federation(tmp_path) as fed:
        run_id = fed.start()

        def lose(message):
            if message.metadata.message_type == MASKED:
                abort_run(fed.database, run_id, "a test")
            return False

        fed.grid.lose_reply = lose
        run = fed.drive(run_id)
        assert (run.state, run.release_id) == (RunState.ABORTED, None)


@pytest.mark.parametrize("action", [ADVERTISE, MASKED, UNMASK])
def test_a_node_restarted_in_any_exchange_stays_in_the_run(tmp_path, action):
    with federation(tmp_path) as fed:
        killed = []

        def lose(message):
            mine = message.metadata.dst_node_id == 2
            if mine and message.metadata.message_type == action and not killed:
                killed.append(True)
                fed.nodes.restart(2)
                return True
            return False

        fed.grid.lose_reply = lose
        run = fed.drive(fed.start())
        assert killed
        assert run.state is RunState.COMPLETED
        assert 2 in fed.rounds(run.run_id)[-1].survivors


def test_the_journal_of_a_finished_run_holds_the_released_model(tmp_path):
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start())
        journal = Journal(fed.folder(run.run_id))
        assert journal.checkpoint().trained == 3
        model = journal.model(3, SPEC.n_params)
        assert np.array_equal(model, released_vector(fed, run))
        assert journal.session() is None


def garbage(monkeypatch, times):
    """Let one vector of every round carry an impossible weight, ``times`` times."""
    from participant.node import runs

    honest, done = runs.build_vector, []

    def build(delta, *arguments, **keywords):
        vector = honest(delta, *arguments, **keywords)
        if abs(float(delta[0]) - 0.02) < 1e-6 and len(done) < times:
            done.append(True)
            vector[-2 if len(arguments) < 3 or arguments[2] is None else -43] = 1 << 39
        return vector

    monkeypatch.setattr(runs, "build_vector", build)


def test_a_sum_that_does_not_add_up_burns_the_round_and_the_run_goes_on(tmp_path, monkeypatch):
    garbage(monkeypatch, times=1)
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start())
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert [item.state for item in fed.rounds(run.run_id)] == ["burnt", "summed", "summed"]
        moved = released_vector(fed, run) - init_vector(SPEC, 0)
        assert np.abs(moved - 2 * clipped_mean([0.01 * i for i in range(1, 6)])).max() < 2.0**-14


def test_two_burnt_rounds_in_a_row_fail_the_run(tmp_path, monkeypatch):
    garbage(monkeypatch, times=2)
    with federation(tmp_path) as fed:
        run = fed.drive(fed.start())
        assert (run.state, run.reason_code) == (RunState.FAILED, "burnt_twice")
        assert run.release_id is None
        assert len(Journal(fed.folder(run.run_id)).transcript()) == 2
        assert watched(fed, run) == Exit.FAILED
