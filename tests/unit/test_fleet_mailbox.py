"""Rules of the mailbox and the grants, without threads or sockets."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from flwr.app import Message

from coordinator.fleet.grants import GrantBook
from coordinator.fleet.hub import Hub
from coordinator.fleet.mailbox import UNFETCHED_S, Fit, Mailbox
from coordinator.fleet.outgoing import bodies
from shared.clock import FixedClock
from shared.fleet.messages import ERROR_NO_REPLY, ERROR_UNDELIVERED, decode, encode, new_message
from tests.support.fleet import content, echo


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def mailbox(clock: FixedClock) -> Mailbox:
    return Mailbox(clock)


def asked(index: int, ttl: float = 10.0) -> Message:
    return new_message(content(), index, "train.step", run_id=7, ttl=ttl)


def answer(mailbox: Mailbox, key: str, index: int) -> None:
    entry = mailbox.open_entry(key, index)
    assert entry is not None
    mailbox.answer(key, index, encode(echo(decode(entry.wire.data))))


def test_instructions_keep_their_order_and_their_owner(mailbox: Mailbox) -> None:
    keys = [mailbox.post(asked(index)) for index in (1, 2, 1)]
    assert mailbox.open_for(1) == [keys[0], keys[2]]
    assert mailbox.open_entry(keys[1], 1) is None
    assert len(set(keys)) == 3


def test_a_reply_fits_only_its_own_member_and_only_once(mailbox: Mailbox) -> None:
    key = mailbox.post(asked(1))
    assert mailbox.fit(key, 1) is Fit.EXPECTED
    assert mailbox.fit(key, 2) is Fit.FOREIGN
    assert mailbox.fit("unknown", 1) is Fit.STALE
    answer(mailbox, key, 1)
    assert mailbox.fit(key, 1) is Fit.STALE
    assert mailbox.fit(key, 2) is Fit.FOREIGN


def test_another_members_answer_and_a_second_answer_change_nothing(mailbox: Mailbox) -> None:
    key = mailbox.post(asked(1))
    mailbox.answer(key, 2, b"forged")
    assert not mailbox.is_answered(key)
    answer(mailbox, key, 1)
    mailbox.answer(key, 1, b"second thoughts")
    mailbox.refuse(key, 1, "second thoughts")
    (entry,) = mailbox.take([key, key])
    reply, usable = entry.reply()
    assert usable
    assert reply.has_content()
    assert mailbox.take([key]) == []


@pytest.mark.parametrize(
    ("delivered", "code"), [(False, ERROR_UNDELIVERED), (True, ERROR_NO_REPLY)]
)
def test_expiry_says_how_far_the_message_came(
    mailbox: Mailbox, clock: FixedClock, delivered: bool, code: int
) -> None:
    key = mailbox.post(asked(3))
    if delivered:
        mailbox.mark_delivered(key, 3)
    clock.advance(9.9)
    assert mailbox.expire() == []
    clock.advance(0.1)
    assert mailbox.expire() == [(key, 3)]
    assert mailbox.expire() == []
    (entry,) = mailbox.take([key])
    assert entry.reply()[0].error.code == code


def test_a_reply_nobody_fetches_is_dropped_and_then_forgotten(
    mailbox: Mailbox, clock: FixedClock
) -> None:
    key = mailbox.post(asked(1))
    answer(mailbox, key, 1)
    clock.advance(10)
    assert mailbox.expire() == [(key, 1)]
    clock.advance(UNFETCHED_S)
    mailbox.expire()
    assert mailbox.known([key]) == []


def test_withdrawing_reports_only_what_was_open(mailbox: Mailbox) -> None:
    done, still_open = mailbox.post(asked(1)), mailbox.post(asked(1))
    answer(mailbox, done, 1)
    assert mailbox.withdraw([done, still_open, "unknown"]) == [(still_open, 1)]
    assert mailbox.known([done, still_open]) == []


def test_a_pushed_message_does_not_follow_its_sender(mailbox: Mailbox) -> None:
    message = asked(1)
    key = mailbox.post(message)
    message.content["note"]["note"] = "changed"
    entry = mailbox.open_entry(key, 1)
    assert entry is not None
    assert decode(entry.wire.data).content["note"]["note"] == ""


def test_members_that_get_the_same_records_share_their_bytes() -> None:
    records, other = content(), content()
    messages = [new_message(records, index, "train.step", run_id=7) for index in (1, 2)]
    messages.append(new_message(other, 3, "train.step", run_id=7))
    first, second, third = bodies(messages)
    assert first is second
    assert third is not first
    hub = Hub()
    keys = hub.post(messages)
    for key, index in zip(keys, (1, 2, 3), strict=True):
        wire = hub.instruction(key, index)
        assert wire is not None
        start, pieces = wire.start(), list(wire.pieces())
        data = b"".join(piece.data for piece in pieces)
        assert (data, start.total_bytes) == (wire.data, len(data))
        assert start.sha256 == hashlib.sha256(data).digest()
        received = decode(data).metadata
        assert (received.message_id, received.dst_node_id) == (key, index)


def test_large_replies_are_taken_one_at_a_time(mailbox: Mailbox) -> None:
    keys = [mailbox.post(asked(index)) for index in (1, 2, 3, 4)]
    for index, key in enumerate(keys[:3], 1):
        answer(mailbox, key, index)
    large = {keys[0], keys[2]}
    assert [entry.key for entry in mailbox.take(keys, large)] == [keys[0], keys[1]]
    assert [entry.key for entry in mailbox.take(keys, large)] == [keys[2]]
    assert mailbox.take(keys, large) == []


def test_grants_go_out_in_order_and_come_back_once() -> None:
    book = GrantBook(2)
    for key in "abcd":
        book.request(key)
    assert book.advance() == ["a", "b"]
    book.request("a")
    assert book.advance() == []
    book.release("a")
    book.release("a")
    assert book.advance() == ["c"]
    book.release("d")
    book.release("b")
    assert book.advance() == []
    assert book.held == {"c"}
    with pytest.raises(ValueError):
        GrantBook(0)


class Recorder:
    """A link that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def wake(self) -> None:
        self.told.append(("wake",))

    def granted(self, key: str) -> None:
        self.told.append(("granted", key))

    def withdrawn(self, key: str) -> None:
        self.told.append(("withdrawn", key))

    def close(self, code: str, text: str) -> None:
        self.told.append(("close", code))


def test_a_lost_stream_gives_its_grants_back_but_not_those_of_received_replies(
    clock: FixedClock,
) -> None:
    hub = Hub(clock=clock, max_uploads=2)
    links = {index: Recorder() for index in (1, 2, 3)}
    for index, link in links.items():
        hub.attach(index, link)
    received, lost, waiting = hub.post([asked(1), asked(1), asked(3)])
    for key, index in ((received, 1), (lost, 1), (waiting, 3)):
        hub.request_grant(key, index)
    hub.answer(received, 1, b"bytes")
    assert ("granted", waiting) not in links[3].told
    hub.detach(1, links[1])
    assert ("granted", waiting) in links[3].told
    assert hub.has_grant(received)
    assert not hub.has_grant(lost)


def test_a_replaced_stream_is_closed_and_its_end_does_not_unseat_the_new_one(
    clock: FixedClock,
) -> None:
    hub = Hub(clock=clock)
    old, new = Recorder(), Recorder()
    hub.attach(1, old)
    hub.attach(1, new)
    assert old.told == [("close", "replaced")]
    hub.detach(1, old)
    assert hub.connected() == {1}


def test_expiry_tells_the_member_and_frees_the_grant(clock: FixedClock) -> None:
    hub = Hub(clock=clock, max_uploads=1)
    first, second = Recorder(), Recorder()
    hub.attach(1, first)
    hub.attach(2, second)
    slow, quick = hub.post([asked(1, ttl=1), asked(2, ttl=100)])
    hub.request_grant(slow, 1)
    hub.request_grant(quick, 2)
    clock.advance(1)
    hub.tick()
    assert ("withdrawn", slow) in first.told
    assert ("granted", quick) in second.told
