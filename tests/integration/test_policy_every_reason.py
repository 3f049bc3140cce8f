"""Each reason code by what really causes it: told as listed, and in both audit logs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db.records import RunState
from coordinator.enrolment.service import roster
from coordinator.rounds.journal import Journal
from coordinator.rounds.plan import RunSettings
from coordinator.rounds.setup import Refusals
from coordinator.rounds.waiting import ask_waiting
from participant.node import approvals, decide, refusal_log, runtime
from participant.node.drawings import drawn_of
from participant.node.peers import PINS_FILE
from participant.node.reasons import REASONS, told_to_coordinator
from shared.clock import SystemClock
from shared.errors import Exit, StateError
from shared.files import write_atomic
from shared.fleet.exchange import CONFIRM, FAILED, MASKED, REVEAL_FOR_DRAW, UNMASK, Instruction
from shared.trust.grouping import CommitCall, CommitList, Drawing, commitment
from shared.trust.manifest import sign_manifest
from tests.integration.test_policy_refusals import MANIFESTS, POLICIES
from tests.support.commands import data
from tests.support.commands import run as command
from tests.support.refusals import MEMBER
from tests.support.runs import SETTINGS

ONE = SETTINGS.model_copy(update={"rounds": 1})
PRIVATE = RunSettings(**{**SETTINGS.model_dump(), "rounds": 2, "dp_epsilon": 8.0})


# -- asked whether it agrees ---------------------------------------------------------------------


def by_policy(*rules, settings=SETTINGS):
    def cause(case, _monkeypatch):
        case.policy(*(rule() if callable(rule) else rule for rule in rules))
        return asked(case, case.start(settings))

    return cause


def by_manifest(changes, settings=SETTINGS):
    def cause(case, _monkeypatch):
        run_id = case.start(settings)
        case.tamper(run_id, **changes(case.context(run_id)))
        return asked(case, run_id)

    return cause


def asked(case, run_id):
    case.ask(run_id)
    return run_id


def data_contract(case, _monkeypatch):
    case.known = replace(case.known, contract_holds=False)
    return asked(case, case.start())


def refused_by_person(case, _monkeypatch):
    case.policy('approval = "always"')
    run_id = asked(case, case.start())
    decide.refuse(case.folder, case.store, run_id, SystemClock().now())
    return asked(case, run_id)


def manifest_changed(case, _monkeypatch):
    run_id = asked(case, case.start())
    case.tamper(run_id, rounds=500)
    return asked(case, run_id)


def too_many_runs(case, monkeypatch):
    monkeypatch.setattr(approvals, "MAX_ASKED_RUNS", 1)
    case.ask(case.start())
    return asked(case, case.start())


def weak_noise(context):
    privacy = context.manifest.privacy
    return {"privacy": replace(privacy, noise_milli=privacy.noise_milli // 2)}


def grouped(case, _monkeypatch):
    """Five members in two groups, under a policy that minds nothing but the groups."""
    case.policy("min_cohort = 2", "max_colluders = 0", "min_known_peers = 0")
    run_id = case.start()
    manifest = case.context(run_id).manifest
    sums = replace(manifest.secure_sum, threshold=2, n_min=2, max_colluders=0)
    nonces = (b"n" * 32,) * len(manifest.members)
    case.tamper(run_id, secure_sum=sums, drawing=Drawing(1, 2, nonces))
    return asked(case, run_id)


def groups_not_drawn(case, monkeypatch):
    case.restart(unsafe_min_group=2)
    return grouped(case, monkeypatch)


# -- in a drawing --------------------------------------------------------------------------------


def other_roster(case, _monkeypatch):
    run_id = case.start()
    case.draw(run_id, CommitCall(b"h" * 32, 1))
    return run_id


def listed(case, members):
    """Let the member commit, then show it a list of some members' commitments."""
    run_id, current = case.start(), roster(case.fed.database).hash()
    number = drawn_of(case.folder / "secsum", current).number + 1
    case.draw(run_id, CommitCall(current, number))
    own = drawn_of(case.folder / "secsum", current)
    mine = commitment(current, number, MEMBER, own.nonce)
    found = tuple((i, mine if i == MEMBER else bytes([i]) * 32) for i in members)
    case.draw(run_id, CommitList(current, number, 2, found), REVEAL_FOR_DRAW)
    return run_id


def too_few_drawn(case, _monkeypatch):
    return listed(case, (1, 2, MEMBER))


def small_groups(case, _monkeypatch):
    return listed(case, range(1, 6))


# -- in a round ----------------------------------------------------------------------------------


def secagg_terms(case, _monkeypatch):
    """One of the only two peers that the member knows goes away for one round."""
    lines = case._pins.splitlines()
    (case.folder / PINS_FILE).write_text("\n".join([lines[0], *lines[1:3]]))

    def step(message):
        action, member = message.metadata.message_type, message.metadata.dst_node_id
        if action == CONFIRM and member == 1:
            case.fed.grid.absent.add(1)
        if action == MASKED:
            case.fed.grid.absent.clear()
        return False

    case.fed.grid.lose_reply = step
    run_id = case.start(ONE)
    assert case.fed.drive(run_id).state is RunState.COMPLETED
    assert MEMBER in case.fed.rounds(run_id)[-1].survivors, "the next try has both again"
    return run_id


def round_already_released(case, monkeypatch):
    """The coordinator goes on from a checkpoint that is older than what its members released."""
    run_id = case.start(ONE)
    real = Journal.finish_round

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "finish_round", killed)
    with pytest.raises(KeyboardInterrupt):
        case.fed.drive(run_id)
    monkeypatch.setattr(Journal, "finish_round", real)
    Journal(case.fed.folder(run_id)).close_session()
    run = case.fed.drive(run_id)
    assert (run.state, run.reason_code) == (RunState.FAILED, "too_few_members")
    return run_id


CAUSES = {
    **{code: by_policy(rule) for code, rule in POLICIES.items()},
    **{code: by_manifest(changes) for code, changes in MANIFESTS.items()},
    "privacy_floor": by_policy("require_record_dp = true"),
    "privacy_budget": by_policy("privacy_budget = 1.0", settings=PRIVATE),
    "privacy_terms": by_manifest(weak_noise, PRIVATE),
    "data_contract": data_contract,
    "refused_by_person": refused_by_person,
    "manifest_changed": manifest_changed,
    "too_many_runs": too_many_runs,
    "group_size": grouped,
    "groups_not_drawn": groups_not_drawn,
    "secagg_terms": secagg_terms,
    "round_already_released": round_already_released,
}

IN_DRAWINGS = {
    "roster_not_accepted": other_roster,
    "too_few_drawn": too_few_drawn,
    "group_size": small_groups,
}


def test_every_reason_has_a_cause():
    assert set(CAUSES) | set(IN_DRAWINGS) == set(REASONS)


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_a_refusal_is_told_as_listed_and_is_in_both_audit_logs(case, code, monkeypatch):
    run_id = CAUSES[code](case, monkeypatch)
    told = told_to_coordinator(code)
    assert (MEMBER, told) in case.coordinator_log(run_id)
    refusals = [(item.reason, item.told) for item in case.member_log(run_id) if item.reason]
    assert refusals[-1] == (code, told)
    assert case.store.audit.verify().seq > 0


@pytest.mark.parametrize("code", sorted({**POLICIES, **MANIFESTS}))
def test_the_same_answer_again_is_noted_once(case, code, monkeypatch):
    run_id = CAUSES[code](case, monkeypatch)
    assert case.ask(run_id) == told_to_coordinator(code)
    assert len(case.member_log(run_id)) == len(case.coordinator_log(run_id)) == 1


@pytest.mark.parametrize("code", sorted(set(CAUSES) - {"secagg_terms"}))
def test_explain_says_in_words_why_and_ends_with_code_8_or_waits(case, code, monkeypatch):
    run_id = CAUSES[code](case, monkeypatch)
    monkeypatch.setattr("participant.node.explain._known", lambda *_: case.known)
    ended, printed = command(case.folder, "run", "explain", run_id[:12])
    assert f"{code}: {REASONS[code].text}" in printed
    assert REASONS[code].remedy in printed
    assert "would take part" not in printed
    assert ended == (Exit.OK if code in ("approval_pending", "outside_hours") else Exit.POLICY)
    shown = {item["run_id"]: item for item in data(case.folder, "run", "list")["runs"]}
    assert shown[run_id]["reason_code"] == code


def test_a_pin_given_up_in_the_middle_of_a_run_does_not_count_in_the_next_round(case):
    """Two of its peers stay pinned, enough for the run; one of the two is away in round 2."""
    few = "\n".join(case._pins.splitlines()[:3])

    def step(message):
        action, member = message.metadata.message_type, message.metadata.dst_node_id
        if action == MASKED and message.metadata.group_id == "1":
            write_atomic(case.folder / PINS_FILE, few.encode(), mode=0o600)
        if action == UNMASK and member == 1:
            case.fed.grid.absent.add(1)
        if action == MASKED and message.metadata.group_id == "2":
            case.fed.grid.absent.clear()
        return False

    case.fed.grid.lose_reply = step
    run_id = case.start(SETTINGS.model_copy(update={"rounds": 2}))
    assert case.fed.drive(run_id).state is RunState.COMPLETED
    assert [item.reason for item in case.member_log(run_id)][:2] == ["", "secagg_terms"]


@pytest.mark.parametrize("code", sorted(IN_DRAWINGS))
def test_a_refused_drawing_is_in_both_audit_logs(case, code, monkeypatch):
    run_id = IN_DRAWINGS[code](case, monkeypatch)
    assert case.coordinator_log(run_id) == [(MEMBER, code)]
    noted = case.member_events("drawing.refused")
    assert (noted[-1]["reason_code"], noted[-1]["told"]) == (code, code)


# -- no policy is held against it ------------------------------------------------------------------


def of_another_alliance(case, context):
    return sign_manifest(replace(context.manifest, alliance_id=b"x" * 16), context.key)


def of_another_signer(_case, context):
    return sign_manifest(context.manifest, Ed25519PrivateKey.from_private_bytes(b"x" * 32))


def expired(_case, context):
    then = context.manifest.created_at
    old = replace(
        context.manifest, created_at=then - timedelta(hours=2), expires_at=then - timedelta(hours=1)
    )
    return sign_manifest(old, context.key)


def no_manifest(_case, _context):
    return b"nonsense"


@pytest.mark.parametrize("made", [of_another_alliance, of_another_signer, expired, no_manifest])
def test_a_manifest_that_is_none_is_noted_once(case, made):
    """Also when the coordinator sends the same one again and again."""
    signed = made(case, case.context(case.start()))
    node = case.fed.nodes.runtime(MEMBER)
    before = len(case.member_events("manifest.refused"))
    for step in (node.consent, node.consent, node.advertise):
        answer = node.answer(step, Instruction(manifest=signed))
        assert (answer.status, answer.text) == (FAILED, "")
        assert answer.code in ("verification", "malformed", "manifest_expired")
    noted = case.member_events("manifest.refused")[before:]
    assert [item["sha256"] for item in noted] == [hashlib.sha256(signed).hexdigest()]
    assert noted[0]["code"] == answer.code
    assert noted[0]["why"]


def test_a_flood_of_manifests_that_are_none_does_not_fill_the_log(case, monkeypatch):
    monkeypatch.setattr(refusal_log, "MAX_NOTED_REFUSALS", 4)
    node = case.fed.nodes.runtime(MEMBER)
    before = case.store.audit.head().seq
    for number in range(9):
        node.answer(node.consent, Instruction(manifest=b"%d" % number))
    assert case.store.audit.head().seq - before == 4


def test_an_error_nobody_foresaw_is_a_code_and_an_event_without_its_text(case, monkeypatch):
    def breaks(*_arguments):
        raise ZeroDivisionError("the listing 'Rolex, new' divides by zero")

    monkeypatch.setattr(runtime, "consent", breaks)
    run_id = case.start()
    answer = case.answer(run_id)
    assert (answer.status, answer.code, answer.text) == (FAILED, "internal", "")
    case.answer(run_id)
    assert case.member_events("step.failed") == [{"error": "ZeroDivisionError"}]


def test_a_member_that_cannot_say_whether_it_agrees_is_in_the_coordinators_log(case, monkeypatch):
    def breaks(*_arguments):
        raise StateError("the disk is gone")

    monkeypatch.setattr(runtime, "consent", breaks)
    run_id, refusals = case.start(), Refusals()
    for _ in range(3):
        ask_waiting(case.context(run_id), frozenset({MEMBER}), refusals)
    events = case.fed.database.read("audit", lambda unit: list(unit.audit.events()))
    failed = [e.body for e in events if e.kind == "session.member_failed"]
    assert failed == [{"run_id": run_id, "member": MEMBER, "code": StateError.code}]
