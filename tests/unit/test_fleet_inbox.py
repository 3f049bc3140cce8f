"""What a node remembers between connections."""

from __future__ import annotations

import threading

from flwr.app import Message

from participant.node.inbox import REMEMBERED, Inbox
from participant.node.worker import Worker
from shared.errors import InternalError, TouchstoneError
from shared.fleet.messages import decode, encode, new_message, with_id
from shared.limits import GRANT_BYTES, MAX_HELD_BYTES, MAX_HELD_MESSAGES
from tests.support.fleet import content, echo
from tests.support.waiting import wait_until


def test_an_instruction_is_held_until_its_reply_is_acknowledged() -> None:
    inbox = Inbox()
    inbox.take("a", "train", b"asked")
    inbox.take("b", "train", b"asked")
    assert (inbox.held(), inbox.ready()) == (["a", "b"], [])
    inbox.answer("b", b"reply")
    assert [key for key, _ in inbox.ready()] == ["b"]
    inbox.finish("b")
    assert inbox.held() == ["a"]
    assert inbox.is_done("b")
    assert not inbox.is_done("a")


def test_a_withdrawn_instructions_reply_is_not_kept() -> None:
    inbox = Inbox()
    inbox.take("a", "train", b"asked")
    inbox.finish("a")
    inbox.answer("a", b"late")
    assert inbox.ready() == []


def test_only_large_replies_wait_and_grants_end_with_the_connection() -> None:
    inbox = Inbox()
    for key, size in (("small", GRANT_BYTES), ("large", GRANT_BYTES + 1)):
        inbox.take(key, "train", b"asked")
        inbox.answer(key, bytes(size))
    small, large = (held for _, held in inbox.ready())
    assert (small.needs_grant, large.needs_grant) == (False, True)
    inbox.grant("large")
    assert not large.needs_grant
    inbox.revoke_grants()
    assert large.needs_grant


def test_memory_is_bounded() -> None:
    inbox = Inbox()
    for n in range(MAX_HELD_MESSAGES):
        assert inbox.has_room(1)
        inbox.take(f"held-{n}", "train", b"asked")
    assert not inbox.has_room(1)
    for n in range(REMEMBERED + 5):
        inbox.take(f"done-{n}", "train", b"asked")
        inbox.finish(f"done-{n}")
    assert not inbox.is_done("done-0")
    assert inbox.is_done(f"done-{REMEMBERED + 4}")


def test_the_bytes_that_wait_are_bounded_together() -> None:
    inbox = Inbox()
    half = bytes(MAX_HELD_BYTES // 2)  # zero pages, which the system does not give until written
    inbox.take("one", "train", half)
    assert inbox.has_room(MAX_HELD_BYTES - len(half))
    assert not inbox.has_room(MAX_HELD_BYTES - len(half) + 1)
    inbox.take("two", "train", half)
    assert inbox.next() == ("one", half)
    assert inbox.has_room(len(half)), "what is being worked on no longer waits"
    inbox.finish("two")
    assert inbox.next() is None
    assert inbox.has_room(MAX_HELD_BYTES)


def encoded(key: str) -> bytes:
    return encode(with_id(new_message(content(note=key), 1, "train", run_id=1), key))


def test_instructions_are_handed_out_in_order_and_withdrawn_ones_not_at_all() -> None:
    inbox = Inbox()
    for key in ("first", "withdrawn", "refused", "last"):
        inbox.take(key, "train", key.encode())
    inbox.finish("withdrawn")
    inbox.forget("refused")
    assert [inbox.next(), inbox.next(), inbox.next()] == [
        ("first", b"first"),
        ("last", b"last"),
        None,
    ]


def test_a_worker_survives_rubbish() -> None:
    outcomes: dict[str, bytes | TouchstoneError] = {}
    worker = Worker(echo, outcomes.__setitem__)
    worker.submit("rubbish", b"\xff")
    worker.submit("good", encoded("good"))
    wait_until(lambda: "good" in outcomes)
    assert set(outcomes) == {"rubbish", "good"}
    assert isinstance(outcomes["rubbish"], TouchstoneError)
    reply = outcomes["good"]
    assert isinstance(reply, bytes)
    assert decode(reply).metadata.reply_to_message_id == "good"
    assert worker.stop(60)


def test_a_worker_outlives_an_application_that_exits() -> None:
    outcomes: dict[str, bytes | TouchstoneError] = {}

    def leaves(message: Message) -> Message:
        if message.metadata.message_id == "first":
            raise SystemExit(1)
        return echo(message)

    worker = Worker(leaves, outcomes.__setitem__)
    worker.submit("first", encoded("first"))
    worker.submit("second", encoded("second"))
    wait_until(lambda: len(outcomes) == 2)
    assert isinstance(outcomes["first"], InternalError)
    assert isinstance(outcomes["second"], bytes)
    assert worker.stop(60)


def test_a_worker_says_when_it_could_not_stop_in_time() -> None:
    started, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def slow(message: Message) -> Message:
        started.set()
        go_on.wait(60)
        return echo(message)

    worker = Worker(slow, lambda key, _outcome: done.append(key))
    worker.submit("first", encoded("first"))
    worker.submit("second", encoded("second"))
    assert started.wait(60)
    assert not worker.stop(0.05)
    go_on.set()
    assert worker.stop(60)
    assert done == ["first"]
