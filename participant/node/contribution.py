"""What a member puts into one round's vector: there is always something to mask.

A refusal or an error that depends on the records would be one bit about them, for a model that the
coordinator chose: outside of the sum, with no noise, and as often as it asks. So whatever goes
wrong with the records here, the member masks an update that moves nothing and, for the evaluation,
noise alone; only its own people learn of it (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from participant.node.learner import Learner
from participant.training.private import PrivateConfig, noise_update
from shared.errors import TouchstoneError
from shared.model.layout import ModelSpec
from shared.secagg import Evaluation
from shared.secagg.errors import BadVector
from shared.trust.manifest import RunManifest

Part = Literal["update", "weight", "evaluation"]
F32 = NDArray[np.float32]
T = TypeVar("T")

EPSILON_BUDGET = "epsilon_budget"
"""Code of an evaluation that was withheld because the budget for them is spent."""


@dataclass
class Contribution:
    """One round's part of this member, made without ever failing on its records.

    Args:
        learner: trains and evaluates.
        manifest: the run's.
        threads: processor threads that training may use.

    Attributes:
        withheld: what was replaced by nothing, and why; for this member's own people.
    """

    learner: Learner
    manifest: RunManifest
    threads: int
    withheld: list[tuple[Part, str]] = field(default_factory=list)

    def update(self, model: F32, seed: int) -> F32:
        """Return the update to mask, float32[P]; of no record, if it cannot be made.

        In a private run that is the noise, which hides as much as that of any update: a vector
        without it would stand out.
        """
        spec = ModelSpec.decode(self.manifest.model_spec)
        if self.manifest.private:
            config = self._private_config()
            return self._made(
                "update",
                lambda: _usable(self.learner.private_update(model, config), spec),
                lambda: noise_update(spec, model, config),
            )
        terms, threads = self.manifest.training, self.threads
        return self._made(
            "update",
            lambda: _usable(self.learner.update(model, terms, seed=seed, threads=threads), spec),
            lambda: np.zeros(spec.n_params, dtype=np.float32),
        )

    def _private_config(self) -> PrivateConfig:
        training = self.manifest.training
        rate = training.learning_rate_milli / 1000
        return PrivateConfig(self.manifest.privacy, rate, training.full_weight_rows)

    def weight(self) -> float:
        """Return this member's weight; the smallest of the run, if its rows cannot be counted."""
        training = self.manifest.training
        rows = 0
        if training.weighting != "uniform":
            rows = self._made("weight", lambda: self.learner.facts().rows, lambda: 0)
        return training.weight(rows)

    def evaluation(self, model: F32, *, affordable: bool) -> Evaluation:
        """Return how ``model`` does on the hold-out; of no row, if that is not to be told."""
        if not affordable:
            self.withheld.append(("evaluation", EPSILON_BUDGET))
            return Evaluation.nothing()
        return self._made(
            "evaluation", lambda: _whole(self.learner.evaluate(model)), Evaluation.nothing
        )

    def _made(self, part: Part, make: Callable[[], T], instead: Callable[[], T]) -> T:
        try:
            return make()
        except TouchstoneError as error:
            code = error.code
        except Exception as error:  # noqa: BLE001 - whichever it is, that there is one tells of records
            code = type(error).__name__
        self.withheld.append((part, code))
        return instead()


def _usable(delta: F32, spec: ModelSpec) -> F32:
    if delta.dtype != np.float32 or delta.shape != (spec.n_params,):
        raise BadVector("the update is not one float32 value per parameter")
    if not np.isfinite(delta).all():
        raise BadVector("the update holds NaN or infinity", hint="training diverged")
    return delta


def _whole(evaluation: Evaluation) -> Evaluation:
    if not evaluation.usable:
        raise BadVector("the evaluation's counts are not usable")
    return evaluation
