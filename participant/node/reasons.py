"""Every reason a member may have for not taking part in a run, and how much of it is told.

The list is closed: a rule that refuses for a reason not listed here is a bug. The exact reason is
for this member's own people and audit log. The coordinator is told a code as well, so that its
operator can act on it, but never one that says something about this member's records: those are
told as one coarse code (docs: threat model, What a refusal tells).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.errors import InternalError, PolicyRefused
from shared.fleet.refusals import APPROVAL_PENDING, DATA_NOT_READY, OUTSIDE_HOURS, UNEXPLAINED


@dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
        text: what it means.
        remedy: what this member's person can do about it; empty where only others can.
        told: the code that the coordinator is told; empty stands for the reason's own.
    """

    text: str
    remedy: str = ""
    told: str = ""


REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "purpose_not_allowed": Reason(
            "the policy does not allow this purpose",
            "`policy set allowed_purposes`, if the purpose is one you agree to",
        ),
        "roster_not_accepted": Reason(
            "the run's roster is not the one accepted here",
            "`peers accept`, after looking at who has joined or left",
        ),
        "roster_mismatch": Reason("the run lists a member the roster does not know"),
        "not_listed": Reason("the run does not list this member"),
        "manifest_changed": Reason(
            "this node has already seen another manifest under the same run id"
        ),
        "too_many_runs": Reason("too many runs are open at once", "wait until some have expired"),
        "too_few_known_peers": Reason(
            "too few of the listed members are pinned here",
            "call more peers, compare `peers phrase` and `peers pin` them",
        ),
        "cohort_too_small": Reason(
            "the run would sum fewer members than the policy allows, or so few that colluders "
            "could subtract themselves and see one member",
            "ask the operator for a larger `--n-min`, or lower `min_cohort` knowingly",
        ),
        "colluder_bound": Reason(
            "the run assumes fewer colluders than the policy does",
            "ask the operator for a larger `--max-colluders`, or lower `max_colluders` knowingly",
        ),
        "unsound_threshold": Reason("the run's threshold does not protect against two sets"),
        "too_few_drawn": Reason(
            "fewer than three quarters of the roster take part in drawing the groups",
            "ask the operator to draw when more members are connected",
        ),
        "group_size": Reason(
            "the groups of the run are smaller than those that keep the promise, or too large"
        ),
        "groups_not_drawn": Reason(
            "the run's groups are not the ones that this member took part in drawing",
            "ask the operator: a node takes part in a drawing while it is connected",
        ),
        "feature_space": Reason(
            "the run uses a feature space this software does not have",
            "install the version of touchstone that the others use",
        ),
        "schema_version": Reason(
            "the run uses another version of the record schema",
            "install the version of touchstone that the others use",
        ),
        "privacy_floor": Reason(
            "the run protects single records less than the policy wants: not at all, or by a "
            "larger epsilon or delta",
            "ask the operator for a smaller `--dp-epsilon`, or change `require_record_dp`, "
            "`max_run_epsilon` or `privacy_delta` knowingly",
        ),
        "privacy_terms": Reason(
            "the run's noise does not give the privacy that its manifest states, or its model is "
            "not the one that noise is made for",
        ),
        "privacy_budget": Reason(
            "with this run, what this member has spent of its privacy would exceed the budget",
            "`privacy ledger` shows where it went; raise `privacy_budget` knowingly",
        ),
        "too_few_rows": Reason(
            "too few labelled rows to train on",
            "import verdicts or complaints, or lower `min_training_rows`",
            told=DATA_NOT_READY,
        ),
        "too_few_of_a_class": Reason(
            "too few rows of one class to train on",
            "import records of the rarer class, or lower `min_class_rows`",
            told=DATA_NOT_READY,
        ),
        "data_contract": Reason(
            "the records do not keep the data contract",
            "`data check` names what is wrong; correct the mapping and import again",
            told=DATA_NOT_READY,
        ),
        "epsilon_budget": Reason(
            "the evaluation noise of this run exceeds the budget",
            "ask for fewer evaluations, or raise `evaluation_epsilon_budget` knowingly",
        ),
        "evaluation_epsilon": Reason(
            "the noise of one evaluation is less than the policy wants",
            "ask the operator for a smaller `--evaluation-epsilon`, or raise "
            "`max_evaluation_epsilon` knowingly",
        ),
        "run_too_long": Reason(
            "the run could ask for something longer than the policy allows",
            "ask the operator for a smaller `--expires-hours`, or raise `max_run_days`",
        ),
        APPROVAL_PENDING: Reason(
            "a person here has not yet approved the run", "`run approve` or `run refuse`"
        ),
        "refused_by_person": Reason(
            "a person here refused the run", "`run approve`, should the person think better of it"
        ),
        OUTSIDE_HOURS: Reason(
            "the policy does not allow training at this hour", "wait, or change `hours`"
        ),
        "secagg_terms": Reason("the session's or the round's terms are weaker than the policy"),
        "round_already_released": Reason("the member already gave a share for this round"),
    }
)


def refusal(reason: str) -> PolicyRefused:
    """Return the refusal of a run for a listed reason.

    Raises:
        InternalError: the reason is not listed.
    """
    if reason not in REASONS:
        raise InternalError(f"the reason {reason!r} is not in the list of reasons")
    found = REASONS[reason]
    hint = found.remedy or "`touchstone-participant run explain` shows every rule"
    return PolicyRefused(reason, found.text, hint=hint)


def told_to_coordinator(reason: str) -> str:
    """Return the code that leaves this member in place of ``reason``.

    What nobody has judged harmless is told as :data:`UNEXPLAINED`.
    """
    if reason not in REASONS:
        return UNEXPLAINED
    return REASONS[reason].told or reason
