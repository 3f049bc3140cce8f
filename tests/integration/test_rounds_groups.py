"""Runs in groups on an in-process grid: drawing, sums of groups, losses, restarts, the median.

Groups of five stand for groups of forty here; only the hook for tests lets them be so small.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from coordinator.app import stop_with
from coordinator.audit.run_audit import audit_run
from coordinator.db.records import RunState
from coordinator.rounds.journal import Journal
from participant.node.drawings import Drawings
from participant.node.runs import MemberRun
from participant.node.witnesses import WitnessFile
from shared.errors import BadInput
from shared.files import write_atomic
from shared.fleet.exchange import COMMIT_TO_DRAW, MASKED, REVEAL_FOR_DRAW
from shared.model.layout import ModelSpec, init_vector
from shared.secagg.groups import MEAN, MEDIAN
from shared.trust.grouping import DrawingRefused
from shared.trust.round_record import Outcome, RoundRecord
from tests.support.reveals import noting, revealed_once
from tests.support.runs import BITS, POLICY, SETTINGS, Federation, federation

SPEC = ModelSpec(hash_bits=BITS)
SIZE = 5
UNSAFE = {"unsafe_min_group": SIZE, "rounds": 2}
TWO = SETTINGS.model_copy(update={"groups": 2, **UNSAFE})
STEP = 0.01


@pytest.fixture(autouse=True)
def _noted(monkeypatch):
    """Write down every share that leaves a member."""
    monkeypatch.setattr(MemberRun, "handle", noting(MemberRun.handle))


def records(fed: Federation, run) -> list[RoundRecord]:
    return [RoundRecord.decode(data) for data in Journal(fed.folder(run.run_id)).transcript()]


def moved(fed: Federation, run) -> np.ndarray:
    journal = Journal(fed.folder(run.run_id))
    trained = journal.checkpoint().trained
    return journal.model(trained, SPEC.n_params) - init_vector(SPEC, 0)


def kinds(fed: Federation) -> Counter[str]:
    events = fed.database.read("events", lambda unit: unit.audit.events())
    return Counter(event.kind for event in events)


def vanish(fed: Federation, action: str, members: set[int]) -> None:
    """Let members drop off the grid as soon as they have been asked for ``action``."""

    def leaving(message) -> bool:
        said = message.metadata
        gone = said.message_type == action and said.dst_node_id in members
        if gone:
            fed.grid.absent.add(said.dst_node_id)
        return gone

    fed.grid.lose_reply = leaving


def test_two_groups_release_the_exact_mean_of_all_members(tmp_path):
    with federation(tmp_path, 2 * SIZE, step=lambda i: STEP * i / 10, min_group=SIZE) as fed:
        run = fed.drive(fed.start(TWO.model_copy(update={"keep_masked": True})))
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        exact = 2 * np.mean([STEP * i / 10 for i in range(1, 2 * SIZE + 1)])
        assert np.abs(moved(fed, run) - exact).max() < 2 * 2.0**-15
        manifest = fed.manifest(run.run_id)
        assert [len(group) for group in manifest.groups] == [SIZE, SIZE]
        assert [item.survivors for item in fed.rounds(run.run_id)] == [tuple(range(1, 11))] * 2
        found = records(fed, run)
        assert [(item.round, item.group) for item in found] == [(1, 1), (1, 2), (2, 1), (2, 2)]
        assert [item.participants for item in found[:2]] == list(manifest.groups)
        assert len({item.session_id for item in found}) == 2
        assert fed.rounds(run.run_id)[1].metrics["positives"] > 0
        report = audit_run(fed.alliance.coordinator_dir, fed.database, run)
        assert (report.summed, report.evidence, report.sums) == (2, 4, 4)


def test_a_second_run_of_the_epoch_has_the_same_groups_without_another_drawing(tmp_path):
    with federation(tmp_path, 2 * SIZE, min_group=SIZE) as fed:
        one = fed.drive(fed.start(TWO))
        asked = []
        fed.grid.lose_reply = lambda m: asked.append(m.metadata.message_type)
        two = fed.drive(fed.start(TWO))
        assert two.state is RunState.COMPLETED
        assert fed.manifest(one.run_id).groups == fed.manifest(two.run_id).groups
        assert not {COMMIT_TO_DRAW, REVEAL_FOR_DRAW} & set(asked)
        other = fed.drive(fed.start(TWO.model_copy(update={"groups": None, "robust": "mean"})))
        assert other.state is RunState.COMPLETED  # ten members are one group by default
        assert not fed.manifest(other.run_id).grouped


def test_a_member_that_does_not_reveal_is_left_out_of_the_next_drawing(tmp_path, monkeypatch):
    honest = Drawings.reveal

    def reveal(drawings, call, roster):
        if drawings._index == 3:
            raise DrawingRefused("a member that would rather not")
        return honest(drawings, call, roster)

    monkeypatch.setattr(Drawings, "reveal", reveal)
    with federation(tmp_path, 2 * SIZE + 1, min_group=SIZE) as fed:
        run = fed.drive(fed.start(TWO))
        assert run.state is RunState.COMPLETED
        manifest = fed.manifest(run.run_id)
        assert manifest.drawing.number == 2
        assert 3 not in {member.index for member in manifest.members}
        assert kinds(fed)["groups.not_revealed"] == 1


def test_groups_that_are_too_small_for_the_members_are_refused_by_them(tmp_path):
    with federation(tmp_path, 2 * SIZE) as fed:  # members keep to forty
        run = fed.drive(fed.start(TWO))
        assert (run.state, run.reason_code) == (RunState.FAILED, "groups")
        assert set(fed.refusals(run.run_id).values()) == {"group_size"}


def test_a_group_that_loses_members_is_summed_without_them(tmp_path):
    with federation(tmp_path, 2 * SIZE, step=lambda _i: STEP, min_group=SIZE) as fed:
        vanish(fed, MASKED, {4})
        run = fed.drive(fed.start(TWO.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        own = fed.manifest(run.run_id).group_of(4)
        for record in records(fed, run):
            lost = set(record.participants) - set(record.survivors)
            assert lost == ({4} if record.group == own else set())
            assert bool(record.certificate) == (record.group == own)
        assert np.abs(moved(fed, run) - STEP).max() < 2.0**-15
        assert audit_run(fed.alliance.coordinator_dir, fed.database, run).certificates == 1


def test_a_group_with_too_few_members_sits_the_round_out_and_the_others_go_on(tmp_path):
    with federation(tmp_path, 2 * SIZE, step=lambda i: STEP * i / 10, min_group=SIZE) as fed:
        first = fed.drive(fed.start(TWO.model_copy(update={"rounds": 1})))
        groups = fed.manifest(first.run_id).groups
        vanish(fed, MASKED, set(groups[1][:2]))
        run = fed.drive(fed.start(TWO.model_copy(update={"rounds": 1})))
        assert run.state is RunState.COMPLETED
        assert [(record.group, record.survivors) for record in records(fed, run)] == [
            (1, groups[0])
        ]
        exact = np.mean([STEP * i / 10 for i in groups[0]])
        assert np.abs(moved(fed, run) - exact).max() < 2.0**-15
        assert fed.rounds(run.run_id)[-1].survivors == groups[0]


def test_a_group_whose_members_refuse_is_out_of_the_run_and_the_others_go_on(tmp_path):
    with federation(tmp_path, 2 * SIZE, step=lambda _i: STEP, min_group=SIZE) as fed:
        first = fed.drive(fed.start(TWO.model_copy(update={"rounds": 1})))
        groups = fed.manifest(first.run_id).groups
        for index in groups[0][:2]:
            policy = list(fed.alliance.member_dirs.values())[index - 1] / "policy.toml"
            policy.write_text(policy.read_text().replace("counterfeit-detection", "else"))
        run = fed.drive(fed.start(TWO))
        assert run.state is RunState.COMPLETED
        assert [record.place for record in records(fed, run)] == [(1, 2), (2, 2)]
        assert set(fed.refusals(run.run_id)) == set(groups[0][:2])
        assert kinds(fed)["group.refused"] == 1


def test_a_group_whose_members_refuse_in_a_round_is_out_of_the_run_from_there(tmp_path):
    with federation(tmp_path, 2 * SIZE, step=lambda _i: STEP, min_group=SIZE) as fed:
        run_id = fed.start(TWO.model_copy(update={"rounds": 3}))

        def refuse_after_round_one(message):
            said = message.metadata
            if said.message_type == MASKED and said.group_id == "1":
                groups = fed.manifest(run_id).groups
                if said.dst_node_id in groups[0][:2]:
                    path = list(fed.alliance.member_dirs.values())[said.dst_node_id - 1]
                    other = POLICY.replace("counterfeit-detection", "else").encode()
                    write_atomic(path / "policy.toml", other, mode=0o600)
            return False

        fed.grid.lose_reply = refuse_after_round_one
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED
        assert [record.place for record in records(fed, run)] == [(1, 1), (1, 2), (2, 2), (3, 2)]
        groups = fed.manifest(run.run_id).groups
        assert fed.refusals(run_id) == dict.fromkeys(groups[0][:2], "purpose_not_allowed")
        assert kinds(fed)["group.refused"] == 1


def garbage(monkeypatch, marked: float) -> None:
    """Let the members whose update is ``marked`` mask an impossible weight in every round."""
    from participant.node import runs

    honest = runs.build_vector

    def build(delta, *arguments, **keywords):
        vector = honest(delta, *arguments, **keywords)
        if abs(float(delta[0]) - marked) < 1e-9:
            vector[-2 if len(arguments) < 3 or arguments[2] is None else -43] = 1 << 39
        return vector

    monkeypatch.setattr(runs, "build_vector", build)


def test_a_burnt_group_costs_the_others_nothing_and_is_closed_after_two_rounds(
    tmp_path, monkeypatch
):
    garbage(monkeypatch, 0.015625)
    steps = lambda i: 0.015625 if i == 7 else STEP  # noqa: E731
    with federation(tmp_path, 2 * SIZE, step=steps, min_group=SIZE) as fed:
        wanted = TWO.model_copy(update={"rounds": 3, "keep_masked": True})
        run = fed.drive(fed.start(wanted))
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        bad = fed.manifest(run.run_id).group_of(7)
        seen = [(item.round, item.group, item.outcome) for item in records(fed, run)]
        good = 3 - bad
        expected = {(n, good, Outcome.SUMMED) for n in (1, 2, 3)}
        assert set(seen) == expected | {(n, bad, Outcome.BURNT) for n in (1, 2)}
        assert np.abs(moved(fed, run) - 3 * STEP).max() < 3 * 2.0**-15
        assert kinds(fed)["group.closed"] == 1
        report = audit_run(fed.alliance.coordinator_dir, fed.database, run)
        assert (report.summed, report.burnt) == (3, 0)
        assert (report.evidence, report.sums) == (5, 3)  # nothing is summed of the burnt ones


@pytest.mark.parametrize("action", [REVEAL_FOR_DRAW, MASKED])
def test_a_coordinator_stopped_in_an_exchange_goes_on_and_releases_nothing_twice(tmp_path, action):
    with federation(tmp_path, 2 * SIZE, step=lambda _i: STEP, min_group=SIZE) as fed:
        run_id, stop = fed.start(TWO), threading.Event()

        def stopping(message):
            if message.metadata.message_type == action:
                stop.set()
            return False

        fed.grid.lose_reply = stopping
        stop_with(run_id, stop)
        assert not fed.drive(run_id).state.terminal
        fed.grid.lose_reply = lambda _message: False
        check_released_once(fed, fed.drive(run_id), rounds=2)


class Killed(Exception):
    """The process died here."""


KILL_POINTS = (
    ("save_sum", 1),
    ("save_part", 2),
    ("finish_round", 1),
    ("close_part", 2),
)


@pytest.mark.parametrize(("method", "after"), KILL_POINTS)
def test_a_coordinator_killed_before_a_write_goes_on_and_releases_nothing_twice(
    tmp_path, monkeypatch, method, after
):
    original, calls, lock = getattr(Journal, method), [], threading.Lock()

    def dying(journal, *arguments, **keywords):
        with lock:
            calls.append(method)
            dead = len(calls) >= after
        if dead and not recovered.is_set():
            raise Killed(method)
        return original(journal, *arguments, **keywords)

    recovered = threading.Event()
    monkeypatch.setattr(Journal, method, dying)
    with federation(tmp_path, 2 * SIZE, step=lambda _i: STEP, min_group=SIZE) as fed:
        vanish(fed, MASKED, {2})
        run_id = fed.start(TWO.model_copy(update={"rounds": 1}))
        with pytest.raises(Killed):
            fed.drive(run_id)
        recovered.set()
        check_released_once(fed, fed.drive(run_id), rounds=1)


def check_released_once(fed: Federation, run, rounds: int) -> None:
    """The run's sums are exact, its transcript holds, and no member answered a round twice."""
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    assert np.abs(moved(fed, run) - rounds * STEP).max() < rounds * 2.0**-15
    found = records(fed, run)
    assert len({item.place for item in found}) == len(found)
    audit_run(fed.alliance.coordinator_dir, fed.database, run)
    vectors = {(item.round, index): digest for item in found for index, digest in item.vectors}
    answers = 0
    for index, folder in enumerate(fed.alliance.member_dirs.values(), 1):
        for told in WitnessFile(folder / "secsum", bytes.fromhex(run.run_id)).read():
            assert vectors[told.round, index] == told.vector_sha256
        given = revealed_once(folder, run.run_id)
        answers += len(given)
        for item in given.values():
            [record] = [r for r in found if r.round == item.round and index in r.participants]
            assert (item.t2, item.bitmap) == (record.t2.hex(), record.bitmap().hex())
    assert answers >= 2 * rounds * (SIZE - 1)


def test_one_hostile_member_spoils_the_mean_and_not_the_median(tmp_path):
    steps = lambda i: 10.0 if i == 1 else -STEP  # noqa: E731 - clipped to its bound by the member
    small = {"groups": 5, "rounds": 1, "unsafe_min_group": 4, "keep_masked": True}
    with federation(tmp_path, 20, step=steps, min_group=4) as fed:
        for robust in (MEAN, MEDIAN):
            run = fed.drive(fed.start(TWO.model_copy(update={"robust": robust, **small})))
            assert (run.state, run.reason) == (RunState.COMPLETED, "")
            assert fed.manifest(run.run_id).robust == robust
            spoilt = np.abs(moved(fed, run) + STEP).max() > 2.0**-12
            assert spoilt == (robust == MEAN)
            report = audit_run(fed.alliance.coordinator_dir, fed.database, run)
            assert (report.evidence, report.sums) == (5, 5)


@pytest.mark.slow
def test_eighty_members_make_two_groups_that_nobody_had_to_let_through(tmp_path):
    text = POLICY.replace("min_cohort = 4", "min_cohort = 20").replace("max_colluders = 1\n", "")
    with federation(tmp_path, 80, step=lambda i: STEP * i / 80) as fed:
        for folder in fed.alliance.member_dirs.values():
            (folder / "policy.toml").write_text(text)
        settings = SETTINGS.model_copy(update={"rounds": 1, "max_colluders": None})
        run = fed.drive(fed.start(settings))
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        manifest = fed.manifest(run.run_id)
        assert [len(group) for group in manifest.groups] == [40, 40]
        assert (manifest.secure_sum.max_colluders, manifest.secure_sum.threshold) == (13, 27)
        exact = np.mean([STEP * i / 80 for i in range(1, 81)])
        assert np.abs(moved(fed, run) - exact).max() < 2.0**-14


def test_a_median_of_fewer_than_five_groups_is_refused_before_anything_begins(tmp_path):
    with federation(tmp_path, 2 * SIZE, min_group=SIZE) as fed:
        with pytest.raises(BadInput, match="median needs at least 5 groups"):
            fed.start(TWO.model_copy(update={"robust": MEDIAN}))
        named = {"members": ("member-1", "member-2")}
        with pytest.raises(BadInput):
            fed.start(TWO.model_copy(update=named))
        with pytest.raises(BadInput, match="do not make"):
            fed.start(TWO.model_copy(update={"unsafe_min_group": 40}))
