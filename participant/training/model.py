"""A model that may score: its values, its space, the member's own calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from participant.training.calibration import Calibration
from shared.model.layout import ModelSpec


@dataclass(frozen=True)
class LoadedModel:
    """What scoring needs.

    Attributes:
        spec: the model.
        vector: float32[spec.n_params], verified before it got here.
        calibration: fitted on the member's own calibration part.
        release_id: of the alliance's release as hex, or ``local``.
    """

    spec: ModelSpec
    vector: NDArray[np.float32]
    calibration: Calibration
    release_id: str
