"""How much each token moved a record's logit, summed to what a person would call one reason.

With its rectifiers fixed as the record set them the network is linear, so gradient times input
splits the logit exactly: wide part plus embeddings' share through the perceptron, all tokens
together being the logit less its constant (Ancona et al., "Towards better understanding of
gradient-based attribution methods", ICLR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.model.features.batch import FeatureBatch, Trace
from shared.model.features.fold import Codes
from shared.model.features.text import word_spans
from shared.model.layout import ModelSpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NEIGHBOUR = 0.5
"""A word joins its neighbour's phrase if it moved the score at least this share as much."""


MIN_PEERS = 50
"""Records from which their mean says what is usual."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What moved each record's logit.

    Attributes:
        features: names of the human features, such as ``title`` or ``price_ratio``.
        values: float64[rows, features], logits moved.
        phrases: for each text field, the passage of each row that moved it most, or "".
    """

    features: tuple[str, ...]
    values: F64
    phrases: dict[str, list[str]]


def token_shares(spec: ModelSpec, vector: F32, batch: FeatureBatch) -> F64:
    """Return float64[nnz], the logits that each token of a batch adds.

    Their sum over a record is its logit minus ``relu'(h) b1 w2 + bias``.
    """
    parts = spec.slices
    wide = vector[parts.wide]
    if spec.linear:
        return np.asarray(batch.weights * wide[batch.ids], dtype=np.float64)
    embedding = vector[parts.embedding].reshape(spec.rows, spec.embed_dim)
    first = vector[parts.w1].reshape(spec.embed_dim, spec.hidden)
    rows = np.repeat(np.arange(batch.rows), np.diff(batch.offsets))
    weighted = embedding[batch.ids] * batch.weights[:, None]
    bag = np.stack(
        [np.bincount(rows, weighted[:, k], minlength=batch.rows) for k in range(spec.embed_dim)],
        axis=1,
    )
    active = (bag @ first + vector[parts.b1]) > 0
    slope = (active * vector[parts.w2]) @ first.T
    shares: F64 = batch.weights * wide[batch.ids] + np.einsum("ij,ij->i", weighted, slope[rows])
    return shares


def feature_of(group: str) -> str:
    """Return the human feature of a token group: ``title~raw:char`` belongs to ``title``."""
    return group.partition(":")[0].partition("~")[0]


def attribute(spec: ModelSpec, vector: F32, batch: FeatureBatch) -> Attribution:
    """Attribute the logits of a traced batch.

    Args:
        spec: the model.
        vector: float32[n_params].
        batch: built with ``trace=True``.

    Raises:
        ValueError: the batch has no trace.
    """
    if batch.trace is None:
        raise ValueError("an explanation needs a batch with its trace")
    trace = batch.trace
    shares = token_shares(spec, vector, batch)
    rows = np.repeat(np.arange(batch.rows), np.diff(batch.offsets))
    names = [feature_of(name) for name in trace.names]
    features = tuple(dict.fromkeys(names))
    place = np.array([features.index(name) for name in names], dtype=np.int64)
    cells = rows * len(features) + place[trace.groups]
    size = batch.rows * len(features)
    summed: F64 = np.bincount(cells, shares, minlength=size).astype(np.float64)
    phrases = {
        field: _phrases(field, column, trace, shares)
        for field, column in trace.texts.items()
        if "~" not in field
    }
    return Attribution(features, summed.reshape(batch.rows, len(features)), phrases)


def beside_peers(found: Attribution) -> Attribution:
    """Return shares less their mean over the records scored together, if those are many.

    What nearly every listing has ("condition: new") moves every logit alike and is no reason for
    looking at this one. Scores do not change, only which reasons are told.
    """
    if found.values.shape[0] < MIN_PEERS:
        return found
    return replace(found, values=found.values - found.values.mean(axis=0))


def _phrases(field: str, column: Codes, trace: Trace, shares: F64) -> list[str]:
    """Return each row's word, with like-minded neighbours, that raised the logit most."""
    groups = [k for k, name in enumerate(trace.names) if name in (f"{field}:char", f"{field}:word")]
    mine = np.isin(trace.groups, groups) & (trace.starts >= 0)
    starts, lengths = trace.starts[mine], trace.lengths[mine]
    size = column.codes.size + 1
    each = shares[mine] / np.maximum(lengths, 1)
    rise = np.bincount(starts, each, minlength=size)
    fall = np.bincount(starts + lengths, each, minlength=size)
    gained = np.concatenate(([0.0], np.cumsum(np.cumsum(rise - fall)[:-1])))
    first, length = word_spans(column)
    found = [""] * column.count
    if first.size == 0:
        return found
    score = gained[first + length] - gained[first]
    row = column.rows[first]
    order = np.lexsort((-score, row))
    best = order[np.append(True, np.diff(row[order]) != 0)]
    text = column.codes
    for at in best[score[best] > 0].tolist():
        low = high = at
        if at > 0 and row[at - 1] == row[at] and score[at - 1] >= NEIGHBOUR * score[at]:
            low = at - 1
        if at + 1 < row.size and row[at + 1] == row[at] and score[at + 1] >= NEIGHBOUR * score[at]:
            high = at + 1
        passage = text[first[low] : first[high] + length[high]]
        found[int(row[at])] = passage.tobytes().decode("utf-32-le", "replace")
    return found
