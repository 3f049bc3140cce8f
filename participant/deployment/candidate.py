"""A model on this disk that could run: a verified release or the member's own local-only model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from participant.training.personal import FittedHead
from shared.model.layout import ModelSpec


@dataclass(frozen=True)
class Candidate:
    """A model with its place.

    Attributes:
        release_id: hex, or ``local``.
        path: its file or folder, relative to ``models/``.
        sha256: hex digest of its file.
        kind: what it scores, ``listing`` or ``shop``.
        sequence: the release's number, 0 for the local-only model.
        spec: its shape.
        vector: float32[P], as it would score: with the head in it if there is one.
        head: the member's personal head on top of a release.
    """

    release_id: str
    path: str
    sha256: str
    kind: str
    sequence: int
    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)
    head: FittedHead | None = None

    def with_head(self, fitted: FittedHead) -> Candidate:
        """Return this release with a personal head on top of it."""
        return replace(self, vector=fitted.head.apply(self.spec, self.vector), head=fitted)
