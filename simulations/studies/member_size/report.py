"""The study's tables as Markdown, and its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from simulations.studies.member_size.figures import Interval, Row, forgone, harm, head_gains, rows
from simulations.studies.member_size.measure import Outcome

TITLES = {
    "world": "synthetic world, listings",
    "shops": "real online shops",
    "messages": "real messages",
}
METRICS = {"world": ("pr_auc",), "shops": ("pr_auc", "roc_auc"), "messages": ("pr_auc",)}
NAMES = {"pr_auc": "PR-AUC", "roc_auc": "ROC-AUC"}
_COLOURS = {
    "local": "#9a6700",
    "federated": "#0969da",
    "personalised": "#8250df",
    "pooled": "#57606a",
}
_MARKS = {"local": "o", "federated": "D", "personalised": "^", "pooled": "s"}


def tables(outcomes: Sequence[Outcome]) -> str:
    """Return every table and the count of who was left worse off."""
    blocks = []
    for source, title in TITLES.items():
        mine = [one for one in outcomes if one.source == source]
        if not mine:
            continue
        seeds = sorted({one.seed for one in mine})
        for metric in METRICS[source]:
            head = f"**{NAMES[metric]}, {title}, seeds {', '.join(map(str, seeds))}**"
            blocks.append(f"{head}\n\n{_table(rows(mine, metric))}")
            blocks.append(_lenient(rows(mine, metric)))
        blocks += [_heads(mine), _forgone(mine), _harm(mine)]
    return "\n\n".join(blocks) + "\n"


def _table(found: Sequence[Row]) -> str:
    head = (
        "| rows | members | local-only | federated | + personalised | pooled | what runs "
        "| gain over local-only | heads | keep local | hold-out cannot tell |"
    )
    lines = [head, "|" + "---|" * 11]
    for row in found:
        names = ("local", "federated", "personalised", "pooled", "runs")
        cells = [f"{row.size:,}", str(row.members)]
        cells += [_cell(row.figures[name]) for name in names]
        cells += [_cell(row.gain, "+"), str(row.heads), str(row.local), str(row.unjudged)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _lenient(found: Sequence[Row]) -> str:
    cells = [f"{row.size:,} rows {_cell(row.figures['lenient'])}" for row in found]
    return f"What would run with `accept_below_local = true`: {'; '.join(cells)}."


def _cell(one: Interval, sign: str = "") -> str:
    return f"{one.mean:{sign}.3f} ({one.low:{sign}.3f} to {one.high:{sign}.3f})"


def _heads(outcomes: Sequence[Outcome]) -> str:
    gains = head_gains(outcomes)
    if not gains:
        return "Personal heads: none helped on the hold-out."
    worse = sum(gain < 0 for gain in gains)
    return (
        f"Personal heads: {len(gains)} helped on the hold-out; on the test part they change the "
        f"release's PR-AUC by {_cell(Interval.of(gains), '+')} and make it worse for {worse}."
    )


def _forgone(outcomes: Sequence[Outcome]) -> str:
    lost = forgone(outcomes)
    if not lost:
        return "Nobody keeps a local-only model."
    better = sum(gain > 0 for gain in lost)
    return (
        f"{len(lost)} keep their local-only model; for {better} of them the release would have "
        f"been better on the test part, by {min(lost):+.3f} to {max(lost):+.3f} over all of them."
    )


def _harm(outcomes: Sequence[Outcome]) -> str:
    found = harm(outcomes)
    lines = [
        f"Hold-out: of {found.judged} members whose hold-out can tell, {len(found.on_holdout)} run "
        "a model with a lower hold-out PR-AUC than their local-only model.",
        f"Test part: of {found.tested} members that run the release, for {len(found.on_test)} "
        "it is significantly worse than their local-only model (95 % bootstrap interval wholly "
        f"below 0). If it were equally good, {found.expected_false_alarms:.1f} would be expected "
        "by chance. With all of these tests in view (Holm, the same 95 %) it is "
        f"{len(found.together)}.",
    ]
    for one in found.on_holdout:
        lines.append(
            f"- worse on the hold-out by {-(one.holdout_difference or 0):.3f}: {_who(one)}"
        )
    for one in found.on_test:
        lines.append(
            f"- worse on the test part, difference {one.test_low:+.3f} to {one.test_high:+.3f}: "
            f"{_who(one)}"
        )
    return "\n".join(lines)


def _who(one: Outcome) -> str:
    return (
        f"{one.name}, seed {one.seed}, {one.size:,} rows "
        f"(hold-out {one.holdout[0]} rows, {one.holdout[1]} positive; {one.reason}, {one.head})"
    )


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write PR-AUC by member size as SVG: one panel a source, a line a model."""
    sources = [name for name in TITLES if any(one.source == name for one in outcomes)]
    style = {"svg.fonttype": "none", "svg.hashsalt": "touchstone", "font.size": 10.0}
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.6 * len(sources), 3.6), layout="constrained")
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, source in zip(panels, sources, strict=True):
            found = rows([one for one in outcomes if one.source == source], "pr_auc")
            for name, colour in _COLOURS.items():
                low, mean, high = zip(
                    *(
                        (r.figures[name].low, r.figures[name].mean, r.figures[name].high)
                        for r in found
                    ),
                    strict=True,
                )
                sizes = [row.size for row in found]
                axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)
                axes.plot(sizes, mean, color=colour, marker=_MARKS[name], label=name)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
            axes.minorticks_off()
            axes.set_xlabel("labelled rows of the member")
            axes.set_title(TITLES[source], loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("PR-AUC on the test part")
        panels[0].legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})
