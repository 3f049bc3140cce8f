"""The network in torch: a weighted bag of embeddings, a wide part, a small perceptron.

The bag over the hashed table is a sparse matrix product. scipy's kernels do it some ten times
faster on a processor than ``torch.nn.EmbeddingBag`` with per-sample weights, forward and
backward, at these sizes; a test holds the two to the same values and gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from shared.model.layout import ModelSpec


class SparseBag(torch.autograd.Function):
    """Weighted sum of table rows per record: ``matrix @ table``."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, matrix: csr_matrix) -> Tensor:
        """Return float32[records, width] of a float32[rows, width] table."""
        ctx.matrix = matrix
        return torch.from_numpy(matrix @ table.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the table's gradient; the matrix has none."""
        return torch.from_numpy(ctx.matrix.T @ grads[0].numpy()), None


class HashedNet(nn.Module):
    """The model over a chosen part of the hashed table.

    Args:
        spec: the model.
        vector: float32[spec.n_params], its values.
        touched: int64[u], rows of the table that are present, ascending.

    The wide weight of a row is kept beside its embedding, in column 0 of ``table``, so that one
    product serves both.
    """

    def __init__(
        self, spec: ModelSpec, vector: NDArray[np.float32], touched: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self._spec, self._touched = spec, touched
        parts = spec.slices
        wide = vector[parts.wide][touched, None]
        embedding = vector[parts.embedding].reshape(spec.rows, spec.embed_dim)[touched]
        first = vector[parts.w1].reshape(spec.embed_dim, spec.hidden)
        self.table = _parameter(np.hstack([wide, embedding]))
        self.w1 = _parameter(first)
        self.b1 = _parameter(vector[parts.b1])
        self.w2 = _parameter(vector[parts.w2])
        self.bias = _parameter(vector[parts.bias])

    def forward(self, matrix: csr_matrix) -> Tensor:
        """Return float32[records] logits of float32 CSR [records, u] features."""
        bag: Tensor = SparseBag.apply(self.table, matrix)  # type: ignore[no-untyped-call]
        hidden = torch.relu(bag[:, 1:] @ self.w1 + self.b1)
        return bag[:, 0] + hidden @ self.w2 + self.bias

    def flat(self, base: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``base`` (float32[n_params]) with this network's values in their places."""
        vector = base.copy()
        parts = self._spec.slices
        table = self.table.detach().numpy()
        vector[parts.wide][self._touched] = table[:, 0]
        embedding = vector[parts.embedding].reshape(self._spec.rows, self._spec.embed_dim)
        embedding[self._touched] = table[:, 1:]
        vector[parts.w1] = self.w1.detach().numpy().ravel()
        vector[parts.b1] = self.b1.detach().numpy()
        vector[parts.w2] = self.w2.detach().numpy()
        vector[parts.bias] = self.bias.detach().numpy()
        return vector


def _parameter(values: NDArray[np.float32]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32, order="C")))
