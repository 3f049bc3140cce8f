"""The negative checklist: slots and masked vectors, each wrong in one way."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import TouchstoneError
from shared.secagg import Member, wire
from shared.secagg.errors import (
    BadMessage,
    BadUpload,
    BadVector,
    OutOfOrder,
    RequestChanged,
    SlotClosed,
    SlotsUsedUp,
    SumRejected,
    UnmaskRefused,
    ViewMismatch,
)
from shared.secagg.member_state import CELL
from tests.support.secagg import MODEL, World, identity, losing
from tests.support.secagg_stages import EVERYBODY, masked, ready, unmask_for


class TestSlots:
    def test_a_slot_is_never_reused_or_lowered(self) -> None:
        world = ready(slots=4)
        member = world.nodes[1].member
        world.nodes[1].train(masked(world, 2))
        for slot in (0, 1):
            with pytest.raises(SlotClosed):
                member.open_round(masked(world, slot), MODEL)
        with pytest.raises(RequestChanged):
            member.open_round(masked(world, 2, config=b"other"), MODEL)
        with pytest.raises(ViewMismatch):
            member.open_round(masked(world, 4), MODEL)
        assert not any(member._me.state.own[: 6 * CELL])
        assert any(member._me.state.own[6 * CELL :])

    def test_the_same_request_gets_the_same_bytes_and_never_a_second_mask(self) -> None:
        world = ready()
        node = world.nodes[1]
        first = node.train(masked(world))
        assert node.train(masked(world)) == first
        with pytest.raises(OutOfOrder):
            node.member.mask(np.ones(world.layout.words, dtype=np.uint64))

    def test_a_slot_whose_stored_answer_is_gone_is_lost(self) -> None:
        world = ready()
        node = world.nodes[1]
        node.train(masked(world))
        with pytest.raises(SlotClosed):
            node.member.restore_upload(np.zeros(world.layout.words, dtype=np.uint64))
        node.persist()
        node.restart()
        with pytest.raises(SlotClosed):
            node.member.open_round(masked(world), MODEL)
        with pytest.raises(UnmaskRefused):
            node.member.handle(unmask_for(world, EVERYBODY))
        node.train(masked(world, 1))

    def test_slots_run_out_with_a_typed_error(self) -> None:
        world = ready(slots=1)
        world.round(1)
        assert world.coordinator.slots_left == 0
        with pytest.raises(SlotsUsedUp):
            world.collect(2)

    @pytest.mark.parametrize(
        "vector",
        [
            np.ones(5, dtype=np.uint64),
            np.ones(7, dtype=np.int64),
            np.ones((7, 1), dtype=np.uint64),
            np.zeros(7, dtype=np.uint64),
            np.ones(14, dtype=np.uint64)[::2],
        ],
        ids=["short", "signed", "matrix", "no canaries", "strided"],
    )
    def test_an_unusable_vector_is_refused_and_the_slot_stays_open(self, vector) -> None:
        world = ready()
        assert world.layout.words == 7
        world.nodes[1].member.open_round(masked(world), MODEL)
        with pytest.raises(BadVector):
            world.nodes[1].member.mask(vector)
        world.nodes[1].train(masked(world))

    @pytest.mark.parametrize(
        "changes",
        [
            {"participants": (2, 3, 4, 5)},
            {"participants": (1, 2, 3, 9)},
            {"model_sha256": bytes(32)},
            {"quantiser": b""},
        ],
        ids=["without me", "stranger", "other model", "no quantiser"],
    )
    def test_a_contradictory_round_names_the_coordinator(self, changes) -> None:
        world = ready()
        with pytest.raises(ViewMismatch) as caught:
            world.nodes[1].member.open_round(masked(world, **changes), MODEL)
        assert caught.value.culprit == 0

    @pytest.mark.parametrize("participants", [(1, 2, 2, 3, 4), (5, 4, 3, 2, 1), (0, 1, 2, 3, 4)])
    def test_a_repeated_or_unordered_or_zero_index_is_malformed(self, participants) -> None:
        world = ready()
        with pytest.raises(BadMessage):
            world.nodes[1].member.open_round(masked(world, participants=participants), MODEL)


class TestUploads:
    def opened(self) -> tuple[World, bytes, np.ndarray]:
        world = ready()
        world.fault = losing(dict.fromkeys(EVERYBODY, "masked"))
        request = world.collect(1)
        world.fault = losing({})
        header, data = world.nodes[1].train(request)
        return world, header, np.frombuffer(data, "<u8").astype(np.uint64)

    @pytest.mark.parametrize("change", ["flip", "short", "type", "sender", "outsider"])
    def test_a_bad_upload_leaves_no_trace(self, change: str) -> None:
        world, header, vector = self.opened()
        wrong = vector.copy()
        wrong[3] ^= np.uint64(1)
        index, given = {
            "flip": (1, wrong),
            "short": (1, vector[:-1]),
            "type": (1, vector.astype(np.int64)),
            "sender": (2, vector),
            "outsider": (9, vector),
        }[change]
        with pytest.raises(TouchstoneError):
            world.coordinator.on_masked(index, header, given)
        assert world.coordinator.uploaded == ()
        assert not any(world.coordinator.accumulator())

    def test_an_upload_that_comes_twice_counts_once(self) -> None:
        world, header, vector = self.opened()
        world.coordinator.on_masked(1, header, vector)
        once = bytes(world.coordinator.accumulator())
        world.coordinator.on_masked(1, header, vector)
        assert bytes(world.coordinator.accumulator()) == once

    def test_a_second_vector_names_the_member(self) -> None:
        world, header, vector = self.opened()
        world.coordinator.on_masked(1, header, vector)
        other = wire.seal("masked-reply", world.terms, 1, b"x", identity(1))
        with pytest.raises(RequestChanged) as caught:
            world.coordinator.on_masked(1, other, vector)
        assert caught.value.culprit == 1

    def test_a_header_of_another_round_names_the_member(self) -> None:
        world, header, vector = self.opened()
        body = bytearray(wire.verified_body(header))
        body[0] ^= 1
        other = wire.seal("masked-reply", world.terms, 1, bytes(body), identity(1))
        with pytest.raises(BadUpload) as caught:
            world.coordinator.on_masked(1, other, vector)
        assert caught.value.culprit == 1

    def test_garbage_from_a_member_spoils_the_sum_but_never_passes_for_one(self) -> None:
        world = ready()
        real = Member.mask

        def garbage(member, vector):
            upload = real(member, vector)
            if member.index == 2:
                upload.vector[:] = np.arange(vector.size, dtype=np.uint64)
                digest = hashlib.sha256(upload.vector.tobytes()).digest()
                body = wire.verified_body(upload.header)
                body = body[:32] + digest + body[64:]
                header = wire.seal("masked-reply", world.terms, 2, body, identity(2))
                return replace(upload, header=header)
            return upload

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Member, "mask", garbage)
            world.collect(1)
        with pytest.raises(SumRejected):
            world.unmask()
        assert not world.coordinator.round_open
