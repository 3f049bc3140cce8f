"""Consent: every rule refuses with its own reason code, and the default refuses everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from participant.node.consent import (
    RULES,
    Facts,
    Stage,
    check_round,
    check_run,
    consent,
    projected_epsilon,
)
from participant.node.policy import Policy, load_policy, write_default
from shared.errors import ConfigError, Exit, PolicyRefused
from shared.trust.manifest import EvaluationTerms, SecureSumTerms
from shared.trust.roster import Roster, RosterEntry
from tests.support.manifests import NOW, SPACE, a_manifest, entries

ROSTER = Roster(b"a" * 16, 5, entries(5))
GENEROUS = Policy(
    allowed_purposes=("counterfeit-detection",),
    approval="never",
    min_cohort=4,
    max_colluders=1,
    min_known_peers=2,
)
FACTS = Facts(
    index=2,
    roster=ROSTER,
    pinned=frozenset({1, 3}),
    rows=1000,
    smallest_class=50,
    contract_holds=True,
    epsilon_spent=0.0,
    feature_space=SPACE,
    schema_version=1,
    now=NOW,
)


def manifest(**changes):
    return a_manifest(roster_hash=ROSTER.hash(), **changes)


def reason(policy=GENEROUS, facts=FACTS, **changes):
    with pytest.raises(PolicyRefused) as refused:
        consent(policy, manifest(**changes), facts)
    assert refused.value.exit_code is Exit.POLICY
    return refused.value.reason


def test_a_run_within_the_policy_is_agreed_to():
    consent(GENEROUS, manifest(), FACTS)


def test_the_default_policy_refuses_every_purpose(tmp_path):
    path = tmp_path / "policy.toml"
    write_default(path)
    assert reason(policy=load_policy(path)) == "purpose_not_allowed"
    assert path.stat().st_mode & 0o777 == 0o600


def sums(**changes):
    return replace(SecureSumTerms(4, 4, 1), **changes)


CASES = [
    ("roster_not_accepted", {"facts": replace(FACTS, roster=None)}),
    ("roster_not_accepted", {"facts": replace(FACTS, roster=replace(ROSTER, epoch=6))}),
    ("roster_mismatch", {"members": (*entries(4), RosterEntry(5, "m5", b"x" * 32))}),
    ("not_listed", {"facts": replace(FACTS, index=9)}),
    ("too_few_known_peers", {"facts": replace(FACTS, pinned=frozenset({2, 3}))}),
    ("cohort_too_small", {"policy": GENEROUS.model_copy(update={"min_cohort": 5})}),
    ("colluder_bound", {"policy": GENEROUS.model_copy(update={"max_colluders": 2})}),
    ("unsound_threshold", {"secure_sum": sums(threshold=3)}),
    ("unsound_threshold", {"secure_sum": sums(threshold=5)}),
    ("unsound_threshold", {"secure_sum": sums(threshold=5, n_min=5, max_colluders=5)}),
    ("feature_space", {"feature_space": b"x" * 32}),
    ("schema_version", {"schema_version": 99}),
    ("privacy_floor", {"policy": GENEROUS.model_copy(update={"require_record_dp": True})}),
    ("too_few_rows", {"facts": replace(FACTS, rows=3)}),
    ("data_contract", {"facts": replace(FACTS, contract_holds=False)}),
    ("too_few_of_a_class", {"facts": replace(FACTS, smallest_class=0)}),
    ("outside_hours", {"policy": GENEROUS.model_copy(update={"hours": "01:00-02:00"})}),
    ("epsilon_budget", {"facts": replace(FACTS, epsilon_spent=99.0)}),
]


@pytest.mark.parametrize(("expected", "case"), CASES)
def test_each_rule_has_its_reason(expected, case):
    assert reason(**case) == expected


ROUND_CASES = [
    ("purpose_not_allowed", {"policy": GENEROUS.model_copy(update={"allowed_purposes": ()})}),
    ("too_few_known_peers", {"facts": replace(FACTS, pinned=frozenset({3}))}),
    ("cohort_too_small", {"policy": GENEROUS.model_copy(update={"min_cohort": 5})}),
    ("colluder_bound", {"policy": GENEROUS.model_copy(update={"max_colluders": 2})}),
    ("privacy_floor", {"policy": GENEROUS.model_copy(update={"require_record_dp": True})}),
    ("refused_by_person", {"facts": replace(FACTS, said="refused")}),
    ("outside_hours", {"policy": GENEROUS.model_copy(update={"hours": "01:00-02:00"})}),
]


@pytest.mark.parametrize(("expected", "case"), ROUND_CASES)
def test_what_may_change_is_asked_again_in_every_round(expected, case):
    with pytest.raises(PolicyRefused) as refused:
        check_round(case.get("policy", GENEROUS), manifest(), case.get("facts", FACTS))
    assert refused.value.reason == expected


def test_a_refusal_in_a_round_never_depends_on_records():
    known_nothing = replace(FACTS, rows=0, smallest_class=0, contract_holds=False)
    check_round(GENEROUS, manifest(), known_nothing)


def test_a_roster_accepted_meanwhile_ends_no_run():
    grown = Roster(b"a" * 16, 6, entries(9))
    default = GENEROUS.model_copy(update={"max_colluders": None})
    check_round(default, manifest(), replace(FACTS, roster=grown))


def test_rules_that_need_records_are_asked_after_all_that_do_not():
    stages = [rule.stage for rule in RULES]
    assert stages == sorted(stages)
    assert {rule.name for rule in RULES if rule.stage is Stage.RECORDS} == {
        "min_training_rows",
        "min_class_rows",
        "data_contract",
    }
    poor = replace(FACTS, rows=0, smallest_class=0, contract_holds=False)
    check_run(GENEROUS, manifest(), poor)
    assert reason(facts=replace(poor, epsilon_spent=99.0)) == "epsilon_budget"


def test_the_colluders_wanted_are_those_of_the_group_that_is_checked():
    rule = next(rule for rule in RULES if rule.name == "max_colluders")
    default = GENEROUS.model_copy(update={"max_colluders": None})
    in_group = replace(FACTS, roster=Roster(b"a" * 16, 5, entries(90)), group_size=45)
    assert rule.wanted(default, in_group) == "at least 14"
    assert rule.wanted(default, replace(in_group, group_size=0)) == "at least 29"


def test_projected_epsilon_counts_the_evaluating_rounds():
    evaluation = EvaluationTerms(every=5, epsilon_milli=1500, min_rows=200)
    assert projected_epsilon(manifest(rounds=10, evaluation=evaluation)) == 3.0
    assert projected_epsilon(manifest(rounds=12, evaluation=evaluation)) == 4.5


@pytest.mark.parametrize(
    ("hours", "hour", "open_"),
    [("22:00-06:00", 23, True), ("22:00-06:00", 5, True), ("22:00-06:00", 12, False),
     ("00:00-24:00", 0, True), ("08:00-18:00", 18, False)],
)  # fmt: skip
def test_hours_may_pass_midnight(hours, hour, open_):
    moment = datetime(2026, 1, 1, hour, tzinfo=UTC)
    assert Policy(hours=hours).open_at(moment) is open_


@pytest.mark.parametrize(
    "text",
    ["min_cohorts = 5", "min_cohort = 1", 'hours = "noon"', "not toml [", 'hours = "25:00-26:00"'],
)
def test_a_wrong_policy_file_is_refused(tmp_path, text):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_policy(path)


def test_a_missing_policy_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_policy(tmp_path / "policy.toml")
    assert "policy init" in error.value.hint
