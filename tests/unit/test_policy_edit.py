"""`policy set` changes single rules and leaves every other character of the file alone."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from participant.node.policy import DEFAULT_TEXT, Policy, checked, load_policy, values_in
from participant.node.policy_edit import edited, parse_value
from shared.errors import BadInput, ConfigError, Exit
from tests.support.commands import data, run

HAND_WRITTEN = """\
# signed off by J. Doe, 2026-01-05

allowed_purposes = [
    "counterfeit-detection",  # ours
    "a # b",
]
min_cohort = 4   # knowingly: we are five
  hours="22:00-06:00" # "night" only

# max_colluders = 1
"""


def comments(text):
    return [line for line in text.splitlines() if line.lstrip().startswith("#")]


def test_a_rule_changes_where_it_stands_and_its_comments_stay():
    new = edited(HAND_WRITTEN, {"min_cohort": 5})
    assert new == HAND_WRITTEN.replace("min_cohort = 4 ", "min_cohort = 5 ")


def test_several_rules_change_together_over_lines_and_beside_comments():
    new = edited(HAND_WRITTEN, {"allowed_purposes": ["x"], "hours": "00:00-24:00", "threads": 2})
    assert values_in(new) == {
        "allowed_purposes": ["x"],
        "min_cohort": 4,
        "hours": "00:00-24:00",
        "threads": 2,
    }
    assert 'hours = "00:00-24:00" # "night" only' in new
    assert comments(new) == comments(HAND_WRITTEN)


def test_a_rule_left_out_so_far_follows_the_comment_that_shows_it():
    lines = edited(HAND_WRITTEN, {"max_colluders": 2}).splitlines()
    assert lines[-2:] == ["# max_colluders = 1", "max_colluders = 2"]


def test_a_rule_can_be_left_to_its_default_again():
    new = edited(HAND_WRITTEN, {}, ["allowed_purposes", "threads"])
    assert "allowed_purposes" not in values_in(new)
    assert checked(values_in(new)).allowed_purposes == ()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "allowed_purposes": st.lists(
                st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])), max_size=3
            ),
            "approval": st.sampled_from(["always", "never"]),
            "min_cohort": st.integers(2, 99),
            "max_colluders": st.integers(0, 9),
            "evaluation_epsilon_budget": st.floats(0, 1e6),
            "threads": st.integers(1, 256),
        },
    )
)
def test_any_values_land_in_the_file_and_no_comment_is_lost(values):
    new = edited(DEFAULT_TEXT, values)
    assert tomllib.loads(new) == {**tomllib.loads(DEFAULT_TEXT), **values}
    assert comments(new) == comments(DEFAULT_TEXT)


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("allowed_purposes", "one, two", ["one", "two"]),
        ("allowed_purposes", '["one"]', ["one"]),
        ("approval", "never", "never"),
        ("hours", "22:00-06:00", "22:00-06:00"),
        ("hours", '"22:00-06:00"', "22:00-06:00"),
        ("min_cohort", "7", 7),
    ],
)
def test_values_are_typed_as_people_type_them(key, typed, value):
    assert parse_value(key, typed) == value


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("min_cohorts", "5"),
        ("min_cohort", "1"),
        ("min_cohort", "five"),
        ("approval", "sometimes"),
        ("hours", "noon"),
        ("hours", "10:75-12:00"),
        ("hours", "06:00-06:00"),
        ("threads", "0"),
        ("min_known_peers", "-1"),
    ],
)
def test_what_no_policy_may_say_is_refused(key, typed):
    with pytest.raises(BadInput):
        parse_value(key, typed)


def test_a_file_that_is_wrong_already_is_not_edited():
    for text in ("no toml [", "unknown_rule = 1\n", "[section]\nmin_cohort = 4\n"):
        with pytest.raises(ConfigError):
            edited(text, {"min_cohort": 5})


# -- the command -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    assert run(tmp_path, "policy", "init")[0] == Exit.OK
    return tmp_path


def test_set_writes_all_rules_or_none(folder):
    path = folder / "policy.toml"
    before = path.read_bytes()
    for words in (
        ("min_cohort", "4", "threads", "0"),
        ("min_cohort", "4", "no_such", "1"),
        ("min_cohort",),
        ("min_cohort", "4", "min_cohort", "5"),
        ("min_cohort", "4", "--unset", "min_cohort"),
        ("evaluation_epsilon_budget", "inf"),
        ("privacy_delta", "nan"),
        (),
    ):
        assert run(folder, "policy", "set", *words)[0] == Exit.USAGE
        assert path.read_bytes() == before
    found = data(folder, "policy", "set", "min_cohort", "4", "approval", "never")
    assert found["changed"]
    policy = load_policy(path)
    assert (policy.min_cohort, policy.approval) == (4, "never")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not data(folder, "policy", "set", "min_cohort", "4")["changed"]
    assert data(folder, "policy", "set", "--unset", "min_cohort")["changed"]
    assert load_policy(path).min_cohort == Policy().min_cohort


def test_a_dry_run_shows_the_change_and_writes_nothing(folder):
    before = (folder / "policy.toml").read_bytes()
    code, printed = run(folder, "policy", "set", "threads", "8", "--dry-run")
    assert (code, printed) == (Exit.OK, "-threads = 1\n+threads = 8\n")
    assert (folder / "policy.toml").read_bytes() == before


def test_a_broken_file_is_a_configuration_error(folder):
    (folder / "policy.toml").write_text("min_cohort = 5\nmin_cohort = 6\n")
    assert run(folder, "policy", "set", "threads", "2")[0] == Exit.CONFIG
    assert run(folder, "policy", "check")[0] == Exit.CONFIG


def test_show_tells_what_is_written_and_what_is_a_default(folder):
    (folder / "policy.toml").write_text("min_cohort = 6\n")
    found = data(folder, "policy", "show")
    rules = {item["rule"]: (item["value"], item["origin"]) for item in found["rules"]}
    assert list(rules) == list(Policy.model_fields)
    assert rules["min_cohort"] == (6, "file")
    assert rules["approval"] == ("always", "default")
    assert "min_cohort = 6" in run(folder, "policy", "show")[1]


def test_every_change_by_command_is_audited_with_the_file_it_replaced(folder):
    digest = data(folder, "policy", "show")["sha256"]
    run(folder, "policy", "set", "threads", "3")
    events = data(folder, "audit", "show")["events"]
    assert [(e["kind"], e["body"]) for e in events] == [
        (
            "policy.set",
            {
                "rules": ["threads"],
                "sha256_before": digest,
                "sha256_after": data(folder, "policy", "show")["sha256"],
            },
        )
    ]


def test_no_environment_variable_overrides_a_policy(folder, monkeypatch):
    for name in ("APPROVAL", "POLICY__APPROVAL", "POLICY"):
        monkeypatch.setenv(f"TOUCHSTONE_{name}", "never")
    assert load_policy(folder / "policy.toml").approval == "always"


def test_check_notes_what_is_wide_and_what_refuses_everything(folder):
    path = folder / "policy.toml"
    first = " ".join(data(folder, "policy", "check")["notes"])
    assert "allowed_purposes is empty" in first
    assert "no roster" in first
    path.write_text('approval = "never"\nmin_cohort = 2\nmin_known_peers = 0\nmax_colluders = 0\n')
    path.chmod(0o620)
    wide = " ".join(data(folder, "policy", "check")["notes"])
    for word in ("approval", "min_cohort", "min_known_peers", "max_colluders", "chmod"):
        assert word in wide


def test_every_rule_is_shown_as_the_file_would_have_it(folder):
    shown = run(folder, "policy", "show")[1]
    lines = shown.splitlines()[: len(Policy.model_fields)]
    read = tomllib.loads("\n".join(lines))
    assert checked(read) == Policy()
    assert read.keys() | {"max_colluders"} == Policy.model_fields.keys()
    assert "# max_colluders = none" in shown


def test_infinity_is_no_budget(folder):
    (folder / "policy.toml").write_text("evaluation_epsilon_budget = inf\n")
    assert run(folder, "policy", "check")[0] == Exit.CONFIG


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ("require_record_dp = false", "privacy_budget bounds private runs only"),
        ("evaluation_epsilon_budget = 1000.0", "evaluation_epsilon_budget is 1000"),
        ("min_training_rows = 1", "min_training_rows is 1"),
        ("min_class_rows = 0", "min_class_rows is 0"),
        ("privacy_delta = 1e-3\nmin_training_rows = 1000", "one in so many rows"),
    ],
)
def test_what_the_privacy_rules_leave_unbounded_is_named(folder, rules, word):
    path = folder / "policy.toml"
    path.write_text("require_record_dp = true\nevaluation_epsilon_budget = 10.0\n")
    assert word not in " ".join(data(folder, "policy", "check")["notes"])
    kept = [line for line in path.read_text().splitlines() if line.split()[0] not in rules]
    path.write_text("\n".join([*kept, rules, ""]))
    assert word in " ".join(data(folder, "policy", "check")["notes"])
