"""Sentences and rows that the terminal and the report share, so that both say the same."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from participant.deployment.texts import explain
from simulations.demo.figures import CAPACITY, MemberFigures, Recall, new_tactic_recall
from simulations.demo.run import Story
from simulations.demo.scenario import Played
from simulations.demo.shops import ShopFigures, ShopOutcome

LISTING_HEADER = (
    "member", "fresh", "fakes", "PR-AUC local", "federated", "P@100 local", "federated",
    "recall at P ≥ .90 local", "federated", "new tactics local", "federated", "runs now",
)  # fmt: skip

SHOP_HEADER = (
    "deal", "member", "shops", "tests", "fraudulent", "local-only", "federated", "pooled",
    "runs now",
)  # fmt: skip

_ALLIANCE = {"pr_auc": "PR-AUC", "roc_auc": "ROC-AUC", "ece": "calibration error", "loss": "loss"}


def listing_rows(figures: Sequence[MemberFigures]) -> list[tuple[str, ...]]:
    """Return one row a member, then mean and worst member."""
    rows = [
        (
            one.name, str(one.rows), str(one.counterfeit),
            f"{one.local.pr_auc:.3f}", f"{one.federated.pr_auc:.3f}",
            f"{one.local.precision:.2f}", f"{one.federated.precision:.2f}",
            f"{one.local.recall:.2f}", f"{one.federated.recall:.2f}",
            f"{one.local.new_found} of {one.new_cases}",
            f"{one.federated.new_found} of {one.new_cases}",
            _runs(federated=one.runs_federated),
        )
        for one in figures
    ]  # fmt: skip
    for name, pick in (("mean", fmean), ("worst member", min)):
        values = [
            pick(getattr(getattr(one, model), metric) for one in figures)
            for metric in ("pr_auc", "precision", "recall")
            for model in ("local", "federated")
        ]
        digits = (3, 3, 2, 2, 2, 2)
        cells = [f"{value:.{places}f}" for value, places in zip(values, digits, strict=True)]
        rows.append((name, "", "", *cells, "", "", ""))
    return rows


def shop_rows(outcome: ShopOutcome) -> list[tuple[str, ...]]:
    """Return one row a member and deal, also those that cannot be judged."""
    return [
        (
            str(one.seed + 1), one.name, str(one.train_rows), str(one.test_rows),
            str(one.test_fraudulent), _auc(one.local), _auc(one.federated), _auc(one.pooled),
            _runs(federated=one.runs_federated),
        )
        for one in outcome.figures
    ]  # fmt: skip


def shop_summary(outcome: ShopOutcome) -> list[tuple[str, ...]]:
    """Return mean over members and deals, each deal's mean, and the worst member."""
    models = ("local", "federated", "pooled")
    rows = [("mean", *(f"{outcome.mean(model):.3f}" for model in models))]
    for seed in outcome.seeds:
        cells = (f"{outcome.seed_mean(model, seed):.3f}" for model in models)
        rows.append((f"deal {seed + 1}", *cells))
    rows.append(("worst member", *(f"{outcome.worst(model):.3f}" for model in models)))
    return rows


def shop_remarks(outcome: ShopOutcome) -> list[str]:
    """Return what has to be said beside the figures."""
    left_out = len(outcome.figures) - len(outcome.judged)
    return [
        f"{left_out} of {len(outcome.figures)} test parts lack one class and are left out of every "
        "mean; their rows show a dash.",
        "Pooled is the same fit on everybody's shops in one place. Nobody could make it without "
        "seeing everybody's data; it is here as the bar.",
        *_unflattering(outcome.judged, "local", "federated"),
        *_decisions(outcome.figures),
    ]


def listing_remarks(figures: Sequence[MemberFigures]) -> list[str]:
    """Return the unflattering rows and the nodes' decisions in words."""
    worse = [one.name for one in figures if one.federated.pr_auc < one.local.pr_auc]
    remarks = (
        [f"For {', '.join(worse)} the member's own model has the better PR-AUC on fresh listings."]
        if worse
        else ["No member's own model has the better PR-AUC on fresh listings."]
    )
    fewest = min(one.counterfeit for one in figures)
    if fewest < CAPACITY:
        remarks.append(
            f"P@100 cannot reach 1 where there are fewer than {CAPACITY} fakes: with {fewest} it "
            f"is at most {fewest / CAPACITY:.2f}."
        )
    return [*remarks, *_decisions(figures)]


def _unflattering(figures: Sequence[ShopFigures], local: str, federated: str) -> list[str]:
    worse = [
        f"{one.name} in deal {one.seed + 1}"
        for one in figures
        if getattr(one, federated) < getattr(one, local)
    ]
    return [f"Local-only is better for {', '.join(worse)}."] if worse else []


def _decisions(figures: Sequence[MemberFigures] | Sequence[ShopFigures]) -> list[str]:
    """Return one sentence for the nodes that did not activate the alliance's model, with why."""
    kept: dict[str, list[str]] = {}
    for one in figures:
        if not one.runs_federated:
            deal = f" (deal {one.seed + 1})" if isinstance(one, ShopFigures) else ""
            kept.setdefault(one.reason, []).append(one.name + deal)
    if not kept:
        return ["Every node judged the release on its own hold-out and runs it."]
    return [
        f"{', '.join(names)} keeps its own model: {explain(reason)}."
        for reason, names in kept.items()
    ]


def recall_sentence(figures: Sequence[MemberFigures]) -> str:
    """Return the new-tactic recall of both models with cases and intervals."""
    local, federated = new_tactic_recall(figures)
    return (
        f"Counterfeits of tactics new to their member but known to another one in training: "
        f"{local.cases} cases. At 2 % false positives local-only finds {_recall(local)}, "
        f"federated {_recall(federated)}. So few cases of one world show what is meant, and prove "
        "nothing: a claim needs many worlds and controls."
    )


def run_remarks(played: Played) -> list[str]:
    """Return the course of the run in sentences."""
    story = played.story
    sentences = [
        f"{story.killed} was killed with SIGKILL in round {story.killed_in_round}. "
        f"{_absence(story)} Back, from what it had on its disk, it took part in "
        f"{_rounds(story.rejoined)}.",
        f"{len(story.summed)} rounds summed, {len(story.rounds)} attempts; each member sent "
        f"{played.bytes_up / 1e6:.2f} MB a round for {played.spec.n_params:,} parameters.",
    ]
    if not played.evaluation_tells:
        # What would be shown is noise with decimals.
        return [
            *sentences,
            "The secure evaluation says nothing here: every hold-out is below the size under which "
            "a node sends noise alone.",
        ]
    for item in story.evaluated:
        metrics = item.metrics
        figures = [
            f"{label} {metrics[name]:.3f}" for name, label in _ALLIANCE.items() if name in metrics
        ]
        sentences.append(
            f"Secure evaluation in round {item.round}, of the model that came into it, over all "
            f"hold-outs together, with the members' noise: {', '.join(figures) or 'no figure'}."
        )
    return sentences


def saw(played: Played) -> list[str]:
    """Return what the coordinator holds after the run."""
    held = [
        f"{item.purpose}: {item.files} {'file' if item.files == 1 else 'files'}, {_size(item.size)}"
        for item in played.exposure.holdings
    ]
    return [
        "Who is a member, who took part in which round and when, how many bytes each round took.",
        "The sum of the updates, round by round, and what follows from it: the alliance's model "
        "and alliance-wide figures with noise. What only one member has, such as a rare word, "
        "moves the sum as well, though without a name on it.",
        *held,
    ]


def did_not_see(played: Played) -> list[str]:
    """Return what was looked for in the coordinator's folder and not found."""
    found = played.exposure
    return [
        f"{found.texts:,} texts of members (ids, titles, descriptions, sellers, complaints, hosts, "
        f"addresses), looked for byte by byte in {found.searched_bytes / 1e6:.0f} MB of files and "
        "database: none found. The same search does find the alliance's name.",
        f"{found.model_pieces:,} pieces of the members' own models: none found.",
        f"{found.counts} numbers of records and verdicts of single members: none found in the "
        "database or the logs.",
        f"Vectors as long as an update: {', '.join(found.vectors)}. Each is a model of the "
        f"alliance or the database; its largest value has {found.largest_value:,} bytes, an update "
        f"{4 * played.spec.n_params:,}.",
        "What a disk cannot show: that only masked vectors crossed the wire. The tests of the "
        "secure sum show that.",
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _recall(recall: Recall) -> str:
    low, high = recall.interval
    return f"{recall.found} ({recall.share:.2f}, 95 % interval {low:.2f} to {high:.2f})"


def _absence(story: Story) -> str:
    if story.missed:
        return f"The others went on: {_rounds(story.missed)} summed without it."
    return "The round waited for it."


def _rounds(numbers: Sequence[int]) -> str:
    if not numbers:
        return "no round"
    return f"{'round' if len(numbers) == 1 else 'rounds'} {', '.join(map(str, numbers))}"


def _runs(*, federated: bool) -> str:
    return "alliance's" if federated else "its own"


def _auc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
