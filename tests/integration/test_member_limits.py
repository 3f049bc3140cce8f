"""What a member keeps to while a run goes on: time, budgets, its floor for hold-outs."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta

import numpy as np
import pytest

from coordinator.db.records import RunState
from participant.node import expiry, runs
from participant.node.expiry import wipe_in_time
from participant.store import Store
from shared.errors import StorageError
from shared.fleet.exchange import FAILED, OK, Instruction
from shared.model import layout
from tests.support.by_hand import ByHand, ShiftedClock
from tests.support.runs import POLICY, SETTINGS, KnownLearner, federation

ME = 3
EVALUATES = SETTINGS.model_copy(update={"rounds": 1, "evaluate_every": 1})


class Watched(KnownLearner):
    """Counts how often a hold-out is looked at."""

    looks = 0

    def evaluate(self, model):  # type: ignore[no-untyped-def]
        Watched.looks += 1
        return super().evaluate(model)


@pytest.fixture(scope="module")
def clock():
    return ShiftedClock()


@pytest.fixture(scope="module")
def shared_hand(tmp_path_factory, clock):
    def learner(index, spec):  # type: ignore[no-untyped-def]
        return (Watched if index == ME else KnownLearner)(0.01 * index, spec)

    with federation(tmp_path_factory.mktemp("limits")) as fed:
        hand = ByHand(fed, learner, clock)
        yield hand
        hand.close()


@pytest.fixture
def hand(shared_hand, clock):
    clock.ahead = timedelta()
    policy(shared_hand)
    Watched.looks = 0
    return shared_hand


def policy(hand, *lines):
    (hand.folder(ME) / "policy.toml").write_text("\n".join([POLICY, *lines, ""]))


def secrets_of(hand, session):
    names = (f"{kind}-{session.run}.bin" for kind in ("session", "upload", "manifest"))
    return [name for name in names if (hand.folder(ME) / "secsum" / name).exists()]


def events(hand, kind, run):
    with closing(Store.open(hand.folder(ME))) as store:
        found = [event.body for event in store.audit.events() if event.kind == kind]
    return [body for body in found if body["run_id"] == run]


def evaluations_charged(hand):
    with closing(Store.open(hand.folder(ME))) as store:
        return [row.amount for row in store.ledger.entries() if row.kind == "evaluation"]


# -- time -----------------------------------------------------------------------------------------


def test_an_expired_run_is_wiped_before_anything_is_masked(hand, clock):
    session = hand.session()
    clock.ahead = timedelta(hours=SETTINGS.expires_hours + 1)
    answer = session.mask(session.first_model(), 1, (ME,))[ME]
    assert (answer.status, answer.code) == (FAILED, "manifest_expired")
    assert secrets_of(hand, session) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_an_expired_run_is_wiped_before_a_share_is_given(hand, clock, restarted):
    session = hand.session()
    session.take(session.mask(session.first_model()))
    assert len(secrets_of(hand, session)) == 3
    clock.ahead = timedelta(hours=SETTINGS.expires_hours + 1)
    if restarted:  # a node that starts looks for expired runs as well
        clock.ahead -= timedelta(hours=2)
        hand.restart(ME)
        clock.ahead += timedelta(hours=2)
    answer = session.unmask(ME)
    assert (answer.status, answer.code) == (FAILED, "manifest_expired")
    assert secrets_of(hand, session) == []


def test_an_idle_node_wipes_a_run_in_time(hand, clock):
    session = hand.session()
    node = hand.nodes[ME]
    asyncio.run(_for_a_moment(node.wipe_expired))
    assert secrets_of(hand, session) != []
    clock.ahead = timedelta(hours=SETTINGS.expires_hours + 1)
    asyncio.run(_for_a_moment(node.wipe_expired))
    assert secrets_of(hand, session) == []


async def _for_a_moment(wipe, seconds=0.3):  # type: ignore[no-untyped-def]
    task = asyncio.create_task(wipe_in_time(wipe, look_s=0.05, retry_s=0.01))
    await asyncio.sleep(seconds)
    task.cancel()


def test_a_node_that_is_busy_is_looked_at_again_soon(hand):
    node, looked = hand.nodes[ME], []

    def wipe():
        looked.append(node.wipe_expired())
        if len(looked) == 2:
            node._lock.release()
        if len(looked) == 3:
            raise StorageError("the disk has gone")
        return looked[-1]

    node._lock.acquire()
    asyncio.run(_for_a_moment(wipe))
    assert looked[:3] == [False, False, True]
    assert len(looked) > 3
    assert expiry.RETRY_S < expiry.LOOK_S


def test_a_run_is_noted_as_ended_once_and_only_if_it_was_here(hand):
    session = hand.session()
    for run_id in (session.manifest.run_id, session.manifest.run_id, b"unknown-run-id-0"):
        assert hand.ask(ME, "ended", Instruction(run_id=run_id)).status == OK
    assert len(events(hand, "run.ended", session.run)) == 1
    assert events(hand, "run.ended", b"unknown-run-id-0".hex()) == []


# -- budgets --------------------------------------------------------------------------------------


def test_runs_that_overlap_stay_within_the_evaluation_budget(hand):
    before = sum(evaluations_charged(hand))
    policy(hand, f"evaluation_epsilon_budget = {before + 2.5}")
    sessions = [hand.session(EVALUATES) for _ in range(4)]
    for session in sessions:
        answers = session.mask(session.first_model())
        assert {answer.status for answer in answers.values()} == {OK}
        session.take(answers)
    assert sum(evaluations_charged(hand)) == before + 2
    assert Watched.looks == 2
    kept = [events(hand, "round.withheld", session.run) for session in sessions]
    assert [len(each) for each in kept] == [0, 0, 1, 1]
    assert (kept[3][0]["part"], kept[3][0]["code"]) == ("evaluation", "epsilon_budget")


def test_the_budget_is_the_policys_as_it_is_now(hand):
    session = hand.session(EVALUATES)
    policy(hand, "evaluation_epsilon_budget = 0.5")
    assert session.mask(session.first_model(), 1, (ME,))[ME].status == OK
    assert Watched.looks == 0


def test_the_same_slot_is_asked_twice_and_charged_once(hand):
    before = len(evaluations_charged(hand))
    policy(hand, f"evaluation_epsilon_budget = {sum(evaluations_charged(hand)) + 1.0}")
    session = hand.session(EVALUATES)
    model = session.first_model()
    first = session.mask(model, 1, (ME,))[ME]
    assert first.status == OK
    assert len(evaluations_charged(hand)) == before + 1
    assert events(hand, "round.withheld", session.run) == []


@pytest.mark.parametrize(("own", "told"), [(400, True), (401, False)])
def test_the_larger_floor_for_hold_outs_decides(hand, monkeypatch, own, told):
    taken = []
    build = runs.build_vector

    def spy(delta, weight, quantiser, evaluation, noise):  # type: ignore[no-untyped-def]
        taken.append((evaluation.rows >= noise.min_rows, noise.min_rows))
        return build(delta, weight, quantiser, evaluation, noise)

    monkeypatch.setattr(runs, "build_vector", spy)
    policy(hand, f"min_holdout_rows = {own}")
    session = hand.session(EVALUATES)
    session.mask(session.first_model(), 1, (ME,))
    assert taken == [(told, own)]
    policy(hand, "min_holdout_rows = 1")
    session.core.abandon_slot()
    session.mask(session.first_model(), 1, (ME,))
    assert taken[-1] == (True, SETTINGS.min_holdout)


def test_in_a_private_run_every_hold_out_is_told(hand, monkeypatch):
    taken = []
    build = runs.build_vector

    def spy(delta, weight, quantiser, evaluation, noise):  # type: ignore[no-untyped-def]
        taken.append(noise.min_rows)
        return build(delta, weight, quantiser, evaluation, noise)

    monkeypatch.setattr(runs, "build_vector", spy)
    policy(hand, "min_holdout_rows = 100000")
    session = hand.session(EVALUATES.model_copy(update={"dp_epsilon": 4.0}))
    session.mask(session.first_model(), 1, (ME,))
    assert taken == [0]


# -- secrets in memory ----------------------------------------------------------------------------


def blank(state):
    rows = [state.own, *state.seeds.values(), *state.shares.values()]
    return not any(any(row) for row in rows)


def test_what_a_newer_session_or_object_replaces_is_wiped_in_memory(hand, monkeypatch):
    loaded, load = [], runs.Member.load

    def spy(data, **known):  # type: ignore[no-untyped-def]
        loaded.append(load(data, **known))
        return loaded[-1]

    monkeypatch.setattr(runs.Member, "load", spy)
    session = hand.session()
    run_id = session.manifest.run_id
    former = hand.nodes[ME]._runs[run_id]
    state = former._member._me.state
    assert not blank(state)
    hand.session(ordinal=2, run=session.run)
    assert hand.nodes[ME]._runs[run_id] is not former
    assert blank(state)
    assert len(loaded) == len(hand.nodes)
    assert all(blank(member._me.state) for member in loaded)


# -- the coordinator's side -----------------------------------------------------------------------


def test_a_run_whose_model_grows_out_of_bounds_fails_by_name(tmp_path, monkeypatch):
    first = SETTINGS.first_model()
    largest = float(first[np.argmax(np.abs(first))])
    monkeypatch.setattr(layout, "MAX_MODEL_WEIGHT", abs(largest) + 0.01)
    with federation(tmp_path, step=lambda i: np.sign(largest) * 0.01 * i) as fed:
        run = fed.drive(fed.start())
        assert (run.state, run.reason_code) == (RunState.FAILED, "model_out_of_bounds")
        assert run.release_id is None
