"""Every state of an honest coordinator: no order of replies and crashes makes it ask twice.

Bounds: one session. Four members with t = n_min = 3, two slots, two rounds, and in every state
every reply that members were asked for, good, repeated, another's, altered, of another slot; or
five members with t = 3, n_min = 4, one slot, good replies alone, so that there is more than one
certificate to choose. All members are participants of every round. The coordinator may die before
every write and give up the slot in every state. Set-up and the model are not part of it.

In every state and over every history that leads there: one unmask request and one release request
a slot, no slot opened twice, no round opened again once members were asked to unmask it, no round
summed twice; every sum is its survivors'; a refusal, a repetition or a bad reply changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest

from shared.secagg import Coordinator
from shared.secagg.coordinator_round import RoundBook
from shared.secagg.errors import BadUpload
from shared.secagg.shamir import decode_element
from tests.support.secagg import make_terms
from tests.support.secagg_desk import DeskExplorer, Seen, Wrong

FOUR = make_terms(4, colluders=1, threshold=3, n_min=3, slots=2)
FIVE = make_terms(5, colluders=0, threshold=3, n_min=4, slots=1)


def show(name: str, seen: Seen) -> None:
    print(
        f"{name}: {seen.states} states, {seen.steps} steps, {seen.refusals} refusals, "
        f"{len(seen.sums)} sums"
    )


def test_four_members_in_any_order_with_crashes_and_bad_replies() -> None:
    seen = DeskExplorer(FOUR, 2).run()
    show("four members", seen)
    # Round 1 in either slot, round 2 in the second; all four, or any one of them lost.
    assert len(seen.sums) == 3 * 5
    assert seen.certificates > 0
    assert seen.refusals > seen.steps > seen.states > 400


def test_five_members_of_whom_any_three_certify() -> None:
    seen = DeskExplorer(FIVE, 1, hostile=False).run()
    show("five members", seen)
    assert len(seen.sums) == 1 + 5
    assert seen.certificates > 5
    assert seen.states > 700


class TestTheCheckCanFail:
    """Each rule that is taken away is missed."""

    def wrong(self, match: str, **options: Any) -> None:
        explorer = DeskExplorer(options.pop("terms", FOUR), 2, **options)
        with pytest.raises(Wrong, match=match):
            explorer.run()

    def patched(self, name: str, change: Callable[..., object], owner: type = RoundBook) -> Any:
        return mock.patch.object(owner, name, change)

    def test_a_vector_that_is_taken_after_the_survivors_were_fixed(self) -> None:
        add = RoundBook.add_upload

        def late(self: RoundBook, index: int, header: bytes, vector: np.ndarray) -> None:
            fixed, self.survivors = self.survivors, ()
            try:
                add(self, index, header, vector)
            finally:
                self.survivors = fixed

        with self.patched("add_upload", late):
            self.wrong("rejected", hostile=False)

    def test_a_repeated_vector_that_is_added_twice(self) -> None:
        add = RoundBook.add_upload

        def twice(self: RoundBook, index: int, header: bytes, vector: np.ndarray) -> None:
            self.headers.pop(index, None)
            add(self, index, header, vector)

        with self.patched("add_upload", twice):
            self.wrong("a bad or repeated reply was taken", hostile=False)

    def test_a_broken_vector_that_leaves_a_trace(self) -> None:
        add = RoundBook.add_upload

        def added_first(self: RoundBook, index: int, header: bytes, vector: np.ndarray) -> None:
            try:
                add(self, index, header, vector)
            except BadUpload:
                self.sum += vector
                raise

        with self.patched("add_upload", added_first):
            self.wrong("a refusal changed something")

    def test_a_wrong_share_that_is_not_held_against_its_hash(self) -> None:
        def believed(self: RoundBook, index: int, dealer: int, share: bytes, *_: bytes, **__: bool):
            return decode_element(share)

        with self.patched("_check_share", believed):
            self.wrong("a bad or repeated reply was taken")

    def test_a_certificate_that_is_chosen_anew(self) -> None:
        certify = RoundBook.certify

        def anew(self: RoundBook) -> object:
            self.certified = ()
            return certify(self)

        with self.patched("certify", anew):
            self.wrong("two requests to release", terms=FIVE, hostile=False)

    def test_a_slot_that_is_not_written_down(self) -> None:
        dump = Coordinator.dump_round

        def forgetful(self: Coordinator) -> bytes:
            used, self._next_slot = self._next_slot, 0
            try:
                return dump(self)
            finally:
                self._next_slot = used

        with self.patched("dump_round", forgetful, Coordinator):
            self.wrong("a slot was opened twice", hostile=False)

    def test_a_round_on_disk_before_its_accumulator(self) -> None:
        order = ("round", "accumulator", "ask")
        self.wrong("cannot be read back", hostile=False, order=order)

    def test_members_asked_before_the_survivors_are_on_disk(self) -> None:
        order = ("accumulator", "ask", "round")
        self.wrong("opened again after members were asked", hostile=False, order=order)
