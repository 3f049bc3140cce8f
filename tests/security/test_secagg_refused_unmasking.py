"""The negative checklist: bitmaps, certificates and thresholds, each wrong in one way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.secagg import wire
from shared.secagg.errors import (
    BadMessage,
    BadShare,
    BadSignature,
    OutOfOrder,
    RequestChanged,
    TermsRefused,
    TooFew,
    UnmaskRefused,
)
from shared.secagg.round_messages import ReleaseRequest, Reveal, SurvivorSet
from tests.support.secagg import MODEL, World, forge, identity, losing
from tests.support.secagg_stages import EVERYBODY, masked, ready, slot_of, unmask_for


class TestUnmasking:
    def collected(self) -> World:
        world = ready()
        world.collect(1)
        return world

    @pytest.mark.parametrize("alive", [(2, 3, 4, 5), (1, 2, 3)], ids=["own bit", "too many lost"])
    def test_a_survivor_set_without_me_or_too_small_is_refused(self, alive) -> None:
        world = self.collected()
        with pytest.raises((UnmaskRefused, TermsRefused)):
            world.nodes[1].member.handle(unmask_for(world, alive))

    @pytest.mark.parametrize("bitmap", [b"", b"\x3f", b"\xff", b"\x1f\0"])
    def test_a_bitmap_that_does_not_fit_is_refused(self, bitmap: bytes) -> None:
        world = self.collected()
        claim = SurvivorSet(slot_of(world).t2, bitmap)
        with pytest.raises(UnmaskRefused):
            world.nodes[1].member.handle(forge(world, wire.UNMASK, claim.encode()))

    def test_t2_of_another_slot_is_refused(self) -> None:
        world = self.collected()
        old = slot_of(world).t2
        world.coordinator.abandon_slot()
        world.collect(1)
        with pytest.raises(UnmaskRefused):
            world.nodes[1].member.handle(unmask_for(world, EVERYBODY, t2=old))

    def test_a_member_that_has_not_masked_says_nothing(self) -> None:
        world = ready()
        world.nodes[1].member.open_round(masked(world), MODEL)
        with pytest.raises(UnmaskRefused):
            world.nodes[1].member.handle(unmask_for(world, EVERYBODY))
        with pytest.raises(OutOfOrder):
            world.nodes[2].member.handle(unmask_for(world, EVERYBODY))

    @pytest.mark.parametrize("first", [(1, 2, 3, 4), EVERYBODY])
    def test_a_bitmap_changed_after_the_answer_is_refused_even_after_a_restart(self, first) -> None:
        world = self.collected()
        node = world.nodes[1]
        node.answer(unmask_for(world, first))
        node.restart()
        for other in ((1, 2, 3, 5), (1, 2, 3, 4), EVERYBODY):
            if other == first:
                assert node.answer(unmask_for(world, other))
                continue
            with pytest.raises((UnmaskRefused, RequestChanged)):
                node.answer(unmask_for(world, other))

    def release(self, world: World, signers, *, alive=(1, 2, 3, 4), body: bytes = b"") -> bytes:
        claim = SurvivorSet.of(slot_of(world).t2, EVERYBODY, alive)
        signed = [
            (
                i,
                wire.signature_of(
                    wire.seal(wire.SURVIVORS, world.terms, i, body or claim.encode(), identity(i))
                ),
            )
            for i in signers
        ]
        return forge(world, wire.RELEASE, ReleaseRequest(claim, tuple(signed)).encode())

    @pytest.mark.parametrize(
        ("signers", "refusal"),
        [
            ((1, 2, 3), UnmaskRefused),
            ((1, 2, 3, 5), UnmaskRefused),
            ((1, 2, 3, 9), UnmaskRefused),
            ((1, 2, 3, 3), BadMessage),
            ((4, 3, 2, 1), BadMessage),
        ],
        ids=["t - 1", "a lost member", "foreign", "repeated", "order"],
    )
    def test_a_certificate_that_is_short_is_refused(self, signers, refusal) -> None:
        world = self.collected()
        with pytest.raises(refusal):
            world.nodes[1].member.handle(self.release(world, signers))

    @pytest.mark.parametrize("first", [EVERYBODY, (1, 2, 3, 5)], ids=["shares", "signature"])
    def test_a_valid_certificate_for_another_set_than_answered_is_refused(self, first) -> None:
        """The heart of both-lists: t real signatures do not move who has spoken already."""
        world = self.collected()
        node = world.nodes[1]
        node.answer(unmask_for(world, first))
        node.restart()
        with pytest.raises(UnmaskRefused):
            node.answer(self.release(world, (1, 2, 3, 4)))
        # ... and a release fixes the set against later unmask requests as well.
        other = world.nodes[2]
        other.answer(self.release(world, (1, 2, 3, 4)))
        other.restart()
        with pytest.raises(UnmaskRefused):
            other.answer(unmask_for(world, EVERYBODY))

    def test_a_certificate_for_another_survivor_set_is_refused(self) -> None:
        world = self.collected()
        other = SurvivorSet.of(slot_of(world).t2, EVERYBODY, (1, 2, 3, 5)).encode()
        with pytest.raises(BadSignature):
            world.nodes[1].member.handle(self.release(world, (1, 2, 3, 4), body=other))

    def test_a_certificate_for_nobody_lost_is_refused(self) -> None:
        world = self.collected()
        with pytest.raises(UnmaskRefused):
            world.nodes[1].member.handle(self.release(world, EVERYBODY, alive=EVERYBODY))

    def test_the_right_certificate_is_enough_even_for_who_was_not_asked_to_sign(self) -> None:
        world = self.collected()
        assert world.nodes[1].answer(self.release(world, (1, 2, 3, 4)))
        assert world.nodes[1].guard.last_released_round == 1

    def test_signing_does_not_release_anything(self) -> None:
        world = self.collected()
        reply = world.nodes[1].answer(unmask_for(world, (1, 2, 3, 4)))
        assert wire.peek(reply).kind == wire.SURVIVORS
        assert wire.verified_body(reply) == SurvivorSet(slot_of(world).t2, b"\x0f").encode()
        assert world.nodes[1].guard.last_released_round == 0

    @pytest.mark.parametrize("lost", [{}, {5: "masked"}])
    def test_a_wrong_share_names_who_revealed_it_and_is_ignored(self, lost) -> None:
        world = ready(threshold=4)
        world.fault = losing(lost)
        world.collect(1)
        desk = world.coordinator
        survivors = desk.close_masked()
        step, take = "unmask", desk.on_unmask
        request = desk.unmask_request()
        if lost:
            for index in survivors:
                world.exchange("unmask", index, request, take)
            step, take, request = "release", desk.on_release, desk.release_request()
        reply = world.nodes[2].answer(request)
        reveal = Reveal.decode(wire.verified_body(reply))
        _, leaf = reveal.shares[0]
        bad = replace(reveal, shares=((bytes(32), leaf), *reveal.shares[1:]))
        kind = step + "-reply"
        with pytest.raises(BadShare) as caught:
            take(2, wire.seal(kind, world.terms, 2, bad.encode(), identity(2)))
        assert caught.value.culprit == 2
        short = replace(reveal, shares=reveal.shares[1:])
        with pytest.raises(BadMessage):
            take(2, wire.seal(kind, world.terms, 2, short.encode(), identity(2)))
        with pytest.raises(TooFew):
            desk.finish_round()
        for index in survivors:
            world.exchange(step, index, request, take)
        world.assert_exact(desk.finish_round())

    def test_a_stranger_or_lost_member_cannot_answer(self) -> None:
        world = ready()
        world.fault = losing({5: "masked"})
        world.collect(1)
        world.coordinator.close_masked()
        claim = world.coordinator._book.survivor_set()
        reply = wire.seal(wire.SURVIVORS, world.terms, 5, claim.encode(), identity(5))
        with pytest.raises(OutOfOrder):
            world.coordinator.on_unmask(5, reply)
        with pytest.raises(BadSignature):
            world.coordinator.on_unmask(1, reply)
        with pytest.raises(TooFew):
            world.coordinator.release_request()
