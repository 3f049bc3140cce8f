"""One member of the study: what it trains on, and the records that nobody trains on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, vstack

from participant.training.dataset import TrainingSet
from participant.training.split import Split


@dataclass(frozen=True)
class StudyMember:
    """A member of one federation.

    Attributes:
        name: unique in its federation.
        size: labelled records it holds, in all parts of its split.
        training: those records.
        test: float32 CSR [n, spec.rows], records that no member holds.
        truth: int8[n], whether each is counterfeit, or a fraudulent shop.
    """

    name: str
    size: int
    training: TrainingSet = field(repr=False)
    test: csr_matrix = field(repr=False)
    truth: npt.NDArray[np.int8] = field(repr=False)


def pooled(members: list[StudyMember]) -> TrainingSet:
    """Return what one owner of everybody's records would hold; in reality there is none.

    Every record keeps its part: what trains at its member trains here, and what judges judges.
    """
    sets = [one.training for one in members]
    starts = np.cumsum([0, *(one.rows for one in sets)])

    def joined(part: str) -> npt.NDArray[np.int64]:
        pieces = [getattr(one.split, part) + at for one, at in zip(sets, starts, strict=False)]
        return np.concatenate(pieces).astype(np.int64)

    return TrainingSet(
        spec=sets[0].spec,
        matrix=csr_matrix(vstack([one.matrix for one in sets])),
        labels=np.concatenate([one.labels for one in sets]),
        confidence=np.concatenate([one.confidence for one in sets]),
        groups=[group for one in sets for group in one.groups],
        times=np.concatenate([one.times for one in sets]),
        split=Split(joined("train"), joined("calibration"), joined("holdout")),
    )
