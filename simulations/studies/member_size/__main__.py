"""``python -m simulations.studies.member_size``: the table, from nothing, in some minutes."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from shared.console import say
from shared.errors import TouchstoneError
from shared.files import write_atomic
from shared.model.layout import ModelSpec
from simulations.studies.member_size.listings import world_members
from simulations.studies.member_size.measure import Outcome, federation_outcomes
from simulations.studies.member_size.member import StudyMember
from simulations.studies.member_size.messages import message_members, read_messages
from simulations.studies.member_size.report import plot, tables
from simulations.studies.member_size.shops import read_shops, shop_members

SPEC = ModelSpec(hash_bits=16)
WORLD_SEEDS = (21, 22, 23, 24, 25)
"""Fresh ones: the world was tuned on 3 and 7 to 9, the personal head chosen on 11 and 12."""

SHOP_SEEDS, MESSAGE_SEEDS = tuple(range(21, 31)), tuple(range(21, 28))
SHOPS, MESSAGES = "fraudulent_online_shops", "sms_spam"
"""Folders of the real data."""


def main() -> int:
    """Run the study; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.studies.member_size")
    parser.add_argument("--data", type=Path, help=f"folder that holds {SHOPS} and {MESSAGES}")
    parser.add_argument("--world-seeds", type=int, nargs="*", default=list(WORLD_SEEDS))
    parser.add_argument("--shop-seeds", type=int, nargs="*", default=list(SHOP_SEEDS))
    parser.add_argument("--message-seeds", type=int, nargs="*", default=list(MESSAGE_SEEDS))
    parser.add_argument("--outcomes", type=Path, help="keep outcomes here, and go on from them")
    parser.add_argument("--plot", type=Path, help="write the plot to this SVG file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        outcomes = _study(options)
    except TouchstoneError as error:
        say(f"error: {error.message}")
        return int(error.exit_code)
    sys.stdout.write(tables(outcomes))
    if options.plot is not None:
        plot(outcomes, options.plot)
    return 0


def _study(options: argparse.Namespace) -> list[Outcome]:
    outcomes = _kept(options.outcomes)
    wanted = [("world", seed) for seed in options.world_seeds]
    if options.data is not None:
        wanted += [("shops", seed) for seed in options.shop_seeds]
        wanted += [("messages", seed) for seed in options.message_seeds]
    for source, seed in wanted:
        if not any((one.source, one.seed) == (source, seed) for one in outcomes):
            say(f"{source}, seed {seed}")
            outcomes += _federation(source, seed, options.data)
            if options.outcomes is not None:
                text = json.dumps([asdict(one) for one in outcomes], indent=1)
                write_atomic(options.outcomes, text.encode())
    return [one for one in outcomes if (one.source, one.seed) in wanted]


def _federation(source: str, seed: int, data: Path | None) -> Iterator[Outcome]:
    members = _members(source, seed, data or Path())
    with tempfile.TemporaryDirectory() as folder:
        yield from federation_outcomes(source, seed, members, SPEC, Path(folder))


def _members(source: str, seed: int, data: Path) -> list[StudyMember]:
    if source == "world":
        return world_members(seed, SPEC)
    if source == "shops":
        return shop_members(seed, SPEC, read_shops(data / SHOPS))
    return message_members(seed, SPEC, read_messages(data / MESSAGES))


def _kept(path: Path | None) -> list[Outcome]:
    if path is None or not path.exists():
        return []
    return [Outcome.of(one) for one in json.loads(path.read_text())]


if __name__ == "__main__":
    sys.exit(main())
