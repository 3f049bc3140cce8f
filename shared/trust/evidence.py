"""A run recomputed: every round's evidence held against its record, and the sums done again.

What a transcript says of a round is hashes. Here is what is behind them: that each survivor signed
for this very model, config and set of participants; that enough of them gave the shares that open
the sum; and, where the masked vectors were kept, that they add up to the sum and to the next model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import NotFound, VerificationError
from shared.secagg import (
    OpenedSum,
    Quantiser,
    RoundEvidence,
    SetupEvidence,
    check_sum,
    next_model,
)
from shared.secagg.errors import SumRejected, TermsRefused, TooFew
from shared.secagg.groups import combine
from shared.secagg.recompute import (
    PublishedRound,
    PublishedSetup,
    open_masks,
    recompute_sum,
    verify_headers,
    verify_setup,
)
from shared.secagg.round_messages import MaskedRequest
from shared.secagg.unmask import MaskKeys
from shared.trust.manifest import RunManifest, VerifiedManifest
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.session import round_config, round_layout, session_terms
from shared.trust.transcript import Transcript, TranscriptError, model_sha256

Tell = Callable[[int, int], None]
"""Told how many masked vectors were added up so far, of how many."""


class EvidenceInvalid(TranscriptError):
    """What is published beside a transcript is not what its members signed, or does not fit it."""

    code = "round_evidence"


class KeptVectorMismatch(TranscriptError):
    """A masked vector that was promised or kept is gone, or not the one its member signed for."""

    code = "kept_vector"


class SumMismatch(TranscriptError):
    """The masked vectors do not add up to the sum, or to the model, that was published."""

    code = "recomputed_sum"


class EvidenceSource(Protocol):
    """Where the evidence of one run comes from; nothing it returns is trusted.

    Every method may raise :class:`~shared.errors.StorageError` or ``NetworkError``.
    """

    def setup(self, record: RoundRecord) -> bytes:
        """Return the evidence of the record's session; raises NotFound."""
        ...

    def round(self, record: RoundRecord) -> bytes:
        """Return the evidence of the record's round and group; raises NotFound."""
        ...

    def first_model(self) -> bytes:
        """Return the model that round 1 started from, little-endian float32; raises NotFound."""
        ...

    def vector(self, record: RoundRecord, index: int) -> bytes:
        """Return a survivor's masked vector, little-endian u64; raises NotFound if not kept."""
        ...


@dataclass(frozen=True)
class Recomputed:
    """How far a run could be recomputed.

    Attributes:
        evidence: released rounds (of each group) whose evidence holds.
        sums: sums that were done again; None where the masked vectors were not kept or asked for.
    """

    evidence: int
    sums: int | None


@dataclass(frozen=True)
class _Checked:
    """A record whose evidence holds; no masks for a burnt round."""

    record: RoundRecord
    published: PublishedRound
    quantiser: Quantiser
    masks: MaskKeys | None


def recompute(
    transcript: Transcript,
    verified: VerifiedManifest,
    source: EvidenceSource,
    *,
    sums: bool = True,
    tell: Tell = lambda _done, _of: None,
) -> Recomputed:
    """Check the evidence of every record, and do the sums again where that is possible.

    Args:
        transcript: verified, and held against the manifest.
        verified: the run's manifest.
        source: where the evidence is.
        sums: whether to fetch masked vectors at all.
        tell: progress.

    Raises:
        EvidenceInvalid: of a round; the message says which.
        KeptVectorMismatch: vectors were promised or kept, and one is missing or altered.
        SumMismatch: the sum, or the model made of it, is another one.
    """
    checker = _Checker(verified, source)
    vectors = sum(
        len(record.survivors)
        for record in transcript.records
        if record.outcome is not Outcome.BURNT
    )
    replay = _Replay(verified.manifest, source, lambda done: tell(done, vectors))
    checked = 0
    for _, records in groupby(transcript.records, lambda record: record.round):
        rounds = [checker.check(record) for record in records]
        checked += len(rounds)
        sums = sums and replay.play(rounds)
    return Recomputed(checked, replay.done if sums else None)


class _Checker:
    """Holds evidence against records; a session's set-up is checked once."""

    def __init__(self, verified: VerifiedManifest, source: EvidenceSource) -> None:
        self._verified = verified
        self._source = source
        self._setups: dict[tuple[bytes, bytes, int, int], PublishedSetup] = {}

    def check(self, record: RoundRecord) -> _Checked:
        """Check one record's evidence; raises :class:`EvidenceInvalid`."""
        try:
            return self._check(record)
        except (VerificationError, TooFew, TermsRefused, NotFound) as error:
            raise EvidenceInvalid(f"{_place(record)}: {error.message}") from error

    def _check(self, record: RoundRecord) -> _Checked:
        setup = self._setup(record)
        evidence = RoundEvidence.decode(
            _named(self._source.round(record), record.evidence_sha256, "evidence")
        )
        published = PublishedRound(self._request(record, setup), record.survivors, evidence)
        if published.request.t2(setup.t1c) != record.t2:
            raise EvidenceInvalid("T2 does not follow from the manifest and the members' set-up")
        if verify_headers(setup, published) != dict(record.vectors):
            raise EvidenceInvalid("the survivors signed for other vectors")
        # The shares of a burnt round may be too few, or open nothing: that is why it is burnt.
        masks = None if record.outcome is Outcome.BURNT else open_masks(setup, published)
        return _Checked(record, published, setup.terms.quantiser, masks)

    def _setup(self, record: RoundRecord) -> PublishedSetup:
        name = (record.setup_sha256, record.session_id, record.ordinal, record.group)
        found = self._setups.get(name)
        if found is None:
            data = _named(self._source.setup(record), record.setup_sha256, "set-up")
            terms = session_terms(self._verified, record.session_id, record.ordinal, record.group)
            found = verify_setup(terms, SetupEvidence.decode(data))
            self._setups[name] = found
        return found

    def _request(self, record: RoundRecord, setup: PublishedSetup) -> MaskedRequest:
        manifest = self._verified.manifest
        return MaskedRequest(
            record.round,
            record.slot,
            record.participants,
            record.model_sha256,
            round_config(manifest, record.round),
            round_layout(manifest, record.round).words,
            setup.terms.quantiser.encode(),
        )


class _Replay:
    """Does the rounds' sums again, from the first model on."""

    def __init__(
        self, manifest: RunManifest, source: EvidenceSource, tell: Callable[[int], None]
    ) -> None:
        self._manifest = manifest
        self._source = source
        self._tell = tell
        self._model: NDArray[np.float32] | None = None
        self._vectors = 0
        self.done = 0

    def play(self, rounds: Sequence[_Checked]) -> bool:
        """Recompute a round in all its groups; false if the run promised and kept no vectors."""
        try:
            opened = [found for item in rounds if (found := self._opened(item)) is not None]
        except _NothingKept:
            return False
        if opened:
            record = rounds[0].record
            model = self._first_model() if self._model is None else self._model
            self._model = next_model(model, combine(opened, self._manifest.robust).mean)
            if model_sha256(self._model) != record.next_model_sha256:
                raise SumMismatch(f"the sum of round {record.round} makes another model")
        return True

    def _opened(self, item: _Checked) -> OpenedSum | None:
        """Check a group's sum; return it if it entered the model."""
        record, masks = item.record, item.masks
        if masks is None:
            return None
        try:
            total = recompute_sum(item.published, masks, partial(self._vector, record))
            layout = round_layout(self._manifest, record.round)
            opened = check_sum(total, layout, len(record.survivors), item.quantiser)
        except SumRejected as error:
            raise SumMismatch(f"{_place(record)}: {error.message}") from error
        if hashlib.sha256(total.astype("<u8", copy=False).data).digest() != record.sum_sha256:
            raise SumMismatch(f"{_place(record)}: the vectors add up to another sum")
        self.done += 1
        return opened if record.outcome is Outcome.SUMMED else None

    def _vector(self, record: RoundRecord, index: int) -> NDArray[np.uint64]:
        where = f"member {index}'s vector of {_place(record)}"
        try:
            data = self._source.vector(record, index)
        except NotFound as error:
            if self._manifest.keep_masked:
                raise KeptVectorMismatch(
                    f"{where} is gone, though the run's manifest promises that it is kept",
                    hint="without it the sum is the coordinator's word; ask the operator",
                ) from error
            if not self._vectors:
                raise _NothingKept from error
            raise KeptVectorMismatch(f"{where} is gone, though others were kept") from error
        if hashlib.sha256(data).digest() != dict(record.vectors)[index]:
            raise KeptVectorMismatch(f"{where} is not the one that the member signed for")
        self._vectors += 1
        self._tell(self._vectors)
        return np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False)

    def _first_model(self) -> NDArray[np.float32]:
        data = self._source.first_model()
        if hashlib.sha256(data).digest() != self._manifest.initial_model:
            raise SumMismatch("the first model is not the one that the manifest names")
        return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)


class _NothingKept(Exception):
    """The run promised no masked vectors and kept none."""


def _named(data: bytes, sha256: bytes, what: str) -> bytes:
    if hashlib.sha256(data).digest() != sha256:
        raise EvidenceInvalid(f"the {what} is not the one that the transcript names")
    return data


def _place(record: RoundRecord) -> str:
    return f"round {record.round}" + (f", group {record.group}" if record.group else "")
