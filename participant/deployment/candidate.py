"""A model on this disk that could run: a verified release or the member's own local-only model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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
        vector: float32[P].
    """

    release_id: str
    path: str
    sha256: str
    kind: str
    sequence: int
    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)
