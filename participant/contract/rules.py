"""The rules of the data contract: a closed list of codes, and the thresholds behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CONTRACT_VERSION = 3
"""Raised when a rule changes: verdicts kept from before are then found again."""

Level = Literal["fail", "warn"]

SHARE_FAILS = 0.05
"""Above this share, odd times are no slips but a misread column, and training would learn it."""

HALF = 0.5
"""Dates without a time of day may be equal by right; those of most records are not."""

SHARE_TOLD = 0.05
"""Above this share, duplicates flatter the hold-out visibly."""

AUC_TOLD = 0.95
"""Above this, one feature alone does the work: no honest signal against fakes is that good."""

AUC_EQUAL = 0.995
"""From here on a feature is the label under another name, slips of an export included."""

MIN_OF_A_CLASS = 10
"""Values of each class without which an area under the curve means nothing."""

MIN_SURE = 20
"""Records on each side without which a coincidence could look like a pattern."""

NEARLY_ALL = 0.98
"""Share from which a pattern counts as holding; the rest are slips in the export."""

NEARLY_NONE = 1 - NEARLY_ALL

MIN_HOLDOUT_OF_A_CLASS = 20
"""Hold-out records of a class below which its figures are noise."""

OLD_DAYS = 365
"""A counterfeit tactic lives some months: labels older than a year tell of other tactics."""

FUTURE_SLACK_S = 86_400
"""A day: times without a zone may be up to 14 hours ahead."""

SAMPLE_ROWS = 200_000
"""Labelled records among which features are screened: areas are then known to +-.002."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        level: ``fail`` keeps the records from training, ``warn`` is told only.
        meaning: For people.
        fails_above: Share of the records above which a warning becomes a failure, or None.
    """

    level: Level
    meaning: str
    fails_above: float | None = None


RULES: dict[str, Rule] = {
    "foreign_schema": Rule("fail", "a stored segment has columns of another record schema"),
    "required_missing": Rule("fail", "a required column has empty values"),
    "column_empty": Rule("warn", "a column that the model leans on is empty in every record"),
    "exact_duplicates": Rule("warn", "records with equal content under different ids"),
    "near_duplicates_across_split": Rule(
        "warn", "hold-out records with nearly the text of a training record: figures flatter"
    ),
    "near_duplicates_disagree": Rule(
        "warn", "records with nearly the same text and different labels"
    ),
    "no_labels": Rule("fail", "no record has a label"),
    "one_class": Rule("warn", "the training part has one class only"),
    "small_holdout": Rule("warn", "the hold-out has too few records of a class to judge by"),
    "old_labels": Rule("warn", "most labels are older than a year"),
    "labels_by_rule": Rule(
        "warn", "most labels come from an automatic rule: the model would learn the rule"
    ),
    "contradicting_verdicts": Rule("warn", "listings with verdicts that contradict each other"),
    "single_feature": Rule("warn", "one feature alone tells the label"),
    "equals_label": Rule("fail", "one feature is the label under another name"),
    "nulls_tell_label": Rule(
        "fail", "a value is there exactly where the label is one of the two: it is the answer"
    ),
    "known_after_verdict": Rule("fail", "a value is known only after the verdict"),
    "answer_as_signal": Rule("fail", "a signal is a column of the verdict"),
    "changed_after_verdict": Rule(
        "warn",
        "records known only as they were after their verdict: they may show its consequences",
    ),
    "seen_late": Rule(
        "warn", "most labelled listings are known only as they were long after they appeared"
    ),
    "updated_before_created": Rule("warn", "records updated before they existed", SHARE_FAILS),
    "decided_before_created": Rule(
        "warn", "verdicts on listings that did not exist yet", SHARE_FAILS
    ),
    "decided_when_created": Rule(
        "warn", "listings created the moment they were judged: their date is the verdict's", HALF
    ),
    "reversed_before_decided": Rule("warn", "verdicts reversed before decided", SHARE_FAILS),
    "complaint_before_listing": Rule(
        "warn", "complaints about listings that did not exist yet", SHARE_FAILS
    ),
    "in_the_future": Rule("warn", "times in the future", SHARE_FAILS),
    "no_time": Rule("warn", "labelled records without a time: the hold-out is by seller alone"),
    "split_not_apart": Rule(
        "fail", "a seller, or a moment, is both in the training part and in the hold-out"
    ),
}
"""Every code a finding can have."""
