"""The negative checklist: what comes too early, twice or from nobody, and journals of another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import StateError, VerificationError
from shared.secagg import wire
from shared.secagg.coordinator_setup import attribute
from shared.secagg.errors import BadSignature, OutOfOrder, RequestChanged, TooFew
from shared.secagg.messages import decode_blobs, encode_blobs
from shared.secagg.round_messages import ReleaseRequest, SurvivorSet
from shared.secagg.setup_messages import decode_deliveries, encode_deliveries
from tests.support.secagg import MODEL, World, forge, losing, make_terms
from tests.support.secagg_stages import EVERYBODY, masked, ready, shared


class TestOrder:
    def test_every_step_out_of_turn_is_refused_on_both_sides(self) -> None:
        world = World(make_terms(5))
        member, desk = world.nodes[1].member, world.coordinator
        for call in (
            lambda: member.handle(forge(world, wire.SHARE, encode_blobs([]))),
            lambda: member.handle(forge(world, wire.CONFIRM, encode_deliveries([]))),
            lambda: member.handle(forge(world, wire.UNMASK, b"")),
            lambda: member.open_round(masked(world), MODEL),
            lambda: member.mask(np.ones(7, dtype=np.uint64)),
            lambda: desk.confirm_request(1),
            lambda: desk.finish_setup(),
            lambda: desk.on_masked(1, b"", np.ones(7, dtype=np.uint64)),
            lambda: desk.close_masked(),
            lambda: desk.unmask_request(),
            lambda: desk.finish_round(),
            lambda: desk.open_round(1, EVERYBODY, bytes(32), b"", 7),
        ):
            with pytest.raises(StateError):
                call()
        with pytest.raises(TooFew):
            desk.share_request()
        assert world.setup().usable

    def test_a_request_repeated_with_one_byte_changed_is_refused(self) -> None:
        world = shared()
        request = bytearray(world.coordinator.share_request())
        request[-1] ^= 1
        with pytest.raises(BadSignature):
            world.nodes[1].member.handle(bytes(request))
        messages = decode_blobs(wire.verified_body(bytes(request)))[:4]
        with pytest.raises(RequestChanged):
            world.nodes[1].member.handle(forge(world, wire.SHARE, encode_blobs(messages)))
        good = world.coordinator.share_request()
        assert world.nodes[1].member.handle(good) == world.log["share", 1]

    def test_a_confirm_request_repeated_with_other_bytes_is_refused(self) -> None:
        world = shared()
        node = world.nodes[1]
        good, unanswered = world.coordinator.confirm_request(1), replace(node.disk)
        reply = node.answer(good)
        deliveries = dict(decode_deliveries(wire.verified_body(good)))
        del deliveries[5]  # four dealers are enough, so these bytes would do as a first request
        other = forge(world, wire.CONFIRM, encode_deliveries(sorted(deliveries.items())))
        before = node.member.dump()
        with pytest.raises(RequestChanged) as caught:
            node.answer(other)
        assert caught.value.culprit == 0
        assert node.member.dump() == before
        assert node.answer(good) == reply
        node.disk = unanswered
        node.restart()
        assert node.answer(other)

    def test_a_release_request_repeated_with_other_bytes_is_refused(self) -> None:
        """The same set, another certificate for it that is as good."""
        world = World(make_terms(6, colluders=0, threshold=4, n_min=4), fault=losing({6: "masked"}))
        assert world.setup().usable
        world.collect(1)
        world.coordinator.close_masked()
        claim = world.coordinator._book.survivor_set()
        signed = {}
        for index in (1, 2, 3, 4, 5):
            reply = world.nodes[index].answer(world.coordinator.unmask_request())
            signed[index] = wire.signature_of(reply)

        def certificate(*signers: int) -> bytes:
            chosen = tuple((i, signed[i]) for i in signers)
            return forge(world, wire.RELEASE, ReleaseRequest(claim, chosen).encode())

        node = world.nodes[1]
        reply = node.answer(certificate(1, 2, 3, 4))
        for restarted in (False, True):
            if restarted:
                node.restart()
            with pytest.raises(RequestChanged) as caught:
                node.answer(certificate(1, 2, 3, 5))
            assert caught.value.culprit == 0
            assert node.answer(certificate(1, 2, 3, 4)) == reply
        assert world.nodes[2].answer(certificate(1, 2, 3, 5))

    def test_late_members_are_kept_out_of_a_closed_step(self) -> None:
        world = World(make_terms(5))
        desk = world.coordinator
        for index in (1, 2, 3, 4):
            world.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
        desk.share_request()
        late = world.nodes[5].answer(desk.advertise_request())
        with pytest.raises(OutOfOrder):
            desk.on_advertise(5, late)
        assert desk.advertised == (1, 2, 3, 4)

    def test_a_wiped_member_answers_nothing_and_holds_nothing(self) -> None:
        world = ready()
        member = world.nodes[1].member
        member.wipe()
        assert member.closed
        with pytest.raises(OutOfOrder):
            member.open_round(masked(world), MODEL)
        state = member._me.state
        assert not any(state.own)
        assert not any(any(row) for row in [*state.shares.values(), *state.seeds.values()])


class TestAttribution:
    def test_a_liar_cannot_have_an_honest_member_named_alone(self) -> None:
        assert attribute([(5, 1)], 1) == ((), (1, 5))
        assert attribute([(5, 1), (5, 2)], 1) == ((5,), (5,))
        assert attribute([(1, 5), (2, 5), (5, 3)], 1) == ((5,), (5,))
        assert attribute([(6, 1), (7, 1)], 2) == ((), (1, 6, 7))
        assert attribute([], 1) == ((), ())


class TestJournal:
    def test_a_damaged_journal_is_refused(self) -> None:
        world = ready()
        world.fault = losing({5: "masked"})
        world.collect(1)
        world.coordinator.close_masked()
        world.save("accumulator", "round")
        good = dict(world.journal)
        for name, value in (
            ("accumulator", b""),
            ("accumulator", bytes(len(good["accumulator"]))),
            ("round", good["round"][:-1]),
            ("setup", good["setup"][:-1]),
            ("setup", good["setup"].replace(good["setup"][500:510], bytes(10))),
        ):
            world.journal = {**good, name: value}
            with pytest.raises(VerificationError):
                world.restart_desk()
        world.journal = good
        world.restart_desk()
        world.assert_exact(world.unmask())

    def test_an_open_round_is_abandoned_and_its_slot_never_used_again(self) -> None:
        world = ready()
        world.collect(1)
        world.restart_desk()
        assert not world.coordinator.round_open
        assert world.coordinator.slots_left == 1
        result = world.round(1)
        assert result.slot == 1
        world.assert_exact(result)

    def test_facts_and_witness_of_a_round_agree_with_its_sum(self) -> None:
        world = ready()
        assert world.coordinator.open_survivors == ()
        world.fault = losing({5: "masked"})
        world.collect(1)
        assert world.nodes[1].member.answered_round() is None
        desk = world.coordinator
        survivors = desk.close_masked()
        facts = desk.round_facts()
        assert facts.survivors == desk.open_survivors == survivors == (1, 2, 3, 4)
        assert facts.certificate == ()
        result = world.unmask()
        assert (facts.slot, facts.t2, facts.participants, facts.digests) == (
            result.slot,
            result.t2,
            result.participants,
            result.digests,
        )
        claim = SurvivorSet(result.t2, result.bitmap).encode()
        assert len(result.certificate) == world.terms.threshold
        for index, signature in result.certificate:
            signed = wire.signed_bytes(wire.SURVIVORS, world.terms, index, claim)
            wire.verify(world.terms.key_of(index), signature, signed, index)
        for index, digest in result.digests:
            told = world.nodes[index].member.answered_round()
            assert told is not None
            assert (told.t2, told.bitmap, told.vector_sha256) == (result.t2, result.bitmap, digest)
        assert hashlib.sha256(result.vector.tobytes()).digest() == result.sum_sha256
        with pytest.raises(OutOfOrder):
            desk.round_facts()
