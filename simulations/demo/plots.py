"""Figures as SVG text whose colours are CSS variables, so that one file serves light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.demo.figures import MemberFigures, Recall
from simulations.demo.run import Story
from simulations.demo.shops import ShopOutcome

# Stand-ins that occur nowhere else; `_svg` turns each into the variable of that name.
INK, MUTED, GRID = "#0f0f01", "#0f0f02", "#0f0f03"
LOCAL, FEDERATED, POOLED, ALARM, PAGE = "#0f0f04", "#0f0f05", "#0f0f06", "#0f0f07", "#0f0f08"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", LOCAL: "local", FEDERATED: "federated",
    POOLED: "pooled", ALARM: "alarm", PAGE: "page",
}  # fmt: skip

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "grid.color": GRID,
    "legend.frameon": False,
}

_MARKERS = {LOCAL: "o", FEDERATED: "D", POOLED: "s"}
"""A shape for each colour, so that nobody has to tell them apart by colour alone."""


def comparison(figures: Sequence[MemberFigures]) -> Markup:
    """Return local-only beside federated, a row a member: PR-AUC and precision@100."""
    names = [one.name for one in figures]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.5 * len(names) + 1.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        pairs = [(one.local.pr_auc, one.federated.pr_auc) for one in figures]
        _dumbbells(left, names, pairs, "PR-AUC on fresh listings")
        pairs = [(one.local.precision, one.federated.precision) for one in figures]
        _dumbbells(right, names, pairs, "Precision among the 100 riskiest")
        _legend(figure, left)
        label = "PR-AUC and precision at 100 of each member, local-only and federated"
        return _svg(figure, "comparison", label)


def new_tactics(local: Recall, federated: Recall) -> Markup:
    """Return the recall on new tactics of both models with its 95 % interval."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.6), layout="constrained")
        axes = figure.subplots()
        rows = (("federated", federated, FEDERATED), ("local-only", local, LOCAL))
        for row, (_, recall, colour) in enumerate(rows):
            low, high = recall.interval
            axes.plot((low, high), (row, row), color=colour, linewidth=3, solid_capstyle="round")
            axes.plot(recall.share, row, _MARKERS[colour], color=colour, markersize=9)
            axes.annotate(
                f"{recall.share:.2f}", (recall.share, row), (0, 8), textcoords="offset points",
                ha="center",
            )  # fmt: skip
        axes.set_yticks(range(2), [name for name, _, _ in rows])
        axes.set_ylim(-0.6, 1.7)
        axes.set_xlim(0, 1)
        axes.grid(axis="x")
        axes.set_xlabel(f"recall at 2 % false positives, {local.cases} cases, 95 % Wilson interval")
        return _svg(figure, "new-tactics", "Recall on new tactics, local-only and federated")


def timeline(story: Story, names: dict[int, str]) -> Markup:
    """Return every summed round over time, a row a member, with the kill and the return."""
    start = story.rounds[0].started_at
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.36 * len(names) + 1.6), layout="constrained")
        axes = figure.subplots()
        rows = {index: row for row, index in enumerate(sorted(names))}
        for item in story.summed:
            if item.ended_at is None:
                continue
            began, ended = _since(item.started_at, start), _since(item.ended_at, start)
            for index, row in rows.items():
                summed = index in item.survivors
                axes.barh(
                    row, ended - began, left=began, height=0.6, linewidth=0.8,
                    color=FEDERATED if summed else "none", edgecolor=GRID if summed else ALARM,
                )  # fmt: skip
            axes.annotate(str(item.round), ((began + ended) / 2, -0.75), ha="center", color=MUTED)
        _mark(axes, story, rows.get(story.killed_index, 0), len(rows) - 0.25, start)
        axes.set_yticks(list(rows.values()), [names[index] for index in rows])
        axes.set_ylim(len(rows) + 0.1, -1.2)
        axes.set_xlabel("seconds since the first round began; rounds are numbered above")
        label = f"Rounds over time; {story.killed} is killed and comes back"
        return _svg(figure, "timeline", label)


def shop_comparison(outcome: ShopOutcome) -> Markup:
    """Return ROC-AUC of each judgeable member in each deal, for the three ways to train."""
    judged = sorted(outcome.judged, key=lambda one: (one.seed, one.name))
    names = [f"{one.name} · deal {one.seed + 1}" for one in judged]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.3 * len(names) + 1.5), layout="constrained")
        axes = figure.subplots()
        triples = [(one.local, one.federated, one.pooled) for one in judged]
        # All lie close to 1: the axis begins a tenth below the lowest, and says so.
        begin = max(0.0, math.floor(10 * min(map(min, triples)) - 0.5) / 10)
        title = f"ROC-AUC on each member's own test shops (the axis begins at {begin:.1f})"
        _dumbbells(axes, names, triples, title, begin)
        _legend(figure, axes)
        label = "ROC-AUC of each member and deal, local-only, federated and pooled"
        return _svg(figure, "shops", label)


def _dumbbells(
    axes: Axes, names: Sequence[str], values: Sequence[Any], title: str, begin: float = 0.0
) -> None:
    colours = ((LOCAL, "local-only"), (FEDERATED, "federated"), (POOLED, "pooled"))
    for row, group in enumerate(values):
        axes.plot((min(group), max(group)), (row, row), color=GRID, linewidth=2, zorder=1)
        for value, (colour, name) in zip(group, colours, strict=False):
            axes.plot(
                value, row, _MARKERS[colour], color=colour, markersize=8,
                label=name if row == 0 else None, zorder=2,
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(begin, 1 + 0.02 * (1 - begin))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_title(title)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))


def _mark(axes: Axes, story: Story, row: int, below: float, start: datetime) -> None:
    """Cut the time the killed member was away out of its row, and name both ends below."""
    if story.killed_at is None or story.back_at is None:
        return
    killed, back = _since(story.killed_at, start), _since(story.back_at, start)
    axes.barh(row, back - killed, left=killed, height=0.62, color=PAGE, edgecolor=ALARM, zorder=3)
    for at, text, side in ((killed, "kill -9", "right"), (back, "started again", "left")):
        axes.axvline(at, color=ALARM, linewidth=1, linestyle=(0, (3, 2)), zorder=4)
        offset = -4 if side == "right" else 4
        axes.annotate(
            text, (at, below), (offset, 0), textcoords="offset points", color=ALARM, ha=side,
            va="center", fontweight="bold",
        )  # fmt: skip


def _since(moment: datetime, start: datetime) -> float:
    return (moment - start).total_seconds()


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an SVG element without metadata, its ids unique to ``name``."""
    sink = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(id="|url\(#|xlink:href="#|href="#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    return Markup(text)  # noqa: S704 - matplotlib escapes the texts it is given
