"""What a decision about a model means, in words for the analyst."""

from __future__ import annotations

from typing import Any

from participant.deployment.acceptance import LOCAL_UNSEEN, HeadReason, Reason

_REASONS: dict[str, str] = {
    Reason.NOT_WORSE: "on your own records, neither what ran before nor your own model is better",
    Reason.RUNNING_IS_BETTER: "what runs now is better on your own hold-out",
    Reason.LOCAL_IS_BETTER: "your own local-only model is better on your own hold-out",
    Reason.NOT_SHOWN: (
        "your own hold-out and calibration part do not show it better than your local-only model"
    ),
    Reason.HOLDOUT_TOO_SMALL: (
        "your hold-out has too few labelled rows and cannot tell: nothing changes until it has "
        "more, or you `model activate` it"
    ),
    Reason.HOLDOUT_ONE_CLASS: (
        "your hold-out has too few rows of one class and cannot tell: nothing changes until it "
        "has more, or you `model activate` it"
    ),
    Reason.OTHER_KIND: "it scores another kind of record than the model that runs",
    Reason.FIRST_MODEL: (
        "nothing ran before, and your hold-out has too few rows, or of one class, to judge it"
    ),
    Reason.OPERATOR: "you asked for it",
    Reason.ALREADY_ACTIVE: "it runs already",
    Reason.REPAIRED: "it runs already, and what was damaged or gone of it is whole again",
    Reason.ALREADY_JUDGED: "it was judged here before, and a release is judged once",
    Reason.PINNED: "what runs is pinned, so no release activates by itself",
}

_HEAD_REASONS: dict[str, str] = {
    HeadReason.HELPS: "used: better than the bare release on your own hold-out",
    HeadReason.NOT_BETTER: "not used: not clearly better than the bare release on your hold-out",
    HeadReason.NOT_FITTED: (
        "not used: your records are too few, or the calibration part prefers the bare release"
    ),
    HeadReason.CANNOT_TELL: "not used: your hold-out is too small to tell whether it helps",
    HeadReason.OFF: "not tried",
}

_NAMES = {LOCAL_UNSEEN: "local, with calibration part"}


def explain(reason: str) -> str:
    """Return a reason code in words; a code of a newer version as it is."""
    return _REASONS.get(reason) or _HEAD_REASONS.get(reason, reason)


def comparison(figures: dict[str, Any]) -> list[str]:
    """Return the figures of a decision as lines of text."""
    head = _head(figures.get("head", {}))
    if figures.get("pr_auc") is None:
        rows, positives = figures.get("rows", 0), figures.get("positives", 0)
        few = f"hold-out: {rows} rows, {positives} counterfeit: too little to compare models"
        return [few, *head]
    lines = [
        f"hold-out: {figures['rows']} rows, {figures['positives']} counterfeit",
        f"release    PR-AUC {figures['pr_auc']:.3f}",
    ]
    for name, rival in figures["rivals"].items():
        lines.append(
            f"{_NAMES.get(name, name):<10} PR-AUC {rival['pr_auc']:.3f}, {_difference(rival)}, "
            f"better in {rival['rival_wins']:.0%} of resamples"
        )
    if would := figures.get("unpinned"):
        verb = "activate" if would["accept"] else "keep"
        lines.append(f"without the pin the rule would {verb}: {explain(would['reason'])}")
    return lines + head


def _head(head: dict[str, Any]) -> list[str]:
    if not head:
        return []
    lines = [f"personal head {explain(head['reason'])}"]
    if bare := head["bare"]:
        lines.append(
            f"bare       PR-AUC {bare['pr_auc']:.3f}, {_difference(bare)}, "
            f"head ({head['setting']}) better in {bare['wins']:.0%} of resamples"
        )
    return lines


def _difference(duel: dict[str, float]) -> str:
    return (
        f"difference {duel['difference']:+.3f} "
        f"(90 % interval {duel['low']:+.3f} to {duel['high']:+.3f})"
    )
