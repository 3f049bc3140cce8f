"""Groups of the secure sum: how many, who is where, and what their sums become together."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, MalformedMessage, VerificationError
from shared.limits import MAX_GROUP, MAX_MEMBERS, MIN_GROUP
from shared.secagg.groups import (
    MEAN,
    MEDIAN,
    MIN_MEDIAN_GROUPS,
    assign_groups,
    combine,
    group_count,
    quorum,
)
from shared.secagg.tail import OpenedSum
from shared.trust.grouping import (
    CommitCall,
    CommitList,
    Drawing,
    DrawingRefused,
    answer_index,
    commitment,
    open_answer,
    open_call,
    opens,
    sign_answer,
    sign_call,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
ROSTER = b"R" * 32


def opened(mean, weight=1.0, survivors=1, loss=None):
    counts = None if loss is None else np.arange(20, dtype=np.int64)
    return OpenedSum(np.asarray(mean, np.float64), weight, survivors, loss, counts, counts)


@given(st.integers(1, MAX_MEMBERS))
def test_every_size_is_one_group_or_several_within_the_bounds_or_refused(members):
    if members <= MAX_GROUP:
        assert group_count(members) == 1
    elif members < 2 * MIN_GROUP:
        with pytest.raises(BadInput, match="do not make"):
            group_count(members)
    else:
        count = group_count(members)
        assert members // count >= MIN_GROUP
        assert -(-members // count) <= MAX_GROUP


def test_two_hundred_members_make_enough_groups_for_a_median():
    assert group_count(199) == 4
    assert group_count(200) == MIN_MEDIAN_GROUPS


@pytest.mark.parametrize("wanted", [0, 3, 26, 1000])
def test_a_forced_number_of_groups_keeps_the_bounds(wanted):
    if wanted:
        with pytest.raises(BadInput):
            group_count(1000, wanted)
    assert group_count(1000, 25) == 25


@given(st.binary(min_size=32, max_size=32), st.sets(st.integers(1, 5000), min_size=10))
def test_groups_are_a_partition_of_even_sizes(seed, indices):
    groups = assign_groups(seed, indices, 4)
    assert sorted(index for group in groups for index in group) == sorted(indices)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(list(group) == sorted(group) for group in groups)
    assert groups == assign_groups(seed, sorted(indices, reverse=True), 4)


def test_another_seed_mixes_everybody_anew():
    members = range(1, 401)
    first, second = (assign_groups(bytes([s]) * 32, members, 8) for s in (1, 2))
    together = [len(set(a) & set(b)) for a in first for b in second]
    assert max(together) < 20  # 6.25 expected; one grouping says nothing of the next


def test_the_mean_of_groups_weighs_every_member_alike():
    total = combine([opened([1.0, 0.0], 2.0, 2), opened([4.0, 3.0], 1.0, 1)], MEAN)
    assert total.mean == pytest.approx([2.0, 1.0])
    assert (total.weight_sum, total.survivors) == (3.0, 3)


def test_one_group_alone_is_its_own_mean():
    one = opened([0.1, 0.2], 3.0, 3, 1.5)
    total = combine([one], MEAN)
    assert total.mean.dtype == np.float32
    assert np.array_equal(total.mean, one.mean.astype(np.float32))
    assert (total.weight_sum, total.survivors, total.loss_sum) == (3.0, 3, 1.5)


def test_one_poisoned_group_spoils_the_mean_and_not_the_median():
    honest = [opened([0.1 + 0.01 * i, -0.2], 40.0, 40) for i in range(4)]
    poisoned = [*honest, opened([1.0, 1.0], 40.0, 40)]
    assert combine(poisoned, MEAN).mean[1] == pytest.approx(0.04)
    median = combine(poisoned, MEDIAN).mean
    assert median == pytest.approx([0.12, -0.2])
    assert combine(poisoned, MEDIAN).survivors == 200


@given(st.integers(5, 12), st.data())
def test_fewer_than_half_hostile_groups_cannot_leave_the_honest_range(groups, data):
    hostile = data.draw(st.integers(0, (groups - 1) // 2))
    values = st.floats(-1, 1, width=32)
    honest = [[data.draw(values)] for _ in range(groups - hostile)]
    bad = [[data.draw(values) * 1e6] for _ in range(hostile)]
    median = float(combine([opened(v) for v in bad + honest], MEDIAN).mean[0])
    assert min(honest)[0] <= median <= max(honest)[0]


def test_evaluations_of_groups_are_added_and_one_without_leaves_none():
    total = combine([opened([0.0], loss=1.0), opened([0.0], loss=2.0)], MEDIAN)
    assert total.loss_sum == 3.0
    assert list(total.positives) == list(2 * np.arange(20))
    assert combine([opened([0.0], loss=1.0), opened([0.0])], MEAN).positives is None


def test_nothing_to_combine_or_an_unknown_rule_is_refused():
    with pytest.raises(BadInput):
        combine([], MEAN)
    with pytest.raises(BadInput):
        combine([opened([0.0])], "best-of-groups")


def test_half_of_the_groups_make_a_round():
    assert [quorum(k) for k in (1, 2, 3, 4, 5, 20)] == [1, 1, 2, 2, 3, 10]


def drawing(count=2, number=1, members=(1, 2, 3, 4)):
    return Drawing(number, count, tuple(bytes([i]) * 32 for i in members))


def test_every_nonce_the_number_and_the_count_move_the_groups():
    members = tuple(range(1, 41))
    base = drawing(members=members)
    nonces = list(base.nonces)
    nonces[7] = b"x" * 32
    others = [
        Drawing(1, 2, tuple(nonces)),
        Drawing(2, 2, base.nonces),
        Drawing(1, 4, base.nonces),
    ]
    seen = {base.groups(ROSTER, members), base.groups(b"S" * 32, members)}
    assert len(seen | {other.groups(ROSTER, members) for other in others}) == 5
    digests = {item.list_digest(ROSTER, members) for item in [base, *others]}
    assert len(digests) == 4


def test_a_drawing_that_fits_no_list_is_refused():
    for bad in (drawing(count=1), drawing(number=0), Drawing(1, 2, ())):
        with pytest.raises(MalformedMessage):
            bad.check(4)
    drawing().check(4)
    Drawing().check(4)


def test_a_nonce_that_was_not_committed_is_left_out():
    listed = tuple((i, commitment(ROSTER, 1, i, bytes([i]) * 32)) for i in (1, 2))
    call = CommitList(ROSTER, 1, 2, listed)
    assert opens(call, [(1, b"\1" * 32), (2, b"\1" * 32), (3, b"\3" * 32)]) == {1: b"\1" * 32}
    assert CommitList.decode(call.encode()) == call
    assert CommitCall.decode(CommitCall(ROSTER, 3).encode()) == CommitCall(ROSTER, 3)
    with pytest.raises(MalformedMessage):
        CommitList.decode(CommitList(ROSTER, 1, 2, listed[::-1]).encode())


def test_calls_and_answers_are_bound_to_their_signer_and_to_each_other():
    call = sign_call(CommitCall(ROSTER, 1).encode(), KEY)
    assert open_call(call, PUBLIC) == CommitCall(ROSTER, 1).encode()
    answer = sign_answer(call, 5, b"v" * 32, KEY)
    assert (answer_index(answer), open_answer(answer, call, 5, PUBLIC)) == (5, b"v" * 32)
    other = sign_call(CommitCall(ROSTER, 2).encode(), KEY)
    for arguments in ((answer, other, 5, PUBLIC), (answer, call, 6, PUBLIC)):
        with pytest.raises(DrawingRefused):
            open_answer(*arguments)
    for at in range(len(answer)):
        altered = bytearray(answer)
        altered[at] ^= 1
        with pytest.raises(VerificationError):
            open_answer(bytes(altered), call, 5, PUBLIC)
    with pytest.raises(DrawingRefused):
        open_call(call, b"\2" * 32)
