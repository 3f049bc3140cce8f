"""What `model list`, `model show` and `model verify` print for a person."""

from __future__ import annotations

from typing import Any

from shared.console import out, say

_OWN_LINES = ("decisions", "alliance_metrics", "kept_back")


def print_models(rows: list[dict[str, Any]]) -> None:
    """Print the table of models, each with the last decision about it."""
    if not rows:
        say("no model is here yet: a completed run ends in a release, which `up` deploys")
        return
    lines = [("number", "release", "kind", "status", "why")]
    for row in rows:
        number = str(row["sequence"]) if row["sequence"] else "–"
        status = [row["status"]]
        status += ["active"] * (row["active"] and row["status"] != "active")
        status += ["pinned"] * row["pinned"] + ["with a personal head"] * bool(row["head"])
        why = "" if row["why"] is None else f"{row['why']['action']}: {row['why']['reason']}"
        lines.append((number, row["release_id"], row["kind"], ", ".join(status), why))
    # Not a table that is cut to the terminal's width: half an id is of no use.
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)]
        out.print("  ".join(cells).rstrip(), markup=False)


def print_model(data: dict[str, Any]) -> None:
    """Print one model, the decisions about it and the newer releases that were kept back."""
    from participant.deployment.texts import comparison, explain

    for name, value in data.items():
        if name not in _OWN_LINES:
            out.print(f"{name:<20}{'–' if value is None else value}", markup=False)
    for name, value in data.get("alliance_metrics", {}).items():
        out.print(f"alliance {name:<11}{value}", markup=False)
    for one in data["decisions"]:
        out.print(f"{one['at']}  {one['action']}: {explain(one['reason'])}", markup=False)
        for line in comparison(one["metrics"]):
            out.print(f"    {line}", markup=False)
    for one in data.get("kept_back", []):
        text = f"kept back: number {one['sequence']}, {one['release_id']}: {explain(one['reason'])}"
        out.print(text, markup=False)


def verified_text(data: dict[str, Any]) -> str:
    """Return what `model verify` says."""
    transcript = data["transcript"].replace("_", " ")
    age = "newer than all" if data["newer"] else "no newer than what"
    return (
        f"verified: release number {data['sequence']}, {data['release_id']}; "
        f"transcript {transcript}; {age} ran here"
    )
