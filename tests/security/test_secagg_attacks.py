"""The fourteen attacks, by name: ten that work on Flower's SecAgg+, four of our own making.

In each the coordinator lies with its real signing key and holds, where that helps it, the whole
state of m members. None of them learns more than one sum over enough members.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest

from shared.secagg import (
    Coordinator,
    Evaluation,
    Layout,
    Member,
    MemberLimits,
    NoiseTerms,
    Quantiser,
    RunGuard,
    build_vector,
    check_sum,
    keys,
    member_round,
    member_setup,
    wire,
)
from shared.secagg.errors import (
    BadMessage,
    BadSignature,
    BadUpload,
    BadVector,
    OutOfOrder,
    RequestChanged,
    RoundReleased,
    SlotClosed,
    SumRejected,
    TermsRefused,
    UnmaskRefused,
    ViewMismatch,
)
from shared.secagg.member_state import CELL, MemberState
from shared.secagg.messages import decode_blobs, encode_blobs
from shared.secagg.round_messages import (
    MaskedHeader,
    ReleaseRequest,
    Reveal,
    SurvivorSet,
)
from shared.secagg.setup_messages import Advertisement
from shared.secagg.shamir import decode_element, interpolate, lagrange_at_zero
from shared.secagg.stream import apply_masks
from shared.secagg.unmask import left_over, seeds_of_lost
from tests.support.secagg import (
    MODEL,
    Disk,
    World,
    forge,
    identity,
    limits_for,
    losing,
    make_terms,
    restore,
    snapshot,
    update,
)
from tests.support.secagg_stages import masked_request, ready


def current_t2(world: World, index: int = 1) -> bytes:
    return world.nodes[index].member._me.state.slot.t2


def sign_all(world: World, claim: SurvivorSet, signers: tuple[int, ...]) -> ReleaseRequest:
    body = claim.encode()
    return ReleaseRequest(
        claim,
        tuple(
            (i, wire.signature_of(wire.seal(wire.SURVIVORS, world.terms, i, body, identity(i))))
            for i in signers
        ),
    )


def test_late_packet_stays_masked_by_a_secret_nobody_reveals() -> None:
    world = ready()
    late: list[bytes] = []

    def hold_back(step: str, index: int, data: bytes) -> list[bytes]:
        if step == "masked-reply" and index == 3:
            late.append(data)
            return []
        return [data]

    world.fault = hold_back
    request = world.collect(1)
    survivors = world.coordinator.close_masked()
    assert survivors == (1, 2, 4, 5)
    size = int.from_bytes(late[0][:4], "big")
    vector = np.frombuffer(late[0][4 + size :], "<u8").astype(np.uint64)
    with pytest.raises(OutOfOrder):
        world.coordinator.on_masked(3, late[0][4 : 4 + size], vector)
    # The honest path reveals rho of member 3, so every pair mask in its vector comes off ...
    result = world.unmask()
    world.assert_exact(result)
    rho = _secret(result, request, 3)
    left = vector.copy()
    t2 = result.t2
    pair = {v: keys.pair_seed(rho, v) for v in (4, 5)}
    down = [keys.pair_mask_key(seed, t2, 3, v) for v, seed in pair.items()]
    records = world.coordinator._setup.records[3][0]
    context = world.coordinator._setup.t1c + (3).to_bytes(4, "big") + (0).to_bytes(4, "big")
    cells = keys.decrypt(keys.recovery_key(rho, world.coordinator._setup.t1c), records, context)
    up = [keys.pair_mask_key(cells[at : at + CELL], t2, v, 3) for v, at in ((1, 0), (2, CELL))]
    apply_masks(left, down, up)
    # ... and what is left is still not the plain vector: b_3 masks it, and b_3 alone.
    plain = world.nodes[3].plain[1, 1, 0]
    assert not np.any(left == plain)
    assert int(left[0]) != 1
    # The members' shares would give b_3, and with it the vector: nobody hands them out.
    held = {
        i: decode_element(bytes(world.nodes[i].member._me.state.shares[3][:CELL]))
        for i in (1, 2, 4, 5)
    }
    b = interpolate(lagrange_at_zero(held), list(held.values()))
    apply_masks(left, [], [keys.self_mask_key(b, t2, 3)])
    assert np.array_equal(left, plain)
    # No honest member says "3 was alive" after that, and 3 alone is below the threshold.
    everybody = SurvivorSet.of(t2, (1, 2, 3, 4, 5), (1, 2, 3, 4, 5))
    claim = forge(world, wire.UNMASK, everybody.encode())
    for index in (1, 2, 4, 5):
        with pytest.raises((UnmaskRefused, RequestChanged)):
            world.nodes[index].member.handle(claim)
    world.nodes[3].member.handle(claim)
    assert 1 + world.terms.max_colluders < world.terms.threshold


def _secret(result, request: bytes, index: int) -> int:
    place = result.participants.index(index)
    points, shares = [], []
    for sender, answer in result.evidence.answers:
        reveal = Reveal.decode(wire.verified_body(answer))
        points.append(sender)
        shares.append(decode_element(reveal.shares[place][0]))
    return interpolate(lagrange_at_zero(points), shares)


@pytest.mark.parametrize(("n", "colluders"), [(5, 1), (6, 1), (7, 2)])
def test_both_lists_never_yield_both_secrets_of_one_member(n: int, colluders: int) -> None:
    """Every split of the honest members between "3 is alive" and "3 is lost"."""
    world = ready(n, colluders=colluders)
    world.collect(1)
    everybody = tuple(range(1, n + 1))
    bad = everybody[n - colluders :]
    t2 = current_t2(world)
    alive = SurvivorSet.of(t2, everybody, everybody)
    dead = SurvivorSet.of(t2, everybody, set(everybody) - {3})
    disks = snapshot(world)
    honest = [i for i in everybody if i not in bad and i != 3]
    for split in itertools.product((True, False), repeat=len(honest)):
        restore(world, disks)
        b_shares, rho_shares = {*bad}, {*bad}
        signers = list(bad)
        for index, says_alive in zip(honest, split, strict=True):
            claim = alive if says_alive else dead
            reply = world.nodes[index].member.handle(forge(world, wire.UNMASK, claim.encode()))
            if says_alive:
                b_shares.add(index)
            else:
                assert wire.peek(reply).kind == wire.SURVIVORS
                signers.append(index)
        world.nodes[3].member.handle(forge(world, wire.UNMASK, alive.encode()))
        b_shares.add(3)
        release = forge(world, wire.RELEASE, sign_all(world, dead, tuple(sorted(signers))).encode())
        for index in honest:
            try:
                world.nodes[index].member.handle(release)
            except UnmaskRefused:
                continue
            rho_shares.add(index)
        t = world.terms.threshold
        assert len(b_shares) < t or len(rho_shares) < t


def test_group_of_one_is_refused_everywhere() -> None:
    world = ready()
    victim = world.nodes[1].member
    for participants in ((1,), (1, 5), (1, 4, 5)):
        request = forge(world, wire.MASKED, masked_request(world, 0, participants).encode())
        with pytest.raises(TermsRefused):
            victim.open_round(request, MODEL)
    world.collect(1)
    for alive in ((1,), (1, 5), (1, 2, 5)):
        claim = SurvivorSet.of(current_t2(world), (1, 2, 3, 4, 5), alive)
        with pytest.raises(TermsRefused):
            victim.handle(forge(world, wire.UNMASK, claim.encode()))
    terms = make_terms(5, ordinal=2)
    for small in (replace(terms, n_min=1), replace(terms, threshold=1, n_min=1)):
        with pytest.raises(TermsRefused):
            Member.begin(
                index=1,
                signing_key=identity(1),
                terms=small,
                limits=limits_for(terms),
                guard=RunGuard(terms.run_id),
            )


def test_group_of_invented_members_is_refused_without_pinned_peers() -> None:
    world = World(make_terms(5), pinned=frozenset({1, 2}), min_known_peers=1)
    assert world.setup().usable
    request = forge(world, wire.MASKED, masked_request(world, 0, (1, 3, 4, 5)).encode())
    with pytest.raises(TermsRefused):
        world.nodes[1].member.open_round(request, MODEL)
    request = forge(world, wire.MASKED, masked_request(world, 0, (1, 2, 3, 4, 5)).encode())
    world.nodes[1].train(request)
    claim = SurvivorSet.of(current_t2(world), (1, 2, 3, 4, 5), (1, 3, 4, 5))
    with pytest.raises(TermsRefused):
        world.nodes[1].member.handle(forge(world, wire.UNMASK, claim.encode()))


def test_swapped_key_is_noticed_before_anything_is_boxed() -> None:
    """The coordinator puts its own session keys in a member's place."""
    world = World(make_terms(5))
    desk = world.coordinator
    for index in world.terms.indices:
        world.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
    honest = decode_blobs(wire.verified_body(desk.share_request()))
    evil = Coordinator.begin(terms=world.terms, signing_key=identity(0))
    other = World(make_terms(5))
    own = other.nodes[2].member.handle(evil.advertise_request())
    body = wire.verified_body(own)
    for fake in (
        wire.seal("advertise-reply", world.terms, 2, body, identity(0)),
        wire.seal("advertise-reply", world.terms, 2, body, identity(3)),
        wire.seal("advertise-reply", make_terms(5, ordinal=2), 2, body, identity(2)),
    ):
        swapped = (honest[0], fake, *honest[2:])
        with pytest.raises(BadSignature) as caught:
            world.nodes[1].member.handle(forge(world, wire.SHARE, encode_blobs(swapped)))
        assert caught.value.culprit == 0
    assert (
        Advertisement.decode(body).x25519
        != Advertisement.decode(wire.verified_body(honest[1])).x25519
    )


def test_tiny_modulus_cannot_be_asked_for() -> None:
    world = ready()
    weak = Quantiser(1, clip_coord=1.0)
    for quantiser in (
        weak.encode(),
        replace(world.terms.quantiser, lane_bits=1).encode(),
        replace(world.terms.quantiser, value_bits=8).encode(),
        replace(world.terms.quantiser, clip_coord=1e-9).encode(),
    ):
        body = masked_request(world, 0, (1, 2, 3, 4, 5), quantiser=quantiser).encode()
        with pytest.raises(ViewMismatch):
            world.nodes[1].member.open_round(forge(world, wire.MASKED, body), MODEL)
    for quantiser in (
        weak,
        replace(world.terms.quantiser, lane_bits=2),
        replace(world.terms.quantiser, clip_coord=0.0),
        replace(world.terms.quantiser, clip_coord=float("nan")),
    ):
        with pytest.raises(TermsRefused):
            replace(world.terms, quantiser=quantiser).validate()
    with pytest.raises(TermsRefused):
        replace(world.terms.quantiser, value_bits=16).validate(33)


def test_clear_metrics_and_counts_are_nowhere_to_be_read() -> None:
    """Header and vector are all a member sends: hashes, a length, and words that look random."""
    world = ready()
    layout = Layout(10, evaluates=True)
    counts = np.full(20, 50, dtype=np.int64)
    evaluation = Evaluation(loss_steps=700 * 16, positives=counts, negatives=counts)
    body = masked_request(world, 0, (1, 2, 3, 4, 5), words=layout.words).encode()
    uploads = {}
    for index, node in world.nodes.items():
        opened = node.member.open_round(forge(world, wire.MASKED, body), MODEL)
        assert opened.words == layout.words
        plain = build_vector(
            update(index, 1, 10), 1.0, world.terms.quantiser, evaluation, NoiseTerms(1.0)
        )
        uploads[index] = (plain.copy(), node.member.mask(plain))
    for plain, upload in uploads.values():
        header = MaskedHeader.decode(wire.verified_body(upload.header))
        assert header == MaskedHeader(
            header.t2, hashlib.sha256(upload.vector.tobytes()).digest(), layout.words
        )
        assert not np.any(plain == upload.vector)
        assert (upload.vector[layout.tail] >> np.uint64(46)).any()
    ones = sum(int(word).bit_count() for _, upload in uploads.values() for word in upload.vector)
    bits = 64 * 5 * layout.words
    assert abs(ones - bits / 2) < 5 * (bits**0.5) / 2
    small = Evaluation(16, np.eye(1, 20, dtype=np.int64)[0], np.zeros(20, dtype=np.int64))
    none = Evaluation.nothing()
    told = [
        build_vector(
            update(1, 1, 10),
            1.0,
            world.terms.quantiser,
            each,
            NoiseTerms(1.0, min_rows=200),
            dither_key=bytes(32),
            randbelow=_counting(),
        )
        for each in (small, none)
    ]
    assert np.array_equal(*told)


def _counting():
    state = [0]

    def below(n: int) -> int:
        state[0] = (state[0] * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state[0] >> 20) % n

    return below


@pytest.mark.parametrize("step", ["advertise", "share", "confirm", "masked", "unmask", "release"])
@pytest.mark.parametrize("victim", [1, 3, 5])
def test_early_dropout_does_not_kill_the_round(step: str, victim: int) -> None:
    world = World(make_terms(5), fault=losing({victim: step}))
    assert world.setup().usable
    result = world.round(1)
    world.assert_exact(result)
    assert (victim in result.survivors) == (step in ("unmask", "release"))


def test_overflow_is_impossible_for_the_honest_and_typed_for_the_rest() -> None:
    world = ready()
    quantiser = world.terms.quantiser
    huge = np.full(10, 1e30, dtype=np.float32)
    vector = build_vector(huge, 1.0, quantiser)
    opened = check_sum(vector, world.layout, 1, quantiser)
    assert opened.mean.max() <= quantiser.clip_coord
    total = np.zeros(world.layout.words, dtype=np.uint64)
    for _ in range(32):
        total += build_vector(huge, 1.0, replace(quantiser, value_bits=16))
    opened = check_sum(total, world.layout, 32, quantiser)
    assert np.allclose(opened.mean, quantiser.clip_coord)
    for bad in (np.nan, np.inf):
        with pytest.raises(BadVector):
            build_vector(np.full(10, bad, dtype=np.float32), 1.0, quantiser)
    for weight in (2.0, 1e9, 0.0, -1.0, 0.5):
        with pytest.raises(BadVector):
            build_vector(huge, weight, quantiser)
    for place, value in ((1, 1 << 63), (1, (1 << 21) - 1), (-2, 1 << 46), (-2, 1 << 20), (0, 1)):
        wrong = vector.copy()
        wrong[place] += np.uint64(value)
        with pytest.raises(SumRejected):
            check_sum(wrong, world.layout, 1, quantiser)


def shown(world: World, models: dict[int, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Show each member its model; return the sum of what they send and of what they masked."""
    total = np.zeros(world.layout.words, dtype=np.uint64)
    plain = np.zeros(world.layout.words, dtype=np.uint64)
    for index, node in world.nodes.items():
        model = models[index]
        digest = hashlib.sha256(model).digest()
        body = masked_request(world, 0, (1, 2, 3, 4, 5), model_sha256=digest).encode()
        _, data = node.train(forge(world, wire.MASKED, body), model)
        total += np.frombuffer(data, "<u8").astype(np.uint64)
        plain += node.plain[1, 1, 0]
    return total, plain


def without_own_masks(world: World, total: np.ndarray) -> np.ndarray:
    """Have everybody unmask under its own view, and take every b's stream off the sum."""
    everybody = (1, 2, 3, 4, 5)
    shares = {}
    for index, node in world.nodes.items():
        claim = SurvivorSet.of(current_t2(world, index), everybody, everybody)
        reply = node.member.handle(forge(world, wire.UNMASK, claim.encode()))
        shares[index] = Reveal.decode(wire.verified_body(reply)).shares
    points = (1, 2, 3, 4)
    coefficients = lagrange_at_zero(points)
    own = []
    for u in everybody:
        b = interpolate(coefficients, [decode_element(shares[r][u - 1][0]) for r in points])
        own.append(keys.self_mask_key(b, current_t2(world, u), u))
    left = total.copy()
    apply_masks(left, [], own)
    return left


def test_model_inconsistency_leaves_masks_that_do_not_cancel() -> None:
    """Two members are shown another model; the coordinator even adds their vectors itself."""
    world = ready()
    other = b"crafted for the victim" * 3
    everybody = (1, 2, 3, 4, 5)
    total, plain = shown(world, {i: other if i in (1, 2) else MODEL for i in everybody})
    assert current_t2(world, 1) != current_t2(world, 3)
    for index, node in world.nodes.items():
        wrong = current_t2(world, 3 if index in (1, 2) else 1)
        claim = SurvivorSet.of(wrong, everybody, everybody)
        with pytest.raises(UnmaskRefused):
            node.member.handle(forge(world, wire.UNMASK, claim.encode()))
    left = without_own_masks(world, total)
    assert not np.any(left == plain)
    with pytest.raises(SumRejected):
        check_sum(left, world.layout, 5, world.terms.quantiser)
    # A single member's view shown with a wrong hash does not even open.
    body = masked_request(world, 1, everybody).encode()
    with pytest.raises(ViewMismatch):
        world.nodes[3].member.open_round(forge(world, wire.MASKED, body), other)


def test_with_one_model_for_all_the_same_arithmetic_gives_the_sum() -> None:
    world = ready()
    total, plain = shown(world, dict.fromkeys((1, 2, 3, 4, 5), MODEL))
    left = without_own_masks(world, total)
    assert np.array_equal(left, plain)
    check_sum(left, world.layout, 5, world.terms.quantiser)


def test_replay_of_any_message_of_an_earlier_round_is_refused() -> None:
    world = ready()
    first = world.collect(1)
    upload = world.log["masked", 1]
    result = world.unmask()
    unmask = forge(world, wire.UNMASK, SurvivorSet(result.t2, result.bitmap).encode())
    assert world.nodes[1].member.handle(unmask) == world.log["unmask", 1]
    world.collect(2)
    for node in world.nodes.values():
        with pytest.raises(SlotClosed):
            node.member.open_round(first, MODEL)
        with pytest.raises(UnmaskRefused):
            node.member.handle(unmask)
    size = int.from_bytes(upload[:4], "big")
    vector = np.frombuffer(upload[4 + size :], "<u8").astype(np.uint64)
    for index in (1, 2):
        with pytest.raises((BadUpload, BadSignature, RequestChanged)):
            world.coordinator.on_masked(index, upload[4 : 4 + size], vector)
    world.assert_exact(world.unmask())


def test_retry_differencing_a_released_round_is_never_masked_again() -> None:
    """Sum over U, then the same round without the victim: the difference would be the victim."""
    world = ready()
    world.assert_exact(world.round(1))
    for participants in ((1, 2, 4, 5), (1, 2, 3, 4, 5)):
        request = forge(world, wire.MASKED, masked_request(world, 1, participants).encode())
        for index in participants:
            with pytest.raises(RoundReleased):
                world.nodes[index].member.open_round(request, MODEL)
    # The same model under the next round's number: at most `burnt_rounds` times, for all.
    strict = World(make_terms(5, slots=3), burnt_rounds=1)
    assert strict.setup().usable
    strict.round(1)
    strict.assert_exact(strict.round(2))
    request = forge(strict, wire.MASKED, masked_request(strict, 2, (1, 2, 3, 4), round=3).encode())
    for index in (1, 2, 3, 4):
        with pytest.raises(TermsRefused):
            strict.nodes[index].member.open_round(request, MODEL)


def test_retry_differencing_with_partial_answers_cannot_reach_two_sums() -> None:
    """Only just t members release a first sum; the rest plus m colluders are below t."""
    world = ready(7, colluders=2)
    world.collect(1)
    everybody = tuple(range(1, 8))
    claim = SurvivorSet.of(current_t2(world), everybody, everybody)
    t = world.terms.threshold
    honest_needed = t - 2
    for index in everybody[:honest_needed]:
        world.nodes[index].member.handle(forge(world, wire.UNMASK, claim.encode()))
    request = forge(world, wire.MASKED, masked_request(world, 1, everybody).encode())
    willing = 0
    for index in everybody[:5]:
        try:
            world.nodes[index].member.open_round(request, MODEL)
            willing += 1
        except RoundReleased:
            pass
    assert willing + 2 < t


def test_stale_certificate_opens_no_other_slot() -> None:
    world = ready()
    world.fault = losing({3: "masked"})
    result = world.round(1)
    stale = ReleaseRequest(SurvivorSet(result.t2, result.bitmap), result.certificate)
    world.fault = losing({})
    world.collect(2)
    t2 = current_t2(world)
    grafted = ReleaseRequest(SurvivorSet(t2, result.bitmap), result.certificate)
    other = sign_all(_renamed(world), SurvivorSet(t2, result.bitmap), (1, 2, 4, 5))
    for index in (1, 2, 4, 5):
        for release, refusal in (
            (stale, UnmaskRefused),
            (grafted, BadSignature),
            (other, BadSignature),
        ):
            with pytest.raises(refusal):
                world.nodes[index].member.handle(forge(world, wire.RELEASE, release.encode()))
    world.assert_exact(world.unmask())


def _renamed(world: World) -> World:
    return World(replace(world.terms, ordinal=2))


LOST = {1: (3, 4), 2: (3, 5), 3: (4, 5), 4: (3, 5), 5: (4,)}
"""Who is lost, as each honest member of seven is told; 6 and 7 side with the coordinator."""


def mixed_bitmaps(world: World, disks: dict[int, Disk]) -> dict[str, dict[int, dict[int, int]]]:
    """Tell every honest member its own story; return shares by kind, dealer and holder."""
    everybody, t2 = tuple(range(1, 8)), current_t2(world)
    known: dict[str, dict[int, dict[int, int]]] = {
        kind: {u: {} for u in everybody} for kind in ("b", "rho")
    }
    for holder in (6, 7):
        for dealer, row in MemberState.decode(disks[holder].state).shares.items():
            for place, kind in enumerate(("b", "rho")):
                cell = bytes(row[place * CELL : (place + 1) * CELL])
                known[kind][dealer][holder] = decode_element(cell)
    for holder, lost in LOST.items():
        claim = SurvivorSet.of(t2, everybody, set(everybody) - set(lost))
        # All the signatures there are: its own and the two colluders'.
        release = sign_all(world, claim, tuple(sorted((holder, 6, 7))))
        try:
            reply = world.nodes[holder].answer(forge(world, wire.RELEASE, release.encode()))
        except UnmaskRefused:
            continue
        shares = Reveal.decode(wire.verified_body(reply)).shares
        for dealer, (share, _) in zip(everybody, shares, strict=True):
            kind = "rho" if dealer in lost else "b"
            known[kind][dealer][holder] = decode_element(share)
    return known


def test_mixed_bitmaps_open_nothing_for_want_of_a_certificate() -> None:
    world = ready(7, colluders=2)
    disks = snapshot(world)
    world.collect(1)
    for by_dealer in mixed_bitmaps(world, disks).values():
        assert {holder for held in by_dealer.values() for holder in held} == {6, 7}


def test_mixed_bitmaps_without_the_certificate_would_open_two_members() -> None:
    """Negative control: every other rule holds, each member tells one story, and yet it opens."""
    world = ready(7, colluders=2)
    disks = snapshot(world)
    world.collect(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_round, "check_certificate", lambda *_: None)
        known = mixed_bitmaps(world, disks)
    t, setup = world.terms.threshold, world.coordinator._setup

    def secret(kind: str, dealer: int) -> int:
        held = dict(sorted(known[kind][dealer].items())[:t])
        assert len(held) == t
        return interpolate(lagrange_at_zero(held), list(held.values()))

    # No member's two secrets are both known; b of 1 and 2 and rho of 3, 4 and 5 are.
    assert [u for u in range(1, 6) if len(known["b"][u]) >= t] == [1, 2]
    assert [u for u in range(1, 6) if len(known["rho"][u]) >= t] == [3, 4, 5]
    seeds = {
        u: seeds_of_lost(
            u,
            secret("rho", u),
            setup.records[u][0],
            member_setup.record_context(setup.t1c, u, 0),
            t1c=setup.t1c,
            members=setup.advertised,
        )
        for u in (3, 4, 5)
    }
    for u in (6, 7):
        own = MemberState.decode(disks[u].state).seeds
        seeds[u] = {v: bytes(own[v][:CELL]) for v in (1, 2)}
    left = np.zeros(world.layout.words, dtype=np.uint64)
    for u in (1, 2):
        upload = world.log["masked", u]
        left += np.frombuffer(upload[4 + int.from_bytes(upload[:4], "big") :], "<u8")
    masks = left_over(current_t2(world), (1, 2), {u: secret("b", u) for u in (1, 2)}, seeds)
    apply_masks(left, masks.missing, masks.present)
    plain = world.nodes[1].plain[1, 1, 0] + world.nodes[2].plain[1, 1, 0]
    assert np.array_equal(left, plain)
    # Two honest members, four with the colluders, where five is the least that may be summed.
    assert len(LOST.keys() & {1, 2}) + 2 == world.terms.n_min - 1


def test_new_session_same_round_is_refused_and_closes_the_old_session() -> None:
    world = ready()
    world.assert_exact(world.round(1))
    world.collect(2)
    t2, old_terms = current_t2(world), world.terms
    old = {i: node.member for i, node in world.nodes.items()}
    world.new_session(make_terms(5, ordinal=2))
    assert world.setup().usable
    request = forge(world, wire.MASKED, masked_request(world, 0, (1, 2, 3, 4, 5)).encode())
    for node in world.nodes.values():
        with pytest.raises(RoundReleased):
            node.member.open_round(request, MODEL)
    # Round 2 was masked in the old session, not released: that session answers nothing now.
    claim = SurvivorSet.of(t2, (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)).encode()
    request = wire.seal(wire.UNMASK, old_terms, 0, claim, identity(0))
    for member in old.values():
        with pytest.raises(SlotClosed):
            member.handle(request)
        assert member.closed
        assert not any(member._me.state.own)
    world.assert_exact(world.round(2))
    with pytest.raises(SlotClosed):
        world.nodes[1].begin(old_terms)


def test_a_request_signed_by_anybody_else_is_refused() -> None:
    world = ready()
    body = masked_request(world, 0, (1, 2, 3, 4, 5)).encode()
    for signer in (1, 2):
        request = wire.seal(wire.MASKED, world.terms, 0, body, identity(signer))
        with pytest.raises(BadSignature):
            world.nodes[1].member.open_round(request, MODEL)
    with pytest.raises((BadMessage, BadSignature)):
        world.nodes[1].member.open_round(body, MODEL)


def test_policy_is_only_ever_stricter() -> None:
    terms = make_terms(5)
    for limits in (
        MemberLimits(n_min=5, max_colluders=1, pinned=frozenset({2, 3})),
        MemberLimits(n_min=4, max_colluders=3, pinned=frozenset({2, 3})),
        MemberLimits(n_min=4, max_colluders=1, pinned=frozenset({1, 2})),
    ):
        with pytest.raises(TermsRefused):
            limits.check_terms(terms, 1)
    MemberLimits(n_min=4, max_colluders=1, pinned=frozenset({2, 3})).check_terms(terms, 1)
