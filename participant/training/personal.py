"""A personal head: what a member's own records add to the alliance's model, fitted at home.

The head is a logistic regression on the member's own hashed features with the release's logit as
a fixed offset, so its weights are the *difference* from the release, drawn towards zero by L2: a
member with few records, or with nothing of its own to add, stays with the release. This is
residual fine-tuning of the wide part (Arivazhagan et al., "Federated learning with
personalization layers", 2019, with the layer beside the network instead of on top of it); the
release itself is not changed.

The release has trained on the member's training part and scores it too well, so a head fitted
there alone finds little to add; the calibration part, which no release has seen, tells it what
is missing. The head is fitted on both. Whether and how strongly is decided by cross-fitting over
the sellers of the calibration part: a record's score comes from a head that has seen neither it
nor its seller. By those scores the same records may still calibrate.

Nothing of it leaves the member, so it costs no privacy budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from participant.training.dataset import TrainingSet
from participant.training.inference import logits_of
from participant.training.matrix import SubMatrix, touched_part
from participant.training.threads import one_blas_thread
from shared.errors import MalformedMessage
from shared.model.layout import ModelSpec, check_vector
from shared.model.metrics import pr_auc

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STRENGTHS = (100.0, 30.0, 10.0)
"""L2 towards the release, from the most cautious to the boldest."""

FOLDS = 5
"""Of sellers. More cost time and change little at the sizes a member has."""

MIN_CLASS = 5
"""Records of either class in the calibration part, one a fold. With fewer, the choice of a
strength says more about the draw than about the member."""

MAX_STEPS = 60
"""Of L-BFGS, from zero: no logit is further than .001 from where a Newton method ends."""


@dataclass(frozen=True)
class Head:
    """A sparse change of a release's parameters.

    Attributes:
        places: int64[k], ascending places in the flat vector.
        values: float32[k], what is added there.
        setting: how strongly it was held to the release, for people to read.
    """

    places: NDArray[np.int64] = field(repr=False)
    values: F32 = field(repr=False)
    setting: str

    def apply(self, spec: ModelSpec, vector: F32) -> F32:
        """Return the personalised model, float32[n_params]; ``vector`` is left as it is.

        Raises:
            MalformedMessage: the head does not fit the model.
            UnknownModel: the result is not finite.
        """
        places = self.places
        sound = places.ndim == 1 and places.shape == self.values.shape
        if not sound or (places.size and not 0 <= places[0] <= places[-1] < spec.n_params):
            raise MalformedMessage("the personal head does not fit the model")
        if (np.diff(places) <= 0).any():
            raise MalformedMessage("the personal head's places are not ascending")
        changed = vector.copy()
        changed[places] += self.values
        return check_vector(spec, changed)


@dataclass(frozen=True)
class FittedHead:
    """A head and what it says of the calibration part before having seen it.

    Attributes:
        head: fitted on training and calibration part.
        unseen: float32[n], logits of the calibration part by cross-fitting.
    """

    head: Head
    unseen: F32 = field(repr=False)


def fit_head(training_set: TrainingSet, vector: F32) -> FittedHead | None:
    """Fit a head on training and calibration part; cross-fitting chooses its strength, or none.

    The hold-out is not looked at: it decides later whether the head is worth keeping.

    Args:
        training_set: the member's records.
        vector: float32[n_params], the release.

    Returns:
        The head, or None if the calibration part is too small to choose, or no strength has a
        better PR-AUC than the bare release on sellers it has not seen.
    """
    if min(training_set.class_counts("calibration")) < MIN_CLASS:
        return None
    fit = _Fit.of(training_set, vector)
    labels = training_set.part("calibration")[1]
    tried = [(strength, fit.unseen(strength)) for strength in STRENGTHS]
    strength, unseen = max(tried, key=lambda one: pr_auc(labels, one[1]))
    if pr_auc(labels, unseen) <= pr_auc(labels, fit.bare()):
        return None
    spec, found = training_set.spec, fit.whole(strength)
    places = np.append(fit.part.touched + spec.slices.wide.start, spec.slices.bias.start)
    head = Head(places, found.astype(np.float32), f"L2 {strength:g}")
    return FittedHead(head, unseen.astype(np.float32))


_NEVER_OUT = -1


@dataclass(frozen=True)
class _Fit:
    part: SubMatrix
    offset: F64
    labels: F64
    weights: F64
    folds: NDArray[np.int64]
    """Of each record of the calibration part, :data:`_NEVER_OUT` for the training part."""

    @classmethod
    def of(cls, training_set: TrainingSet, vector: F32) -> _Fit:
        train, calibration = training_set.split.train, training_set.split.calibration
        index = np.concatenate([train, calibration])
        matrix = training_set.matrix[index]
        sellers = np.array([training_set.groups[row] for row in calibration], dtype=str)
        folds = np.unique(sellers, return_inverse=True)[1] % FOLDS
        return cls(
            touched_part(matrix),
            logits_of(training_set.spec, vector, matrix).astype(np.float64),
            training_set.labels[index].astype(np.float64),
            training_set.confidence[index].astype(np.float64),
            np.concatenate([np.full(train.size, _NEVER_OUT), folds]),
        )

    def bare(self) -> F64:
        found: F64 = self.offset[self.folds != _NEVER_OUT]
        return found

    def whole(self, strength: float) -> F64:
        return self._solve(np.ones(self.labels.size, dtype=np.bool_), strength)

    def unseen(self, strength: float) -> F64:
        logits = self.offset.copy()
        for fold in range(FOLDS):
            out = self.folds == fold
            if out.any():
                line = self._solve(~out, strength)
                logits[out] += self.part.matrix[out] @ line[:-1] + line[-1]
        found: F64 = logits[self.folds != _NEVER_OUT]
        return found

    def _solve(self, rows: NDArray[np.bool_], strength: float) -> F64:
        """Return float64[columns + 1]: the weights and the constant that fit best."""
        matrix, offset = self.part.matrix[rows], self.offset[rows]
        labels, weights = self.labels[rows], self.weights[rows]

        def loss(line: F64) -> tuple[float, F64]:
            z = offset + matrix @ line[:-1] + line[-1]
            error = weights * (expit(z) - labels)
            value = float(weights @ (np.logaddexp(0, z) - labels * z))
            gradient = np.append(matrix.T @ error + strength * line[:-1], error.sum())
            return value + 0.5 * strength * float(line[:-1] @ line[:-1]), gradient

        start = np.zeros(matrix.shape[1] + 1)
        options = {"maxiter": MAX_STEPS}
        with one_blas_thread():
            found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x)
