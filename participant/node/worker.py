"""Runs the node's own application on instructions, one at a time, off the event loop.

The application is the one that is installed here. An instruction chooses among its actions by name
and carries data; no code, bundle or path in a message is ever loaded. What goes back when something
fails is the public text of our own errors, or just the class of anybody else's: a stack trace could
quote a listing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from shared.errors import InternalError, MalformedMessage, TouchstoneError
from shared.fleet.chunks import check_size
from shared.fleet.messages import ERROR_HANDLER, Message, decode, encode, error_reply

Handler = Callable[[Message], Message]
"""The application: takes an instruction, returns the reply."""

_log = structlog.get_logger("node")


class Worker:
    """One daemon thread.

    It is given one instruction at a time: those that wait are in the inbox, where they can be
    withdrawn.

    Args:
        handler: the application.
        done: told the encoded reply, or why there is none; called in the worker's thread.
    """

    def __init__(
        self,
        handler: Handler,
        done: Callable[[str, bytes | TouchstoneError], None],
    ) -> None:
        self._handler = handler
        self._done = done
        self._queue: queue.SimpleQueue[tuple[str, bytes | bytearray] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="node-worker", daemon=True)
        self._thread.start()

    def submit(self, key: str, data: bytes | bytearray) -> None:
        """Work on an encoded instruction, after those that were submitted before."""
        self._queue.put((key, data))

    def stop(self, grace_s: float) -> bool:
        """Take no further instruction; return whether the current one ended within ``grace_s``."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(grace_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping.is_set():
            key, data = job
            self._done(key, self._outcome(key, data))
            del job, data  # not to be held while there is nothing to do

    def _outcome(self, key: str, data: bytes | bytearray) -> bytes | TouchstoneError:
        try:
            return respond(self._handler, key, data)
        except TouchstoneError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - the thread must outlive sys.exit() in a library
            _log.warning("instruction ended the application", error=type(error).__name__)
            return InternalError("the application ended abruptly")


def respond(handler: Handler, key: str, data: bytes | bytearray) -> bytes:
    """Return the encoded reply to the encoded instruction ``key``; failures become error replies.

    Raises:
        MalformedMessage: the bytes are no instruction, or one under another id.
    """
    instruction = decode(data)
    if instruction.metadata.message_id != key or not instruction.has_content():
        raise MalformedMessage("the message is not the instruction that was announced")
    try:
        reply = encode(_checked(handler(instruction), key))
        check_size(len(reply))
    except TouchstoneError as error:
        _log.warning("instruction refused", code=error.code, reason=error.message)
        return _failure(instruction, f"{error.code}: {error.message}")
    except Exception as error:  # noqa: BLE001 - any failure of the application is an answer
        _log.warning("instruction failed", error=type(error).__name__)
        return _failure(instruction, f"failed: {type(error).__name__}")
    return reply


def _checked(reply: Message, key: str) -> Message:
    if not isinstance(reply, Message) or reply.metadata.reply_to_message_id != key:
        raise MalformedMessage("the application did not reply to the instruction")
    return reply


def _failure(instruction: Message, reason: str) -> bytes:
    return encode(error_reply(instruction, ERROR_HANDLER, reason))
