"""What the node trains and evaluates with: the records of its own store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from participant.contract import contract_of
from participant.deployment.evidence import training_sets
from participant.store import Store
from participant.training.dataset import TrainingSet
from participant.training.inference import evaluate_histograms
from participant.training.known import Table
from participant.training.local import TrainConfig, local_update
from participant.training.private import PrivateConfig, WholeRecords, private_update
from shared.model.layout import ModelSpec
from shared.secagg import Evaluation
from shared.trust.manifest import TrainingTerms


@dataclass(frozen=True)
class DataFacts:
    """What the policy wants to know of the data; never leaves the node.

    Attributes:
        rows: labelled rows in the training part.
        smallest_class: rows of its rarer class.
        contract_holds: whether the records keep the data contract.
    """

    rows: int
    smallest_class: int
    contract_holds: bool


NO_DATA = DataFacts(rows=0, smallest_class=0, contract_holds=False)
"""Stands for records nobody has looked at."""


class Learner(Protocol):
    """One run's view of the member's data."""

    def facts(self) -> DataFacts:
        """Return what the policy asks for."""
        ...

    def update(
        self, model: NDArray[np.float32], terms: TrainingTerms, *, seed: int, threads: int
    ) -> NDArray[np.float32]:
        """Train from ``model``; return the difference, float32[n_params]."""
        ...

    def private_update(
        self, model: NDArray[np.float32], config: PrivateConfig
    ) -> NDArray[np.float32]:
        """Train from ``model`` with noise for every record; the difference, float32[n_params]."""
        ...

    def evaluate(self, model: NDArray[np.float32]) -> Evaluation:
        """Evaluate ``model`` on the hold-out, which never trains."""
        ...


class StoreLearner:
    """Learns from the records in the member's store, read once a run.

    Args:
        store: open.
        kind: ``listing`` or ``shop``.
        spec: the run's model.
    """

    def __init__(self, store: Store, kind: str, spec: ModelSpec) -> None:
        self._store = store
        self._table: Table = "shops" if kind == "shop" else "listings"
        self._spec = spec
        self._set: TrainingSet = training_sets(store)(kind, spec)

    def facts(self) -> DataFacts:
        """Return row counts of the training part, and the data contract's verdict."""
        counts = self._set.class_counts("train")
        return DataFacts(sum(counts), min(counts), self._contract_holds)

    @cached_property
    def _contract_holds(self) -> bool:
        """Asked once a run: what was agreed to stands for the records that were read then."""
        return contract_of(self._store, self._table).holds

    def update(
        self, model: NDArray[np.float32], terms: TrainingTerms, *, seed: int, threads: int
    ) -> NDArray[np.float32]:
        """Train locally; see :func:`~participant.training.local.local_update`."""
        config = TrainConfig(
            lr=terms.learning_rate_milli / 1000,
            batch=terms.batch_size,
            epochs=terms.local_epochs,
            seed=seed,
            threads=threads,
        )
        return local_update(self._spec, model, self._set, config)

    def private_update(
        self, model: NDArray[np.float32], config: PrivateConfig
    ) -> NDArray[np.float32]:
        """Train locally; see :func:`~participant.training.private.private_update`."""
        return private_update(self._spec, model, self._set, config, records=self._whole)

    @cached_property
    def _whole(self) -> WholeRecords:
        return WholeRecords.of(self._set)

    def evaluate(self, model: NDArray[np.float32]) -> Evaluation:
        """Return loss and score histograms on the hold-out."""
        loss, positives, negatives = evaluate_histograms(
            self._spec, model, self._set.part("holdout")
        )
        return Evaluation(loss, positives, negatives)


class DeferredLearner:
    """A learner that is made when it is first asked: most steps of a run need no record.

    Args:
        make: reads the records.
    """

    def __init__(self, make: Callable[[], Learner]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Learner:
        return self._make()

    def facts(self) -> DataFacts:
        """See :class:`Learner`."""
        return self._made.facts()

    def update(
        self, model: NDArray[np.float32], terms: TrainingTerms, *, seed: int, threads: int
    ) -> NDArray[np.float32]:
        """See :class:`Learner`."""
        return self._made.update(model, terms, seed=seed, threads=threads)

    def private_update(
        self, model: NDArray[np.float32], config: PrivateConfig
    ) -> NDArray[np.float32]:
        """See :class:`Learner`."""
        return self._made.private_update(model, config)

    def evaluate(self, model: NDArray[np.float32]) -> Evaluation:
        """See :class:`Learner`."""
        return self._made.evaluate(model)
