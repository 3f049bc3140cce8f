"""``python -m tests.support.train_once DIR``: train on a folder's records once, as a run would."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from participant.node.learner import StoreLearner
from participant.store import Store
from shared.model.layout import ModelSpec, init_vector
from shared.trust.manifest import TrainingTerms


def main() -> None:
    """Train one epoch and print how far the model has moved."""
    spec = ModelSpec(hash_bits=10)
    store = Store.open(Path(sys.argv[1]), create=False)
    learner = StoreLearner(store, "shop", spec)
    terms = TrainingTerms(local_epochs=1, batch_size=16, learning_rate_milli=10)
    update = learner.update(init_vector(spec, 0), terms, seed=0, threads=1)
    sys.stdout.write(f"moved by {np.linalg.norm(update):.6f}\n")


if __name__ == "__main__":
    main()
