"""The negative checklist: boxes, shares and those who dealt them, each wrong in one way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.encoding import Writer
from shared.errors import VerificationError
from shared.secagg import keys, member_setup, wire
from shared.secagg.errors import (
    BadMessage,
    InconsistentDealer,
    OutOfOrder,
    TermsRefused,
    ViewMismatch,
)
from shared.secagg.member_state import CELL
from shared.secagg.messages import encode_blobs
from shared.secagg.setup_messages import (
    Delivery,
    Part,
    ShareBundle,
    ShareCore,
    decode_deliveries,
    encode_deliveries,
)
from tests.support.secagg import MODEL, World, forge, identity, losing, make_terms
from tests.support.secagg_stages import EVERYBODY, advertised, masked, ready, shared


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

        # Too few dealers may be honest: members were lost. It is refused all the same.
        expected = (TermsRefused, None) if change == "drop many" else (ViewMismatch, 0)
        with pytest.raises(expected[0]) as caught:
            world.nodes[1].member.handle(self.swap(world, 1, edit))
        assert caught.value.culprit == expected[1]
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
