"""The negative checklist: keys, signatures and terms, each wrong in one way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import MalformedMessage, VerificationError
from shared.limits import MAX_GROUP
from shared.secagg import Coordinator, Member, RunGuard, wire
from shared.secagg.errors import BadKey, BadMessage, BadSignature, TermsRefused, ViewMismatch
from shared.secagg.messages import decode_blobs, encode_blobs
from shared.secagg.setup_messages import Advertisement
from tests.support.secagg import World, forge, identity, limits_for, make_terms
from tests.support.secagg_stages import advertised, ready


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

    @pytest.mark.parametrize("weak", ["low order", "not reduced"])
    def test_one_bad_key_beside_a_good_one_is_refused_on_both_sides(self, weak: str) -> None:
        """A member deals with nobody's bad key, even where the coordinator lets it pass."""
        world = advertised()
        messages = list(decode_blobs(wire.verified_body(world.coordinator.share_request())))
        good = Advertisement.decode(wire.verified_body(messages[2]))
        bad = {
            "low order": replace(good, x25519=bytes(32)),
            # Coefficients of 4095, where FIPS 203 (7.2) demands less than 3329.
            "not reduced": replace(good, kem=b"\xff" * len(good.kem)),
        }[weak]
        reply = wire.seal("advertise-reply", world.terms, 3, bad.encode(), identity(3))
        fresh = World(make_terms(5))
        with pytest.raises(BadKey) as caught:
            fresh.coordinator.on_advertise(3, reply)
        assert caught.value.culprit == 3
        assert fresh.coordinator.advertised == ()
        member = world.nodes[1].member
        before = member.dump()
        messages[2] = reply
        with pytest.raises(BadKey) as told:
            member.handle(forge(world, wire.SHARE, encode_blobs(messages)))
        assert told.value.culprit == 3
        assert member.dump() == before

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
        # A list that is only short may be honest: members were lost. It is refused all the same.
        expected = (TermsRefused, None) if change == "too few" else (ViewMismatch, 0)
        with pytest.raises(expected[0]) as caught:
            world.nodes[1].member.handle(forge(world, wire.SHARE, encode_blobs(messages)))
        assert caught.value.culprit == expected[1]

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
