"""What a world is made of: its size, seed, preset and the controls of a study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from shared.errors import ConfigError

Preset = Literal[
    "iid",
    "quantity-skew",
    "label-skew",
    "brand-natural",
    "language-split",
    "late-joiner",
    "poisoner",
    "free-rider",
]
PRESETS: tuple[Preset, ...] = get_args(Preset)

START = datetime(2025, 1, 6, tzinfo=UTC)
"""Week 0 begins here, on a Monday."""


@dataclass(frozen=True)
class WorldConfig:
    """The whole input of `generate`: the same value gives the same bytes.

    Attributes:
        members: how many members; the first ten have names and characters of their own.
        weeks: length of the story.
        listings_per_week: mean number of new listings a member of size 1 sees in a week.
        seed: of every random stream.
        preset: how the members differ (see `simulations.world.profiles`).
        train_weeks: members know what happened in weeks 0 … ``train_weeks - 1``.
        test_weeks: the weeks right after, on which models are compared; the rest is fresh.
        spread: whether tactics travel between members (the study's first control).
        code_words: whether counterfeiters use code words (the second control).
    """

    members: int = 5
    weeks: int = 30
    listings_per_week: int = 100
    seed: int = 7
    preset: Preset = "brand-natural"
    train_weeks: int = 20
    test_weeks: int = 4
    spread: bool = True
    code_words: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be generated.

        Raises:
            ConfigError: a size is out of range or the preset is unknown.
        """
        if self.preset not in PRESETS:
            raise ConfigError(
                f"unknown preset {self.preset!r}", hint=f"choose one of {', '.join(PRESETS)}"
            )
        if self.members < 2:
            raise ConfigError("a world needs at least 2 members", hint="set members to 2 or more")
        if min(self.listings_per_week, self.train_weeks, self.test_weeks) < 1:
            raise ConfigError("listings and weeks must be positive")
        if self.train_weeks + self.test_weeks > self.weeks:
            raise ConfigError(
                "training and test weeks do not fit into the world",
                hint=f"raise weeks to {self.train_weeks + self.test_weeks} or more",
            )
