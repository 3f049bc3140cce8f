"""Anyone recomputes a round from what was published of it, and no bit of that can be another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import VerificationError
from shared.secagg import RoundEvidence, RoundSum, SetupEvidence
from shared.secagg.errors import (
    BadMessage,
    BadSignature,
    BadUpload,
    InconsistentDealer,
    SumRejected,
    TooFew,
)
from shared.secagg.recompute import (
    PublishedRound,
    open_masks,
    recompute_sum,
    verify_headers,
    verify_setup,
)
from shared.secagg.round_messages import MaskedRequest
from tests.support.secagg import CONFIG, MODEL, World, losing, make_terms

CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


class Auditor:
    """Somebody with the terms, the published evidence and the kept vectors, and nothing else."""

    def __init__(self, world: World, result: RoundSum) -> None:
        self.terms = world.terms
        self.setup = world.coordinator.setup_evidence().encode()
        self.evidence = result.evidence.encode()
        self.vectors = {u: world.nodes[u].disk.upload for u in result.survivors}
        self.request = MaskedRequest(
            result.round,
            result.slot,
            result.participants,
            hashlib.sha256(MODEL).digest(),
            CONFIG,
            world.layout.words,
            world.terms.quantiser.encode(),
        )
        self.survivors = result.survivors

    def recompute(self) -> NDArray[np.uint64]:
        setup = verify_setup(self.terms, SetupEvidence.decode(self.setup))
        evidence = RoundEvidence.decode(self.evidence)
        published = PublishedRound(self.request, self.survivors, evidence)
        signed = verify_headers(setup, published)
        masks = open_masks(setup, published)
        for index, digest in signed.items():
            assert hashlib.sha256(self.vectors[index]).digest() == digest
        return recompute_sum(
            published, masks, lambda index: np.frombuffer(self.vectors[index], "<u8")
        )


def play(lost: dict[int, str], n: int = 5) -> tuple[World, RoundSum]:
    world = World(make_terms(n, slots=2), fault=losing(lost))
    assert world.setup().usable
    return world, world.round(1)


@settings(max_examples=12, **CHECKS)
@given(
    n=st.integers(4, 7),
    step=st.sampled_from(["share", "confirm", "masked", "unmask", "release", "never"]),
    data=st.data(),
)
def test_the_recomputed_sum_is_the_coordinator_s(n: int, step: str, data: st.DataObject) -> None:
    world = World(make_terms(n, slots=2))
    spare = n - max(world.terms.threshold, world.terms.n_min)
    lost = data.draw(st.lists(st.integers(1, n), max_size=spare, unique=True))
    world.fault = losing(dict.fromkeys(lost, step))
    assert world.setup().usable
    result = world.round(1)
    assert np.array_equal(Auditor(world, result).recompute(), result.vector)


@pytest.fixture(scope="module")
def with_a_loss() -> Auditor:
    return Auditor(*play({3: "masked"}))


@pytest.fixture(scope="module")
def without_loss() -> Auditor:
    return Auditor(*play({}))


@settings(max_examples=150, **CHECKS)
@given(
    part=st.sampled_from(["setup", "evidence"]),
    lossy=st.booleans(),
    position=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_of_what_is_published_is_found(
    with_a_loss: Auditor,
    without_loss: Auditor,
    part: str,
    lossy: bool,
    position: float,
    bit: int,
) -> None:
    auditor = with_a_loss if lossy else without_loss
    whole = getattr(auditor, part)
    altered = bytearray(whole)
    altered[int(position * len(whole))] ^= 1 << bit
    setattr(auditor, part, bytes(altered))
    try:
        with pytest.raises((VerificationError, TooFew)):
            auditor.recompute()
    finally:
        setattr(auditor, part, whole)


def changed(auditor: Auditor, **changes: object) -> Auditor:
    """Return the auditor with a part of the round's evidence replaced."""
    other = object.__new__(Auditor)
    other.__dict__.update(auditor.__dict__)
    other.evidence = replace(RoundEvidence.decode(auditor.evidence), **changes).encode()
    return other


class TestALyingPublisher:
    """Whole messages that are all well signed, put together into another story."""

    def test_too_few_shares(self, without_loss: Auditor) -> None:
        answers = RoundEvidence.decode(without_loss.evidence).answers
        fewer = changed(without_loss, answers=answers[: without_loss.terms.threshold - 1])
        with pytest.raises(TooFew):
            fewer.recompute()

    def test_a_survivor_left_out(self, without_loss: Auditor) -> None:
        headers = RoundEvidence.decode(without_loss.evidence).headers
        without = changed(without_loss, headers=headers[:-1])
        without.survivors = without.survivors[:-1]
        with pytest.raises(BadSignature, match="release-reply"):
            without.recompute()  # who leaves somebody out needs a certificate and other answers

    def test_another_model_than_the_members_were_shown(self, without_loss: Auditor) -> None:
        other = changed(without_loss)
        other.request = replace(other.request, model_sha256=b"m" * 32)
        with pytest.raises(BadUpload, match="another view"):
            other.recompute()

    def test_another_config(self, without_loss: Auditor) -> None:
        other = changed(without_loss)
        other.request = replace(other.request, config=b"epochs=100")
        with pytest.raises(BadUpload, match="another view"):
            other.recompute()

    def test_the_record_of_another_slot(self) -> None:
        world, result = play({3: "masked"})
        auditor = Auditor(world, result)
        other_slot = world.coordinator._setup.records[3][1]
        with pytest.raises(InconsistentDealer, match="record"):
            changed(auditor, records=((3, other_slot),)).recompute()

    def test_no_record_of_the_lost_member(self, with_a_loss: Auditor) -> None:
        with pytest.raises(BadMessage, match="records"):
            changed(with_a_loss, records=()).recompute()

    def test_the_answers_of_the_next_round(self) -> None:
        world, first = play({})
        second = world.round(2)
        with pytest.raises(BadMessage, match="another set"):
            changed(Auditor(world, first), answers=second.evidence.answers).recompute()

    def test_another_vector(self, without_loss: Auditor) -> None:
        """Its hash would not be the signed one; and without that check no sum would come of it."""
        other = changed(without_loss)
        setup = verify_setup(other.terms, SetupEvidence.decode(other.setup))
        published = PublishedRound(
            other.request, other.survivors, RoundEvidence.decode(other.evidence)
        )
        words = np.frombuffer(other.vectors[2], "<u8").astype(np.uint64)
        words[0] += np.uint64(1)
        vectors = {**{u: np.frombuffer(v, "<u8") for u, v in other.vectors.items()}, 2: words}
        with pytest.raises(SumRejected, match="canaries"):
            recompute_sum(published, open_masks(setup, published), vectors.__getitem__)
