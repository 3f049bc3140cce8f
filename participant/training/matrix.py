"""Feature batches as scipy sparse matrices, and the sub-table of rows that data touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shared.model.features.batch import FeatureBatch


@dataclass(frozen=True, slots=True)
class SubMatrix:
    """Records over only those rows of the hashed space that they touch.

    Attributes:
        matrix: float32 CSR [records, touched rows]; repeated tokens are summed.
        touched: int64[touched rows], their places in the full table, ascending.
    """

    matrix: csr_matrix
    touched: NDArray[np.int64]


def to_csr(batch: FeatureBatch, rows: int) -> csr_matrix:
    """Return the batch as float32 CSR [records, rows] with repeated tokens summed."""
    matrix = csr_matrix((batch.weights, batch.ids, batch.offsets), shape=(batch.rows, rows))
    matrix = matrix.copy()
    matrix.sum_duplicates()
    return matrix


def touched_part(matrix: csr_matrix) -> SubMatrix:
    """Return the columns with at least one value."""
    touched = np.unique(matrix.indices).astype(np.int64)
    place = np.zeros(matrix.shape[1], dtype=np.int32)
    place[touched] = np.arange(touched.size, dtype=np.int32)
    shape = (matrix.shape[0], touched.size)
    return SubMatrix(
        csr_matrix((matrix.data, place[matrix.indices], matrix.indptr), shape), touched
    )
