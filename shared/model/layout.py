"""The model as one flat float32 vector: its shape, its parts, its first values.

Needs numpy alone, so that the coordinator can size, start and name a model without torch.
The order of the vector is fixed for ever by :data:`KIND`::

    wide [R] | embedding [R, E] | w1 [E, H] | b1 [H] | w2 [H] | bias [1]      (all row-major)

with R = 2**hash_bits rows, E = embed_dim, H = hidden. The logit of a record with token ids i
and weights x is ``sum x*wide[i] + relu((sum x*embedding[i]) @ w1 + b1) @ w2 + bias``. The linear
model (:data:`LINEAR`) is the same vector with E = H = 0: ``wide [R] | bias [1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from shared.encoding import Reader, Writer, digest
from shared.errors import VerificationError
from shared.limits import MAX_MODEL_WEIGHT
from shared.model.features.space import compact_fields, space_fields

KIND = "hashed-mlp-v1"
LINEAR = "hashed-linear-v1"
"""Of runs with record-level differential privacy: small, and its gradients are easy to bound."""

DOMAIN = "touchstone/model-spec/v1"
EMBEDDING_STD = 0.05
LINEAR_BIAS = -2.5
"""First bias of the linear model, 8 % of everything: fakes are rare, and steps are few."""

MIN_HASH_BITS, MAX_HASH_BITS = 10, 20
MAX_WIDTH = 256
"""Upper bounds of a spec received from a peer: at most 2**20 * 257 values before any allocation."""


class UnknownModel(VerificationError):
    """A model specification is not one that this version can run."""

    code = "unknown_model"


class ModelOutOfBounds(VerificationError):
    """A weight of a model is larger than any that training makes."""

    code = "model_out_of_bounds"


@dataclass(frozen=True, slots=True)
class Slices:
    """Where each part of the model lies in the flat vector."""

    wide: slice
    embedding: slice
    w1: slice
    b1: slice
    w2: slice
    bias: slice


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model is, apart from its values; part of the signed run manifest.

    Attributes:
        kind: the architecture's name.
        hash_bits: log2 of the number of rows of the hashed space (16 for small alliances, 18).
        embed_dim: width of a token's embedding; 0 in a linear model.
        hidden: width of the hidden layer; 0 in a linear model.

    Raises:
        UnknownModel: the kind is unknown or a size is out of range.
    """

    kind: str = KIND
    hash_bits: int = 16
    embed_dim: int = 8
    hidden: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be run before anything is allocated for it."""
        if self.kind not in (KIND, LINEAR):
            raise UnknownModel(
                f"the model kind {self.kind!r} is unknown",
                hint="a newer version of this program may know it",
            )
        if not MIN_HASH_BITS <= self.hash_bits <= MAX_HASH_BITS:
            raise UnknownModel(f"hash_bits must be {MIN_HASH_BITS} to {MAX_HASH_BITS}")
        if self.linear:
            if self.embed_dim or self.hidden:
                raise UnknownModel("a linear model has neither embedding nor hidden layer")
        elif not (1 <= self.embed_dim <= MAX_WIDTH and 1 <= self.hidden <= MAX_WIDTH):
            raise UnknownModel(f"embed_dim and hidden must be 1 to {MAX_WIDTH}")

    @classmethod
    def compact(cls, hash_bits: int = 14) -> ModelSpec:
        """Return the linear model of private runs.

        More rows do not add noise to a score: that is the noise of a weight times the length of
        the record, however many rows the record's tokens are spread over. Fewer rows collide.
        """
        return cls(LINEAR, hash_bits, 0, 0)

    @property
    def linear(self) -> bool:
        """Whether this is the linear model, whose features come from one record alone."""
        return self.kind == LINEAR

    @property
    def rows(self) -> int:
        """Rows of the hashed space."""
        return 1 << self.hash_bits

    def _sizes(self) -> tuple[int, ...]:
        rows, embed, hidden = self.rows, self.embed_dim, self.hidden
        return (rows, rows * embed, embed * hidden, hidden, hidden, 1)

    @property
    def n_params(self) -> int:
        """Length of the flat vector."""
        return sum(self._sizes())

    @property
    def slices(self) -> Slices:
        """The part of the flat vector that each layer occupies."""
        ends = list(accumulate(self._sizes()))
        starts = [0, *ends[:-1]]
        return Slices(*(slice(a, b) for a, b in zip(starts, ends, strict=True)))

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).text(self.kind)
        return writer.u8(self.hash_bits).u32(self.embed_dim).u32(self.hidden).done()

    @classmethod
    def decode(cls, data: bytes) -> ModelSpec:
        """Read a canonical encoding.

        Raises:
            MalformedMessage: the bytes are not a model specification.
            UnknownModel: they are one that this version cannot run.
        """
        reader = Reader(data, DOMAIN)
        spec = cls(reader.text(limit=64), reader.u8(), reader.u32(), reader.u32())
        reader.end()
        return spec


def check_vector(spec: ModelSpec, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``vector`` if it is one finite float32 value per parameter of ``spec``.

    Raises:
        UnknownModel: the length or type is wrong, or a value is not finite.
    """
    if vector.dtype != np.float32 or vector.shape != (spec.n_params,):
        raise UnknownModel(
            f"the model vector must be {spec.n_params} float32 values, "
            f"got {vector.shape} {vector.dtype}"
        )
    if not np.isfinite(vector).all():
        raise UnknownModel("the model vector has values that are not finite")
    return vector


def check_weights(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``vector`` if a round may work on it: every weight within ``MAX_MODEL_WEIGHT``.

    Raises:
        ModelOutOfBounds: a weight is larger, or is no number.
    """
    largest = max(float(vector.max()), -float(vector.min())) if vector.size else 0.0
    if not largest <= MAX_MODEL_WEIGHT:
        raise ModelOutOfBounds(
            f"the model has a weight outside of {MAX_MODEL_WEIGHT:g} in either direction",
            hint="training has diverged, or the model was made to break training",
        )
    return vector


def init_vector(spec: ModelSpec, seed: int) -> NDArray[np.float32]:
    """Return the first model of a run, the same for the same seed on every machine.

    The wide part and the last layer start at zero, so that the first model says 0.5 of
    everything; the embedding is N(0, 0.05), the first layer N(0, 1/sqrt(E)). The linear model
    starts at ``LINEAR_BIAS`` and zero.

    Args:
        spec: the model.
        seed: of numpy's Philox generator.

    Returns:
        float32 vector of length ``spec.n_params``.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    vector = np.zeros(spec.n_params, dtype=np.float32)
    parts = spec.slices
    if spec.linear:
        vector[parts.bias] = LINEAR_BIAS
        return vector
    count = spec.rows * spec.embed_dim
    vector[parts.embedding] = EMBEDDING_STD * generator.standard_normal(count, dtype=np.float32)
    first = generator.standard_normal(spec.embed_dim * spec.hidden, dtype=np.float32)
    vector[parts.w1] = first / np.float32(np.sqrt(spec.embed_dim))
    return vector


def feature_space_hash(spec: ModelSpec) -> bytes:
    """Return the 32-byte identity of the hashed space: key, version, fields, grid and size."""
    compact = compact_fields() if spec.linear else ()
    parts = [text.encode() for text in (*space_fields(), *compact, f"bits={spec.hash_bits}")]
    return digest("touchstone/feature-space/v1", *parts)
