"""The negative checklist: every malformed or dishonest message is refused, and named if it can be.

In the spirit of the tests of Google's secure aggregation: keys, boxes, shares, bitmaps,
certificates, slots and thresholds, each wrong in one way.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from shared.encoding import Writer
from shared.errors import MalformedMessage, StateError, TouchstoneError, VerificationError
from shared.limits import MAX_GROUP
from shared.secagg import Coordinator, Member, RunGuard, keys, member_setup, wire
from shared.secagg.coordinator_setup import attribute
from shared.secagg.errors import (
    BadKey,
    BadMessage,
    BadShare,
    BadSignature,
    BadUpload,
    BadVector,
    InconsistentDealer,
    OutOfOrder,
    RequestChanged,
    SlotClosed,
    SlotsUsedUp,
    SumRejected,
    TermsRefused,
    TooFew,
    UnmaskRefused,
    ViewMismatch,
)
from shared.secagg.member_state import CELL
from shared.secagg.messages import decode_blobs, encode_blobs
from shared.secagg.round_messages import (
    MaskedRequest,
    ReleaseRequest,
    Reveal,
    SurvivorSet,
)
from shared.secagg.setup_messages import (
    Advertisement,
    Delivery,
    Part,
    ShareBundle,
    ShareCore,
    decode_deliveries,
    encode_deliveries,
)
from tests.support.secagg import (
    CONFIG,
    MODEL,
    World,
    forge,
    identity,
    limits_for,
    losing,
    make_terms,
)

EVERYBODY = (1, 2, 3, 4, 5)


def advertised() -> World:
    world = World(make_terms(5))
    desk = world.coordinator
    for index in EVERYBODY:
        world.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
    return world


def shared() -> World:
    world = advertised()
    desk = world.coordinator
    request = desk.share_request()
    for index in EVERYBODY:
        world.exchange("share", index, request, desk.on_share)
    return world


def ready(**terms: object) -> World:
    world = World(make_terms(5, **terms))  # type: ignore[arg-type]
    assert world.setup().usable
    return world


def masked(world: World, slot: int = 0, **changes: object) -> bytes:
    values: dict[str, object] = {
        "round": 1,
        "slot": slot,
        "participants": EVERYBODY,
        "model_sha256": hashlib.sha256(MODEL).digest(),
        "config": CONFIG,
        "words": world.layout.words,
        "quantiser": world.terms.quantiser.encode(),
        **changes,
    }
    return forge(world, wire.MASKED, MaskedRequest(**values).encode())  # type: ignore[arg-type]


def slot_of(world: World, index: int = 1):
    return world.nodes[index].member._me.state.slot


def unmask_for(world: World, alive: tuple[int, ...], *, t2: bytes | None = None) -> bytes:
    claim = SurvivorSet.of(t2 or slot_of(world).t2, EVERYBODY, alive)
    return forge(world, wire.UNMASK, claim.encode())


class TestKeys:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            bytes(X := 32),
            bytes(X + 1184),
            bytes(X + 1185),
            bytes(X + 1183),
            (1).to_bytes(32, "little") + bytes(1184),
        ],
        ids=["empty", "short", "zero", "long", "one less", "low order"],
    )
    def test_a_key_that_is_malformed_or_of_low_order_names_its_owner(self, body: bytes) -> None:
        world = World(make_terms(5))
        reply = wire.seal("advertise-reply", world.terms, 2, body, identity(2))
        with pytest.raises((BadMessage, BadKey)) as caught:
            world.coordinator.on_advertise(2, reply)
        assert caught.value.culprit == 2
        assert world.coordinator.advertised == ()

    def test_a_low_order_key_beside_a_good_one_is_refused(self) -> None:
        world = advertised()
        good = Advertisement.decode(wire.verified_body(world.log["advertise", 1]))
        weak = Advertisement(bytes(32), good.kem)
        fresh = World(make_terms(5))
        reply = wire.seal("advertise-reply", fresh.terms, 2, weak.encode(), identity(2))
        with pytest.raises(BadKey):
            fresh.coordinator.on_advertise(2, reply)

    def test_a_copied_key_names_the_copier(self) -> None:
        world = World(make_terms(5))
        desk = world.coordinator
        world.exchange("advertise", 1, desk.advertise_request(), desk.on_advertise)
        body = wire.verified_body(world.log["advertise", 1])
        copy = wire.seal("advertise-reply", world.terms, 2, body, identity(2))
        with pytest.raises(BadKey) as caught:
            desk.on_advertise(2, copy)
        assert caught.value.culprit == 2

    def test_members_refuse_a_repeated_key_that_the_coordinator_lets_pass(self) -> None:
        world = advertised()
        messages = list(decode_blobs(wire.verified_body(world.coordinator.share_request())))
        body = wire.verified_body(messages[2])
        messages[3] = wire.seal("advertise-reply", world.terms, 4, body, identity(4))
        with pytest.raises(BadKey) as caught:
            world.nodes[1].member.handle(forge(world, wire.SHARE, encode_blobs(messages)))
        assert caught.value.pair == (3, 4)

    @pytest.mark.parametrize("change", ["omit own", "duplicate", "too few", "order", "stranger"])
    def test_a_wrong_list_of_keys_names_the_coordinator(self, change: str) -> None:
        world = advertised()
        good = list(decode_blobs(wire.verified_body(world.coordinator.share_request())))
        messages = {
            "omit own": good[1:],
            "duplicate": [good[0], good[0], *good[1:]],
            "too few": good[:3],
            "order": good[::-1],
            "stranger": [*good, wire.seal("advertise-reply", world.terms, 9, b"", identity(9))],
        }[change]
        with pytest.raises((ViewMismatch, TermsRefused)) as caught:
            world.nodes[1].member.handle(forge(world, wire.SHARE, encode_blobs(messages)))
        assert caught.value.culprit in (0, None)

    def test_more_keys_than_a_group_has_are_refused_before_any_is_read(self) -> None:
        world = advertised()
        good = decode_blobs(wire.verified_body(world.coordinator.share_request()))
        for count in (MAX_GROUP + 1, 0xFFFFFFFF):
            body = count.to_bytes(4, "big") + encode_blobs(good * 14)[4:]
            with pytest.raises(BadMessage) as caught:
                world.nodes[1].member.handle(forge(world, wire.SHARE, body))
            assert caught.value.culprit == 0
            assert "limit" in caught.value.message

    def test_keys_of_another_session_are_refused(self) -> None:
        world = advertised()
        other = World(make_terms(5, ordinal=2))
        desk = other.coordinator
        other.exchange("advertise", 3, desk.advertise_request(), desk.on_advertise)
        with pytest.raises(BadSignature):
            World(make_terms(5)).coordinator.on_advertise(3, other.log["advertise", 3])
        with pytest.raises(BadSignature):
            world.nodes[1].member.handle(desk.advertise_request())

    def test_terms_that_differ_from_the_manifest_are_refused(self) -> None:
        world = World(make_terms(5))
        with pytest.raises(ViewMismatch):
            world.nodes[1].member.handle(forge(world, wire.ADVERTISE, bytes(32)))


class TestBoxes:
    def swap(self, world: World, to: int, change) -> bytes:
        body = wire.verified_body(world.coordinator.confirm_request(to))
        deliveries = dict(decode_deliveries(body))
        change(deliveries)
        return forge(world, wire.CONFIRM, encode_deliveries(sorted(deliveries.items())))

    @pytest.mark.parametrize(
        "change",
        ["drop many", "drop own", "swap boxes", "flip box", "no box", "own box", "stale core"],
    )
    def test_what_only_the_coordinator_can_have_done_names_it(self, change: str) -> None:
        world = shared()
        other = shared()

        def edit(deliveries: dict[int, Delivery]) -> None:
            two, three = deliveries[2], deliveries[3]
            assert two.part
            assert three.part
            if change == "drop many":
                del deliveries[2], deliveries[3]
            elif change == "drop own":
                del deliveries[1]
            elif change == "swap boxes":
                deliveries[2], deliveries[3] = replace(two, part=three.part), three
            elif change == "flip box":
                box = bytes([two.part.box[0] ^ 1]) + two.part.box[1:]
                deliveries[2] = replace(two, part=replace(two.part, box=box))
            elif change == "no box":
                deliveries[2] = replace(two, part=None)
            elif change == "own box":
                deliveries[1] = replace(deliveries[1], part=two.part)
            else:
                stolen = decode_deliveries(wire.verified_body(other.coordinator.confirm_request(1)))
                deliveries[2] = stolen[2]

        with pytest.raises((ViewMismatch, TermsRefused)) as caught:
            world.nodes[1].member.handle(self.swap(world, 1, edit))
        assert caught.value.culprit in (0, None)
        assert not world.nodes[1].member.closed

    def test_a_box_of_a_stranger_is_refused(self) -> None:
        world = shared()

        def edit(deliveries: dict[int, Delivery]) -> None:
            core = wire.seal("share-core", world.terms, 9, b"", identity(9))
            deliveries[9] = Delivery(core, deliveries[2].part)

        with pytest.raises(ViewMismatch):
            world.nodes[1].member.handle(self.swap(world, 1, edit))

    def resign(self, world: World, dealer: int, edit) -> bytes:
        """A cheating dealer: change its parts and sign the result."""
        bundle = ShareBundle.decode(world.log["share", dealer])
        parts = tuple((v, edit(v, part)) for v, part in bundle.parts)
        core = ShareCore.decode(wire.verified_body(bundle.core))
        core = replace(core, digests=tuple((v, part.digest(dealer, v)) for v, part in parts))
        signed = wire.seal("share-core", world.terms, dealer, core.encode(), identity(dealer))
        world.nodes[dealer].member._me.state.core = signed
        return replace(bundle, core=signed, parts=parts).encode()

    def cheat(self, edit, dealer: int = 2) -> World:
        world = advertised()
        desk = world.coordinator
        request = desk.share_request()
        for index in EVERYBODY:
            world.exchange("share", index, request, lambda *_: None)
            reply = world.log["share", index]
            desk.on_share(index, self.resign(world, index, edit) if index == dealer else reply)
        for index in desk.dealers:
            world.exchange("confirm", index, desk.confirm_request(index), desk.on_confirm)
        return world

    @staticmethod
    def spoil(victims: tuple[int, ...]):
        def edit(v: int, part: Part) -> Part:
            if v not in victims:
                return part
            return replace(part, box=part.box[:-1] + bytes([part.box[-1] ^ 1]))

        return edit

    def test_a_box_that_does_not_open_is_a_complaint_that_names_the_pair(self) -> None:
        world = self.cheat(self.spoil((4,)))
        outcome = world.coordinator.finish_setup()
        assert not outcome.usable
        assert outcome.complaints == ((4, 2),)
        assert outcome.culprits == ()
        assert outcome.excluded == (2, 4)
        assert world.nodes[4].member.closed
        with pytest.raises(OutOfOrder):
            world.coordinator.open_round(1, EVERYBODY, bytes(32), b"", 10)
        with pytest.raises(OutOfOrder):
            world.coordinator.dump_setup()

    def test_a_dealer_that_cheats_more_than_m_members_is_named_alone(self) -> None:
        world = self.cheat(self.spoil((3, 4)))
        outcome = world.coordinator.finish_setup()
        assert outcome.complaints == ((3, 2), (4, 2))
        assert outcome.culprits == outcome.excluded == (2,)

    @pytest.mark.parametrize("field", ["share_hashes", "pair_hashes"])
    def test_shares_or_seeds_that_miss_their_hashes_are_a_complaint(self, field: str) -> None:
        def edit(v: int, part: Part) -> Part:
            if v != 5:
                return part
            value = getattr(part, field)
            return replace(part, **{field: bytes([value[0] ^ 1]) + value[1:]})

        outcome = self.cheat(edit).coordinator.finish_setup()
        assert outcome.complaints == ((5, 2),)

    def test_a_complaint_is_repeated_but_the_session_stays_closed(self) -> None:
        world = self.cheat(self.spoil((4,)))
        member = world.nodes[4].member
        request = world.coordinator.confirm_request(4)
        assert member.handle(request) == world.log["confirm", 4]
        with pytest.raises(OutOfOrder):
            member.open_round(masked(world), MODEL)

    @pytest.mark.parametrize("blamed", [(), (4,), (9,), (3, 2)])
    def test_a_complaint_about_nobody_or_oneself_names_the_complainer(self, blamed) -> None:
        world = shared()
        world.coordinator.confirm_request(4)
        body = Writer().u32s(blamed).done()
        with pytest.raises(BadMessage) as caught:
            world.coordinator.on_confirm(
                4, wire.seal(wire.COMPLAINT, world.terms, 4, body, identity(4))
            )
        assert caught.value.culprit == 4

    @pytest.mark.parametrize("change", ["fewer", "long", "hashes", "view", "digest", "core"])
    def test_a_share_message_that_contradicts_itself_names_the_dealer(self, change: str) -> None:
        world = advertised()
        desk = world.coordinator
        request = desk.share_request()
        world.exchange("share", 2, request, lambda *_: None)
        good = ShareBundle.decode(world.log["share", 2])
        core = ShareCore.decode(wire.verified_body(good.core))

        def sign(value: ShareCore) -> bytes:
            return wire.seal("share-core", world.terms, 2, value.encode(), identity(2))

        long = tuple((v, replace(part, box=part.box + b"\0")) for v, part in good.parts)
        bad = {
            "fewer": replace(good, parts=good.parts[:-1]),
            "long": replace(
                good,
                parts=long,
                core=sign(replace(core, digests=tuple((v, p.digest(2, v)) for v, p in long))),
            ),
            "hashes": replace(good, self_hashes=bytes(len(good.self_hashes))),
            "view": replace(good, core=sign(replace(core, t1=bytes(32)))),
            "digest": replace(good, parts=((1, good.parts[1][1]), *good.parts[1:])),
            "core": replace(good, core=wire.seal("share-core", world.terms, 2, b"", identity(3))),
        }[change]
        with pytest.raises(VerificationError) as caught:
            desk.on_share(2, bad.encode())
        assert caught.value.culprit == 2
        desk.on_share(2, good.encode())

    def test_a_confirmation_of_another_view_names_the_member(self) -> None:
        world = shared()
        world.coordinator.confirm_request(4)
        body = Writer().fixed(bytes(32), 32).blob(encode_blobs([b""] * 2)).done()
        with pytest.raises(BadMessage) as caught:
            world.coordinator.on_confirm(
                4, wire.seal("confirm-reply", world.terms, 4, body, identity(4))
            )
        assert caught.value.culprit == 4


class TestDealers:
    """A dealer whose shares match their hashes but not its commitments."""

    def cheating_world(self, monkeypatch: pytest.MonkeyPatch, lost: dict[int, str]) -> World:
        real = member_setup.deal

        def crooked(secret, points, threshold, *rest):
            shares = real(secret, points, threshold, *rest)
            if crooked.dealer == 2:
                shares[0] = (shares[0] + 1) % (1 << 255)
            return shares

        monkeypatch.setattr(member_setup, "deal", crooked)
        world = World(make_terms(5))
        desk = world.coordinator
        for index in EVERYBODY:
            world.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
        request = desk.share_request()
        for index in EVERYBODY:
            crooked.dealer = index
            world.exchange("share", index, request, desk.on_share)
        for index in EVERYBODY:
            world.exchange("confirm", index, desk.confirm_request(index), desk.on_confirm)
        assert desk.finish_setup().usable
        world.fault = losing(lost)
        return world

    @pytest.mark.parametrize("lost", [{}, {2: "masked"}, {5: "masked"}])
    def test_an_inconsistent_dealer_is_named_and_the_round_is_burnt(
        self, monkeypatch: pytest.MonkeyPatch, lost: dict[int, str]
    ) -> None:
        world = self.cheating_world(monkeypatch, lost)
        world.collect(1)
        with pytest.raises(InconsistentDealer) as caught:
            world.unmask()
        assert caught.value.culprit == 2
        world.coordinator.abandon_slot()
        assert not world.coordinator.round_open

    @pytest.mark.parametrize("victim", [1, 3, 5])
    def test_wrong_records_name_who_made_them(self, victim: int, monkeypatch) -> None:
        real = member_setup._records

        def crooked(state):
            records = real(state)
            if state.index != victim or victim == 1:
                return records
            rho = int.from_bytes(state.own[CELL : 2 * CELL], "big")
            cells = bytes(CELL * (victim - 1))
            context = member_setup.record_context(state.t1c, victim, 0)
            fake = keys.encrypt(keys.recovery_key(rho, state.t1c), cells, context)
            return (fake, *records[1:])

        monkeypatch.setattr(member_setup, "_records", crooked)
        world = ready()
        world.fault = losing({victim: "masked"})
        if victim == 1:  # no lower peer: nothing to lie about
            world.assert_exact(world.round(1))
            return
        with pytest.raises(InconsistentDealer) as caught:
            world.round(1)
        assert caught.value.culprit == victim


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


class TestTerms:
    @pytest.mark.parametrize(
        "changes",
        [
            {"threshold": 3},
            {"threshold": 6},
            {"threshold": 4, "n_min": 3},
            {"n_min": 6},
            {"slots": 0},
            {"slots": 1000},
            {"ordinal": 0},
            {"run_id": b"short"},
            {"max_colluders": 3},
            {"max_colluders": -1},
            {"listed": ()},
        ],
    )
    def test_unsafe_terms_are_refused(self, changes) -> None:
        with pytest.raises(TermsRefused):
            replace(make_terms(5), **changes).validate()

    def test_a_threshold_from_a_shorter_list_is_refused(self) -> None:
        """t fit for the 4 members that happen to be there, with 7 listed."""
        seven, four = make_terms(7, colluders=1), make_terms(4, colluders=1)
        with pytest.raises(TermsRefused):
            replace(seven, threshold=four.threshold, n_min=four.n_min).validate()

    def test_a_listed_index_is_never_zero_repeated_or_unordered(self) -> None:
        terms = make_terms(5)
        one, two, *rest = terms.listed
        for listed in (
            ((0, one[1]), two, *rest),
            (one, one, two, *rest),
            (two, one, *rest),
            (one, (2, one[1]), *rest),
        ):
            with pytest.raises(TermsRefused):
                replace(terms, listed=tuple(listed)).validate()

    def test_another_identity_or_run_is_refused(self) -> None:
        terms = make_terms(5)
        for index, key, guard in (
            (1, identity(2), RunGuard(terms.run_id)),
            (9, identity(9), RunGuard(terms.run_id)),
            (1, identity(1), RunGuard(bytes(16))),
        ):
            with pytest.raises(TermsRefused):
                Member.begin(
                    index=index,
                    signing_key=key,
                    terms=terms,
                    limits=limits_for(terms),
                    guard=guard,
                )
        with pytest.raises(TermsRefused):
            Coordinator.begin(terms=terms, signing_key=identity(1))

    def test_stored_state_of_another_identity_or_run_is_refused(self) -> None:
        world = ready()
        state = world.nodes[1].disk.state
        limits = limits_for(world.terms)
        guard = world.nodes[1].guard
        for key, other in ((identity(2), guard), (identity(1), RunGuard(bytes(16)))):
            with pytest.raises(VerificationError):
                Member.load(state, signing_key=key, limits=limits, guard=other)
        for broken in (b"", state[:-1], state + b"\0"):
            with pytest.raises(MalformedMessage):
                Member.load(broken, signing_key=identity(1), limits=limits, guard=guard)


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
