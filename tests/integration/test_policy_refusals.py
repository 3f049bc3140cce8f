"""Every refusal has a reason code, is in both audit logs, and is explained at the member alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from coordinator.cli.main import app as coordinator_app
from coordinator.rounds.plan import RunSettings
from participant.node import approvals, decide, runtime
from participant.node.reasons import REASONS, refusal, told_to_coordinator
from shared.clock import SystemClock
from shared.errors import Exit, InternalError, StateError
from shared.fleet.exchange import FAILED, REFUSED
from shared.fleet.refusals import DATA_NOT_READY, NOT_YET, UNEXPLAINED
from tests.support.commands import data
from tests.support.commands import run as command
from tests.support.refusals import MEMBER
from tests.support.runs import SETTINGS

RECORDS = {"too_few_rows", "too_few_of_a_class", "data_contract"}
"""Reasons that follow from a member's records."""


# -- every code, on both sides -------------------------------------------------------------------


def test_a_reason_that_is_not_listed_cannot_be_given():
    with pytest.raises(InternalError):
        refusal("because")
    assert told_to_coordinator("because") == UNEXPLAINED


def test_nothing_that_follows_from_records_is_told_by_name():
    assert {code for code, why in REASONS.items() if why.told == DATA_NOT_READY} == RECORDS
    assert all(why.text and not why.text.endswith(".") for why in REASONS.values())


def test_the_message_of_a_failure_stays_at_the_member(case, monkeypatch):
    def fails(*_arguments):
        raise StateError("only 12 of the 340 records are of the rarer class")

    monkeypatch.setattr(runtime, "consent", fails)
    answer = case.answer(case.start())
    assert (answer.status, answer.code, answer.text) == (FAILED, StateError.code, "")


@pytest.mark.parametrize("code", sorted(RECORDS))
def test_answers_about_records_are_the_same_byte_for_byte(case, code, monkeypatch):
    def objects(*_arguments):
        raise refusal(code)

    monkeypatch.setattr(runtime, "consent", objects)
    answer = case.answer(case.start())
    assert (answer.status, answer.code, answer.text) == (REFUSED, DATA_NOT_READY, "")
    assert answer.payload == b""
    assert answer.vector is None


# -- every rule, by what it is there to stop ------------------------------------------------------


def outside_now():
    hour = SystemClock().now().hour
    return f'hours = "{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"'


def with_sums(context, **changes):
    return {"secure_sum": replace(context.manifest.secure_sum, **changes)}


def other_key(context):
    members = context.manifest.members
    return {"members": (*members[:-1], replace(members[-1], public_key=b"x" * 32))}


def without_me(context):
    return {"members": tuple(m for m in context.manifest.members if m.index != MEMBER)}


POLICIES = {
    "purpose_not_allowed": 'allowed_purposes = ["something else"]',
    "too_few_known_peers": "min_known_peers = 5",
    "cohort_too_small": "min_cohort = 5",
    "colluder_bound": "max_colluders = 3",
    "too_few_rows": "min_training_rows = 1000000",
    "too_few_of_a_class": "min_class_rows = 1000000",
    "epsilon_budget": "evaluation_epsilon_budget = 0.0",
    "evaluation_epsilon": "max_evaluation_epsilon = 0.99",
    "run_too_long": "max_run_days = 2.9",
    "approval_pending": 'approval = "always"',
    "outside_hours": outside_now,  # asked when the test runs
}

MANIFESTS = {
    "roster_not_accepted": lambda _context: {"roster_hash": b"h" * 32},
    "roster_mismatch": other_key,
    "not_listed": without_me,
    "unsound_threshold": lambda context: with_sums(context, threshold=3),
    "feature_space": lambda _context: {"feature_space": b"f" * 32},
    "schema_version": lambda _context: {"schema_version": 99},
}


@pytest.mark.parametrize("code", sorted(POLICIES))
def test_a_policy_stops_what_it_does_not_allow(case, code):
    rules = POLICIES[code]
    case.policy(rules() if callable(rules) else rules)
    case.check_refused(case.start(), code)


@pytest.mark.parametrize("code", sorted(MANIFESTS))
def test_no_policy_can_allow_an_unsound_run(case, code):
    run_id = case.start()
    case.tamper(run_id, **MANIFESTS[code](case.context(run_id)))
    case.check_refused(run_id, code)


def test_records_that_do_not_keep_the_data_contract_do_not_train(case):
    case.known = replace(case.known, contract_holds=False)
    case.check_refused(case.start(), "data_contract")


def test_a_person_stops_a_run_that_the_policy_allows(case):
    run_id = case.start()
    assert case.ask(run_id) == ""
    decide.refuse(case.folder, case.store, run_id[:12], SystemClock().now(), reason="not now")
    case.check_refused(run_id, "refused_by_person")
    assert not any("not now" in str(item) for item in case.coordinator_log(run_id))


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_a_dry_run_of_a_persons_word_says_it_and_changes_nothing(case, verb):
    case.policy('approval = "always"')
    run_id = case.start()
    assert case.ask(run_id) == "approval_pending"
    seq = case.store.audit.verify().seq
    code, printed = command(case.folder, "run", verb, run_id[:12], "--dry-run")
    assert (code, "would be" in printed) == (Exit.OK, True)
    assert case.store.audit.verify().seq == seq
    assert case.ask(run_id) == "approval_pending"
    assert command(case.folder, "run", verb, "ab" * 16, "--dry-run")[0] == Exit.CONFIG
    done = json.loads(command(case.folder, "run", verb, run_id[:12], "--json")[1])["data"]
    assert (done["dry_run"], case.ask(run_id)) == (
        False,
        "" if verb == "approve" else "refused_by_person",
    )


def test_a_second_manifest_under_the_same_run_id_is_refused(case):
    case.policy('approval = "always"')
    run_id = case.start()
    assert case.ask(run_id) == "approval_pending"
    case.tamper(run_id, rounds=500)
    decide.approve(case.folder, case.store, run_id, SystemClock().now())
    assert case.ask(run_id) == "manifest_changed"
    assert case.member_log(run_id)[-1].reason == "manifest_changed"


def test_a_flood_of_manifests_is_refused_when_the_folder_is_full(case, monkeypatch):
    monkeypatch.setattr(approvals, "MAX_ASKED_RUNS", 1)
    case.ask(case.start())
    assert case.ask(case.start()) == "too_many_runs"


# -- explained ------------------------------------------------------------------------------------


def test_explain_shows_the_manifest_every_rule_and_what_was_answered(case):
    case.policy('allowed_purposes = ["else"]', "min_cohort = 5", 'approval = "always"')
    run_id = case.start()
    case.ask(run_id)
    code, printed = command(case.folder, "run", "explain", run_id[:12], "--json")
    assert code == Exit.POLICY
    told = json.loads(printed)["data"]
    assert told["run"]["members"] == [f"member-{number}" for number in range(1, 6)]
    assert told["run"]["manifest_sha256"] == case.context(run_id).verified.hash.hex()
    rules = {item["rule"]: item for item in told["rules"]}
    assert rules["allowed_purposes"]["wanted"] == "else"
    assert rules["allowed_purposes"]["found"] == "counterfeit-detection"
    assert rules["allowed_purposes"]["reason"] == "purpose_not_allowed"
    assert rules["min_cohort"]["reason"] == "cohort_too_small"
    assert rules["min_cohort"]["remedy"]
    assert rules["roster"]["reason"] == ""
    assert [item["reason"] for item in told["answers"]] == ["purpose_not_allowed"]
    assert told["answers"][0]["at"]
    text = command(case.folder, "run", "explain", run_id[:12])[1]
    assert "this node would say no: purpose_not_allowed" in text


def test_explain_shows_what_protects_records_the_model_and_the_weights(case):
    private = RunSettings(**{**SETTINGS.model_dump(), "rounds": 2, "dp_epsilon": 8.0})
    run_id = case.start(private)
    case.ask(run_id)
    told = data(case.folder, "run", "explain", run_id[:12], exit_code=None)["run"]
    stated = case.context(run_id).manifest
    assert told["record_privacy"]["epsilon"] == 8.0
    assert told["record_privacy"]["delta"] == pytest.approx(1e-5)
    assert told["record_privacy"]["noise"] == stated.privacy.noise
    assert (told["model"]["kind"], told["model"]["hash_bits"]) == ("hashed-linear-v1", 14)
    text = command(case.folder, "run", "explain", run_id[:12])[1]
    assert "epsilon 8 at delta 1e-05 for the whole run, 3 noisy steps a round" in text
    assert "model hashed-linear-v1, 2^14 rows; members weigh uniform" in text
    plain = case.start()
    case.ask(plain)
    assert (
        data(case.folder, "run", "explain", plain, exit_code=None)["run"]["record_privacy"] is None
    )
    assert "single records not protected" in command(case.folder, "run", "explain", plain)[1]


def test_explain_of_a_run_nobody_asked_about_is_an_error(case):
    assert command(case.folder, "run", "explain", "ab" * 16)[0] == Exit.CONFIG
    assert command(case.folder, "run", "explain", "zz")[0] == Exit.USAGE


def test_the_operator_sees_the_coarse_code_and_who_waits(case):
    case.policy(POLICIES["too_few_rows"])
    refused = case.start()
    case.ask(refused)
    case.policy('approval = "always"')
    waits = case.start()
    case.ask(waits)
    folder = str(case.fed.alliance.coordinator_dir)
    shown = [
        CliRunner().invoke(coordinator_app, ["run", "show", run_id, "--dir", folder]).stdout
        for run_id in (refused, waits)
    ]
    assert f"member {MEMBER} refused: {DATA_NOT_READY}" in shown[0]
    assert "rows" not in shown[0]
    assert f"member {MEMBER} waits: approval_pending" in shown[1]
    assert "approval_pending" in NOT_YET
