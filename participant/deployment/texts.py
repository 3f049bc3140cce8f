"""What a decision about a model means, in words for the analyst."""

from __future__ import annotations

from typing import Any

from participant.deployment.acceptance import MIN_ROWS, RIVAL_WINS, Reason

_REASONS: dict[str, str] = {
    Reason.NOT_WORSE: "on your own hold-out, neither what ran before nor your own model is better",
    Reason.RUNNING_IS_BETTER: "what runs now is better on your own hold-out",
    Reason.LOCAL_IS_BETTER: "your own local-only model is better on your own hold-out",
    Reason.HOLDOUT_TOO_SMALL: (
        f"your hold-out has fewer than {MIN_ROWS} labelled rows and cannot tell, so nothing changes"
    ),
    Reason.HOLDOUT_ONE_CLASS: "your hold-out is of one class and cannot tell, so nothing changes",
    Reason.OTHER_KIND: "it scores another kind of record than the model that runs",
    Reason.FIRST_MODEL: (
        "nothing ran before, and your hold-out is too small or of one class to judge it"
    ),
    Reason.OPERATOR: "you asked for it",
    Reason.ALREADY_ACTIVE: "it runs already",
}


def explain(reason: str) -> str:
    """Return a reason code in words; a code of a newer version as it is."""
    return _REASONS.get(reason, reason)


def comparison(figures: dict[str, Any]) -> list[str]:
    """Return the figures of a decision as lines of text."""
    if figures.get("pr_auc") is None:
        rows, positives = figures.get("rows", 0), figures.get("positives", 0)
        return [f"hold-out: {rows} rows, {positives} counterfeit: too little to compare models"]
    lines = [
        f"hold-out: {figures['rows']} rows, {figures['positives']} counterfeit",
        f"release    PR-AUC {figures['pr_auc']:.3f}",
    ]
    for name, rival in figures["rivals"].items():
        lines.append(
            f"{name:<10} PR-AUC {rival['pr_auc']:.3f}, difference {rival['difference']:+.3f} "
            f"(90 % interval {rival['low']:+.3f} to {rival['high']:+.3f}), "
            f"better in {rival['rival_wins']:.0%} of resamples"
        )
    lines.append(f"a rival counts as better from {RIVAL_WINS:.0%} on")
    return lines
