"""Proposes a column mapping for a file nobody has described yet."""

from __future__ import annotations

from participant.ingest.guess.service import Guess, guess_mapping

__all__ = ["Guess", "guess_mapping"]
