"""The outcome as text on stdout."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from shared.console import out
from simulations.demo import prose
from simulations.demo.listings import COLLUDERS, ListingOutcome
from simulations.demo.scenario import Played
from simulations.demo.shops import ShopOutcome

WIDTH = 100


def tell_listings(outcome: ListingOutcome, seconds: Mapping[str, float]) -> None:
    """Print everything about the demonstration on the synthetic world."""
    _heading("Local-only against federated, on fresh listings")
    _table(prose.LISTING_HEADER, prose.listing_rows(outcome.figures))
    _points(prose.listing_remarks(outcome.figures))
    _heading("New tactics: does knowledge travel?")
    _points([prose.recall_sentence(outcome.figures)])
    _run(outcome.played, seconds)
    _points([
        f"In this alliance of five {COLLUDERS} of the others may side with the coordinator, the "
        "default; its members knowingly accept sums of 4, one less than a policy's default."
    ])  # fmt: skip
    _heading(f"The ten riskiest fresh listings of {outcome.suspects_of}")
    for place, one in enumerate(outcome.suspects, 1):
        truth = "counterfeit" if one.counterfeit else "genuine"
        _print(f"{place:>2}. risk {one.risk:5.1f}  {one.band:<7} {one.title}  (truth: {truth})")
        for reason in one.reasons:
            _print(f"      · {reason}")


def tell_shops(outcome: ShopOutcome, seconds: Mapping[str, float]) -> None:
    """Print everything about the demonstration on real shops."""
    _heading("ROC-AUC on each member's own test shops")
    _table(prose.SHOP_HEADER, prose.shop_rows(outcome))
    _heading(f"Mean over members and {len(outcome.seeds)} deals")
    _table(("", "local-only", "federated", "pooled"), prose.shop_summary(outcome))
    _points(prose.shop_remarks(outcome))
    _run(outcome.played[0], seconds)


def _run(played: Played, seconds: Mapping[str, float]) -> None:
    _heading("The run")
    _points(prose.run_remarks(played))
    _heading("What the coordinator saw")
    _points(prose.saw(played))
    _heading("What it did not see")
    _points(prose.did_not_see(played))
    _heading("Seconds")
    _table(("phase", "seconds"), [(name, f"{took:.1f}") for name, took in seconds.items()])


def _heading(text: str) -> None:
    _print(f"\n{text}\n{'─' * len(text)}")


def _points(lines: Iterable[str]) -> None:
    for line in lines:
        _print(textwrap.fill(line, WIDTH, initial_indent="· ", subsequent_indent="  "))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their longest word; headers wrap, numbers stand to the right."""
    heads = [textwrap.wrap(cell, 10) or [""] for cell in header]
    height = max(map(len, heads))
    above = [[head[line] if line < len(head) else "" for head in heads] for line in range(height)]
    widths = [max(len(row[at]) for row in (*above, *rows)) for at in range(len(header))]
    for row in (*above, *rows):
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        _print("  ".join(cells).rstrip())


def _print(text: str) -> None:
    out.print(text, markup=False)
