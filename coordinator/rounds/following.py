"""The model that a round makes, unless no member would work on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds.errors import RunFailed
from shared.model.layout import ModelOutOfBounds, check_weights
from shared.secagg import next_model


def made_by(model: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``model``, float32[P], moved by a round's mean update, float32[P].

    Raises:
        RunFailed: a weight leaves the bounds within which members train.
    """
    following = next_model(model, mean)
    try:
        return check_weights(following)
    except ModelOutOfBounds as error:
        raise RunFailed("model_out_of_bounds", error.message, hint=error.hint) from error
