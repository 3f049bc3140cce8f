"""What a node remembers between connections."""

from __future__ import annotations

import threading

from flwr.app import Message

from participant.node.inbox import REMEMBERED, Inbox
from participant.node.worker import Worker
from shared.errors import InternalError, TouchstoneError
from shared.fleet.messages import decode, encode, new_message, with_id
from shared.limits import GRANT_BYTES, MAX_HELD_MESSAGES
from tests.support.fleet import content, echo
from tests.support.waiting import wait_until


def test_an_instruction_is_held_until_its_reply_is_acknowledged() -> None:
    inbox = Inbox()
    inbox.take("a", "train")
    inbox.take("b", "train")
    assert (inbox.held(), inbox.ready()) == (["a", "b"], [])
    inbox.answer("b", b"reply")
    assert [key for key, _ in inbox.ready()] == ["b"]
    inbox.finish("b")
    assert inbox.held() == ["a"]
    assert inbox.is_done("b")
    assert not inbox.is_done("a")


def test_a_withdrawn_instructions_reply_is_not_kept() -> None:
    inbox = Inbox()
    inbox.take("a", "train")
    inbox.finish("a")
    inbox.answer("a", b"late")
    assert inbox.ready() == []


def test_only_large_replies_wait_and_grants_end_with_the_connection() -> None:
    inbox = Inbox()
    for key, size in (("small", GRANT_BYTES), ("large", GRANT_BYTES + 1)):
        inbox.take(key, "train")
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
        assert not inbox.full
        inbox.take(f"held-{n}", "train")
    assert inbox.full
    for n in range(REMEMBERED + 5):
        inbox.take(f"done-{n}", "train")
        inbox.finish(f"done-{n}")
    assert not inbox.is_done("done-0")
    assert inbox.is_done(f"done-{REMEMBERED + 4}")


def encoded(key: str) -> bytes:
    return encode(with_id(new_message(content(note=key), 1, "train", run_id=1), key))


def test_a_worker_skips_what_is_not_wanted_and_survives_rubbish() -> None:
    outcomes: dict[str, bytes | TouchstoneError] = {}
    worker = Worker(echo, lambda key: key != "gone", outcomes.__setitem__)
    worker.submit("gone", encoded("gone"))
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

    worker = Worker(leaves, lambda _key: True, outcomes.__setitem__)
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

    worker = Worker(slow, lambda _key: True, lambda key, _outcome: done.append(key))
    worker.submit("first", encoded("first"))
    worker.submit("second", encoded("second"))
    assert started.wait(60)
    assert not worker.stop(0.05)
    go_on.set()
    assert worker.stop(60)
    assert done == ["first"]
