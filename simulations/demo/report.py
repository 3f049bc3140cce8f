"""The outcome as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.clock import SystemClock, rfc3339
from shared.files import write_atomic
from simulations.demo import plots, prose
from simulations.demo.figures import new_tactic_recall
from simulations.demo.listings import COLLUDERS, ListingOutcome
from simulations.demo.scenario import Played
from simulations.demo.shops import TARGET, ShopOutcome


def write_listings(path: Path, outcome: ListingOutcome, seconds: Mapping[str, float]) -> None:
    """Write the report on the synthetic world; raises :class:`StorageError`."""
    local, federated = new_tactic_recall(outcome.figures)
    rows = prose.listing_rows(outcome.figures)
    _write(
        path,
        "listings.html.j2",
        _common(outcome.played, seconds)
        | {
            "header": prose.LISTING_HEADER,
            "rows": rows,
            "mean": rows[-2],
            "worst": rows[-1],
            "comparison": plots.comparison(outcome.figures),
            "remarks": prose.listing_remarks(outcome.figures),
            "new_tactics": plots.new_tactics(local, federated),
            "recall": prose.recall_sentence(outcome.figures),
            "local_recall": local,
            "federated_recall": federated,
            "colluders": COLLUDERS,
            "suspects_of": outcome.suspects_of,
            "suspects": outcome.suspects,
        },
    )


def write_shops(path: Path, outcome: ShopOutcome, seconds: Mapping[str, float]) -> None:
    """Write the report on real shops; raises :class:`StorageError`."""
    _write(
        path,
        "shops.html.j2",
        _common(outcome.played[0], seconds)
        | {
            "header": prose.SHOP_HEADER,
            "rows": prose.shop_rows(outcome),
            "summary": prose.shop_summary(outcome),
            "means": {name: outcome.mean(name) for name in ("local", "federated", "pooled")},
            "target": TARGET,
            "comparison": plots.shop_comparison(outcome),
            "remarks": prose.shop_remarks(outcome),
        },
    )


def _common(played: Played, seconds: Mapping[str, float]) -> dict[str, Any]:
    names = {member.index: member.name for member in played.alliance.members}
    return {
        "written_at": rfc3339(SystemClock().now()),
        "members": len(names),
        "story": played.story,
        "release_id": played.release_id,
        "timeline": plots.timeline(played.story, names),
        "run_remarks": prose.run_remarks(played),
        "saw": prose.saw(played),
        "did_not_see": prose.did_not_see(played),
        "seconds": seconds,
    }


def _write(path: Path, template: str, values: Mapping[str, Any]) -> None:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_atomic(path, environment.get_template(template).render(values).encode())
