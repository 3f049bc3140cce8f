"""A synthetic world of listings, complaints and verdicts, hard in the ways the real one is."""

from __future__ import annotations

from simulations.world.config import PRESETS, Preset, WorldConfig
from simulations.world.files import write
from simulations.world.profiles import Profile
from simulations.world.splits import (
    Split,
    evaluation_listings,
    fresh_listings,
    new_tactic_mask,
    split,
    training_records,
    unseen_actors,
)
from simulations.world.world import MemberWorld, World, generate

__all__ = [
    "PRESETS",
    "MemberWorld",
    "Preset",
    "Profile",
    "Split",
    "World",
    "WorldConfig",
    "evaluation_listings",
    "fresh_listings",
    "generate",
    "new_tactic_mask",
    "split",
    "training_records",
    "unseen_actors",
    "write",
]
