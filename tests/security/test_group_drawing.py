"""Drawing groups under a coordinator that would like to choose who is summed with whom."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from participant.node.drawings import Drawings, Drawn
from shared.errors import MalformedMessage, PolicyRefused, TouchstoneError, VerificationError
from shared.limits import MAX_DRAWINGS
from shared.trust.grouping import (
    CommitCall,
    CommitList,
    Drawing,
    DrawingRefused,
    commitment,
    open_answer,
    opens,
    sign_call,
)
from shared.trust.roster import Roster, RosterEntry
from tests.support.manifests import a_manifest

COORDINATOR = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
MEMBERS = range(1, 9)
KEYS = {i: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in MEMBERS}
ROSTER = Roster(
    b"a" * 16,
    3,
    tuple(RosterEntry(i, f"m{i}", KEYS[i].public_key().public_bytes_raw()) for i in MEMBERS),
)
HASH = ROSTER.hash()


class Alliance:
    """Eight members' drawing desks, with groups of three let through, and a coordinator."""

    def __init__(self, folder, floor=3):
        self.desks = {}
        for index in MEMBERS:
            path = folder / str(index)
            path.mkdir(exist_ok=True)
            public = COORDINATOR.public_key().public_bytes_raw()
            self.desks[index] = Drawings(path, index, KEYS[index], public, unsafe_min_group=floor)

    def commit(self, number=1, members=MEMBERS):
        call = sign_call(CommitCall(HASH, number).encode(), COORDINATOR)
        return tuple((i, self.answer(i, call, self.desks[i].commit(call, ROSTER))) for i in members)

    def answer(self, index, call, data):
        return open_answer(data, call, index, KEYS[index].public_key().public_bytes_raw())

    def listed(self, commitments, number=1, count=2):
        return CommitList(HASH, number, count, commitments)

    def reveal(self, listed, members=None, key=COORDINATOR):
        call = sign_call(listed.encode(), key)
        asked = [i for i, _ in listed.commitments] if members is None else members
        return {i: self.answer(i, call, self.desks[i].reveal(call, ROSTER)) for i in asked}

    def drawn(self, number=1):
        listed = self.listed(self.commit(number), number)
        return listed, opens(listed, self.reveal(listed).items())


def manifest(nonces, number=1, count=2, **changes):
    drawing = Drawing(number, count, tuple(nonces[i] for i in sorted(nonces)))
    members = tuple(ROSTER.by_index(i) for i in sorted(nonces))
    fields = {"members": members, "drawing": drawing, "roster_hash": HASH, **changes}
    return a_manifest(**fields)


@pytest.fixture
def alliance(tmp_path):
    return Alliance(tmp_path)


def test_an_honest_drawing_is_accepted_by_everybody_and_fixed(alliance):
    _, nonces = alliance.drawn()
    agreed = manifest(nonces)
    for desk in alliance.desks.values():
        desk.check(agreed)
        desk.check(agreed)
    with pytest.raises(DrawingRefused, match="fixed"):
        alliance.commit(2)
    assert alliance.commit(1) == alliance.commit(1)


def test_leaving_out_a_nonce_after_the_reveal_is_refused(alliance):
    """Otherwise the coordinator could try as many outcomes as there are members to leave out."""
    _, nonces = alliance.drawn()
    del nonces[8]
    with pytest.raises(PolicyRefused, match="not the ones"):
        alliance.desks[1].check(manifest(nonces))


def test_another_number_count_or_nonce_is_refused(alliance):
    _, nonces = alliance.drawn()
    swapped = {**nonces, 5: b"x" * 32}
    for wrong in (manifest(nonces, number=2), manifest(swapped)):
        with pytest.raises(PolicyRefused):
            alliance.desks[1].check(wrong)
    with pytest.raises(PolicyRefused):
        alliance.desks[1].check(manifest(nonces, roster_hash=b"h" * 32))


def test_a_second_list_for_the_same_drawing_reveals_nothing(alliance):
    """A member whose nonce is known must not stand by another list, chosen with it in view."""
    commitments = alliance.commit()
    first = alliance.listed(commitments)
    revealed = alliance.reveal(first)
    assert alliance.reveal(first) == revealed
    other = alliance.listed(commitments[:-1])
    for wrong in (other, replace(first, count=1), replace(first, number=2)):
        with pytest.raises(TouchstoneError):
            alliance.reveal(wrong, members=[1])


def test_a_list_without_the_members_own_commitment_reveals_nothing(alliance):
    commitments = dict(alliance.commit())
    commitments[1] = commitment(HASH, 1, 1, b"n" * 32)
    with pytest.raises(DrawingRefused, match="committed"):
        alliance.reveal(alliance.listed(tuple(sorted(commitments.items()))), members=[1])
    del commitments[1]
    with pytest.raises(DrawingRefused):
        alliance.reveal(alliance.listed(tuple(sorted(commitments.items()))), members=[1])


def test_drawings_go_up_and_end(alliance):
    """Throwing again until the outcome suits is what the limit is for."""
    alliance.drawn(3)
    for number in (0, 2, MAX_DRAWINGS + 1):
        with pytest.raises(DrawingRefused, match="does not follow"):
            alliance.commit(number)
    before = alliance.commit(3)
    assert alliance.commit(MAX_DRAWINGS) != before
    with pytest.raises(DrawingRefused):
        alliance.commit(3)


def test_a_new_drawing_has_a_new_nonce(alliance):
    _, first = alliance.drawn(1)
    _, second = alliance.drawn(2)
    assert not set(first.values()) & set(second.values())


def test_small_and_oversized_groups_are_refused(tmp_path):
    strict = Alliance(tmp_path, floor=5)
    with pytest.raises(PolicyRefused, match="smaller"):
        strict.reveal(strict.listed(strict.commit()), members=[1])
    with pytest.raises(PolicyRefused):
        strict.reveal(strict.listed(strict.commit(), count=1), members=[1])


def test_a_list_of_too_few_of_the_roster_reveals_nothing(alliance):
    """Leaving out honest members would raise the share of colluders in every group."""
    commitments = alliance.commit()
    alliance.reveal(alliance.listed(commitments[:6]), members=[1])
    with pytest.raises(PolicyRefused, match="three quarters"):
        alliance.reveal(alliance.listed(commitments[:5]), members=[2])


def test_a_stranger_on_the_list_another_roster_and_another_signer_are_refused(alliance):
    commitments = alliance.commit()
    stranger = (*commitments, (9, b"s" * 32))
    with pytest.raises(DrawingRefused, match="roster does not know"):
        alliance.reveal(alliance.listed(stranger), members=[1])
    with pytest.raises(DrawingRefused, match="signed"):
        alliance.reveal(alliance.listed(commitments), members=[1], key=KEYS[2])
    later = sign_call(CommitCall(b"R" * 32, 1).encode(), COORDINATOR)
    for roster in (ROSTER, None):
        with pytest.raises(PolicyRefused, match="roster"):
            alliance.desks[1].commit(later, roster)


def test_what_was_said_outlives_the_process_and_is_on_disk_before_the_answer(tmp_path):
    listed, nonces = Alliance(tmp_path).drawn()
    again = Alliance(tmp_path)
    assert again.reveal(listed) == nonces
    with pytest.raises(DrawingRefused, match="another list"):
        again.reveal(again.listed(listed.commitments[:-1], count=2), members=[1])
    kept = Drawn.decode((tmp_path / "1" / f"drawn-{HASH.hex()}.bin").read_bytes())
    assert (kept.number, kept.list_digest, kept.nonce) == (1, listed.digest(), nonces[1])
    assert (tmp_path / "1" / f"drawn-{HASH.hex()}.bin").stat().st_mode & 0o777 == 0o600


def test_a_member_that_took_no_part_refuses_the_groups(tmp_path, alliance):
    _, nonces = alliance.drawn()
    (tmp_path / "fresh").mkdir()
    with pytest.raises(PolicyRefused):
        Alliance(tmp_path / "fresh").desks[1].check(manifest(nonces))


def test_a_damaged_file_is_an_error_not_a_fresh_start(tmp_path):
    Alliance(tmp_path).drawn()
    path = tmp_path / "1" / f"drawn-{HASH.hex()}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedMessage):
        Alliance(tmp_path).commit(1, members=[1])
    assert issubclass(DrawingRefused, VerificationError)
