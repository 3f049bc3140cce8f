"""Every state of an honest coordinator: its memory, its disk, and what it has asked so far.

The real :class:`~shared.secagg.Coordinator` is driven through every order of uploads, answers,
repetitions, foreign and altered replies, closing, abandoning and crashes. Members are honest and
their answers recorded, one for each request. The disk is written in the order in which
``coordinator.rounds`` writes it; a crash may come before any of the writes.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from shared.errors import TouchstoneError
from shared.secagg import Coordinator, SessionTerms, keys, wire
from shared.secagg.coordinator_round import RoundBook
from shared.secagg.coordinator_setup import SetupBook
from shared.secagg.errors import SumRejected
from shared.secagg.round_messages import MaskedRequest, Reveal, SurvivorSet
from tests.support import secagg
from tests.support.secagg import CONFIG, MODEL, World, identity

MAX_STATES = 5_000
"""Far above what the bounds give; a broken state machine must end as well."""


@dataclass(frozen=True)
class Files:
    """What outlives the process: the round's state, the accumulator, rounds that are over."""

    state: bytes = b""
    accumulator: bytes = b""
    over: int = 0


@dataclass(frozen=True)
class Asked:
    """What members were sent: by the newest slot, and the last round they were to unmask."""

    slot: int = -1
    unmask: bytes = b""
    release: bytes = b""
    unmasked_round: int = 0


@dataclass(frozen=True)
class State:
    """One state; ``desk`` is never changed, only copies of it are."""

    desk: Coordinator
    files: Files
    asked: Asked

    @property
    def key(self) -> tuple[object, ...]:
        """Equal states have equal keys."""
        return (*memory(self.desk), self.files, self.asked)


@dataclass
class Seen:
    """What an exploration saw."""

    states: int = 0
    steps: int = 0
    refusals: int = 0
    sums: set[tuple[int, int, tuple[int, ...]]] = field(default_factory=set)
    certificates: int = 0


class Wrong(AssertionError):
    """A state that must not be reached."""


def memory(desk: Coordinator) -> tuple[bytes, bytes]:
    """Return what a coordinator holds: its round and its accumulator."""
    return desk.dump_round(), bytes(desk.accumulator()) if desk.round_open else b""


def twin(desk: Coordinator) -> Coordinator:
    """Return a copy that shares the set-up and nothing that changes."""
    other = copy.copy(desk)
    if desk._book is not None:
        book = copy.copy(desk._book)
        book.sum = book.sum.copy()
        for name in ("headers", "digests", "signatures", "reveals", "shares"):
            setattr(book, name, dict(getattr(book, name)))
        other._book = book
    return other


class Alliance:
    """Honest members whose answers are recorded by request."""

    def __init__(self, terms: SessionTerms) -> None:
        self.terms = terms
        self._world = World(terms)
        assert self._world.setup().usable
        self.words = self._world.layout.words
        self.setup = self._world.journal["setup"]
        self.plain: dict[tuple[int, int, int], NDArray[np.uint64]] = {}
        self._prepared = secagg.snapshot(self._world)
        self._masked: dict[bytes, secagg.Disk] = {}
        self.upload = functools.cache(self._upload)
        self.answer = functools.cache(self._answer)
        self.masked_request = functools.cache(self._masked_request)

    def begin(self) -> Coordinator:
        """Return the coordinator as it is after set-up."""
        return Coordinator.load(signing_key=identity(0), setup=self.setup)

    def _masked_request(self, slot: int, round_no: int) -> bytes:
        body = MaskedRequest(
            round_no, slot, self.terms.indices, hashlib.sha256(MODEL).digest(), CONFIG,
            self.words, self.terms.quantiser.encode(),
        ).encode()  # fmt: skip
        return wire.seal(wire.MASKED, self.terms, 0, body, identity(0))

    def _upload(self, index: int, request: bytes) -> tuple[bytes, NDArray[np.uint64]]:
        node = self._world.nodes[index]
        node.disk = replace(self._prepared[index])
        node.restart()
        header, data = node.train(request)
        asked = MaskedRequest.decode(wire.verified_body(request))
        self.plain[asked.slot, asked.round, index] = node.plain[1, asked.round, asked.slot]
        self._masked[request + bytes([index])] = replace(node.disk)
        return header, np.frombuffer(data, "<u8").astype(np.uint64)

    def _answer(self, index: int, masked: bytes, request: bytes) -> bytes:
        """Answer an unmask or release request in the slot that ``masked`` opened."""
        self.upload(index, masked)
        node = self._world.nodes[index]
        node.disk = replace(self._masked[masked + bytes([index])])
        node.restart()
        return node.answer(request)


Act = Callable[[Coordinator], object]


class DeskExplorer:
    """Visits every state; a mutant is whatever is patched while it runs.

    Args:
        terms: of the one session; its slots bound the exploration.
        rounds: rounds of the run.
        hostile: try replies that are foreign or altered as well.
        order: what is done when uploads are closed, from "accumulator", "round" and "ask";
            the caller's part, so mutants of it are other orders.
    """

    def __init__(
        self,
        terms: SessionTerms,
        rounds: int,
        *,
        hostile: bool = True,
        order: tuple[str, str, str] = ("accumulator", "round", "ask"),
    ) -> None:
        self.alliance, self.rounds = Alliance(terms), rounds
        self.hostile, self.order = hostile, order
        self.members = terms.indices
        self.seen = Seen()

    def run(self) -> Seen:
        """Explore from a finished set-up.

        Raises:
            Wrong: a state that must not be reached.
        """
        fixed = bytes(range(keys.KEY_BYTES))
        with (
            mock.patch.object(wire, "verify", functools.cache(wire.verify)),
            mock.patch.object(wire, "_read", functools.cache(wire._read)),
            mock.patch.object(SetupBook, "decode", functools.cache(SetupBook.decode)),
            # The accumulator's checksum has a fresh key each time: equal states would differ.
            mock.patch.object(keys.secrets, "token_bytes", return_value=fixed),
        ):
            first = State(self.alliance.begin(), Files(), Asked())
            known, queue = {first.key}, [first]
            while queue:
                for after in self._steps(queue.pop()):
                    self.seen.steps += 1
                    if after.key not in known:
                        known.add(after.key)
                        queue.append(after)
                if len(known) > MAX_STATES:
                    raise Wrong(f"more than {MAX_STATES} states")
        self.seen.states = len(known)
        return self.seen

    def _steps(self, state: State) -> Iterator[State]:
        yield from self._crash(state)
        yield from self._open(state)
        yield from self._abandon(state)
        yield from self._replies(state)
        if state.desk.round_open:
            yield from self._close(state)
            yield from self._release(state)
            yield from self._finish(state)

    def _try(self, state: State, act: Act) -> tuple[Coordinator, object] | None:
        """Act on a copy; a refusal must leave it as it was."""
        desk = twin(state.desk)
        try:
            result = act(desk)
        except SumRejected:
            raise
        except TouchstoneError:
            self.seen.refusals += 1
            if memory(desk) != memory(state.desk):
                raise Wrong("a refusal changed something") from None
            return None
        return desk, result

    def _written(self, state: State, desk: Coordinator, *files: Files) -> Iterator[State]:
        """Write file after file; before each the process may die, at the end it goes on."""
        before = state.files
        for after in files:
            yield from self._crash(replace(state, files=before))
            before = after
        yield State(desk, before, state.asked)

    def _crash(self, state: State) -> Iterator[State]:
        """Start again from the files, as ``coordinator.rounds.run`` does."""
        files, asked = state.files, state.asked
        try:
            desk = Coordinator.load(
                signing_key=identity(0), setup=self.alliance.setup,
                round_state=files.state, accumulator=files.accumulator,
            )  # fmt: skip
        except TouchstoneError as error:
            raise Wrong(f"the journal cannot be read back: {error.message}") from error
        if desk._book is not None and desk._book.request.round == files.over + 1:
            yield State(desk, files, self._ask_unmask(desk, asked))
            return
        desk.abandon_slot()
        yield State(desk, replace(files, state=desk.dump_round()), asked)

    def _open(self, state: State) -> Iterator[State]:
        number = state.files.over + 1
        if number > self.rounds:
            return
        digest = hashlib.sha256(MODEL).digest()
        opened = self._try(
            state, lambda d: d.open_round(number, self.members, digest, CONFIG, self.alliance.words)
        )
        if opened is None:
            return
        desk, request = opened
        slot = desk.round_facts().slot
        files = replace(state.files, state=desk.dump_round())
        for after in self._written(state, desk, files):
            if after.desk is not desk:
                yield after
                continue
            if slot <= state.asked.slot:
                raise Wrong("a slot was opened twice")
            if number <= state.asked.unmasked_round:
                raise Wrong("a round was opened again after members were asked to unmask it")
            if request != self.alliance.masked_request(slot, number):
                raise Wrong("the request to mask is not what was asked for")
            asked = Asked(slot, unmasked_round=state.asked.unmasked_round)
            yield replace(after, asked=asked)

    def _abandon(self, state: State) -> Iterator[State]:
        """Give the slot up; a round whose survivors were fixed is burnt with it."""
        desk = twin(state.desk)
        burnt = bool(desk.open_survivors)
        desk.abandon_slot()
        over = replace(state.files, over=state.files.over + burnt)
        yield from self._written(state, desk, over, replace(over, state=desk.dump_round()))

    def _close(self, state: State) -> Iterator[State]:
        if state.desk.open_survivors:
            return
        closed = self._try(state, lambda d: d.close_masked())
        if closed is None:
            return
        desk, files, asked = closed[0], state.files, state.asked
        total, book = bytes(desk.accumulator()), desk.dump_round()
        for step in self.order:
            yield from self._crash(State(desk, files, asked))
            if step == "ask":
                asked = self._ask_unmask(desk, asked)
            elif step == "round":
                files = replace(files, state=book)
            else:
                files = replace(files, accumulator=total)
        yield State(desk, files, asked)

    def _ask_unmask(self, desk: Coordinator, asked: Asked) -> Asked:
        request = desk.unmask_request()
        if asked.unmask not in (b"", request):
            raise Wrong("two requests to unmask in one slot")
        number = max(asked.unmasked_round, desk._book.request.round)  # type: ignore[union-attr]
        return replace(asked, unmask=request, unmasked_round=number)

    def _release(self, state: State) -> Iterator[State]:
        """Ask for the release; nothing is written, the signatures on disk give the same bytes."""
        done = self._try(state, lambda d: d.release_request())
        if done is None:
            return
        desk, request = done
        if state.asked.release not in (b"", request):
            raise Wrong("two requests to release in one slot")
        self.seen.certificates += 1
        yield State(desk, state.files, replace(state.asked, release=request))

    def _finish(self, state: State) -> Iterator[State]:
        try:
            done = self._try(state, lambda d: d.finish_round())
        except SumRejected as error:
            raise Wrong("a sum of honest members was rejected") from error
        if done is None:
            return
        desk, result = done
        plain = self.alliance.plain
        mine = [plain[result.slot, result.round, u] for u in result.survivors]
        if not np.array_equal(result.vector, functools.reduce(np.add, mine)):
            raise Wrong("a sum is not that of its survivors")
        if result.round != state.files.over + 1:
            raise Wrong("a round was summed twice")
        self.seen.sums.add((result.round, result.slot, result.survivors))
        desk.take_back(result)
        over = replace(state.files, over=result.round)
        yield from self._written(state, desk, over, replace(over, state=desk.dump_round()))

    def _replies(self, state: State) -> Iterator[State]:
        """Good replies in any order and more than once; bad ones must change nothing."""
        for act, good, kept in (*self._uploads(state), *self._answers(state)):
            done = self._try(state, act)
            if done is None:
                continue
            desk = done[0]
            if memory(desk) == memory(state.desk):
                continue
            if not good:
                raise Wrong("a bad or repeated reply was taken")
            files = state.files
            if kept:
                yield from self._written(state, desk, replace(files, state=desk.dump_round()))
            else:
                yield State(desk, files, state.asked)

    def _uploads(self, state: State) -> Iterator[tuple[Act, bool, bool]]:
        """Of every member: its upload, another's, an altered one, another slot's, another one."""
        slot, number = state.asked.slot, state.files.over + 1
        if slot < 0:
            return
        request = self.alliance.masked_request(slot, number)
        other = self.alliance.masked_request((slot + 1) % self.alliance.terms.slots, number)
        for i in self.members:
            header, vector = self.alliance.upload(i, request)
            book = state.desk._book
            yield _masked(i, header, vector), book is None or i not in book.headers, False
            if not self.hostile:
                continue
            stranger = self.members[i % len(self.members)]
            bad = [
                self.alliance.upload(stranger, request),
                (header, vector ^ np.uint64(1)),
                (header[:-1] + bytes([header[-1] ^ 1]), vector),
            ]
            if other != request:
                bad.append(self.alliance.upload(i, other))
            for wrong in bad:
                yield _masked(i, *wrong), False, False

    def _answers(self, state: State) -> Iterator[tuple[Act, bool, bool]]:
        """Of every member, to the last unmask and release request: good, foreign, altered."""
        asked = state.asked
        if not asked.unmask:
            return
        masked = self.alliance.masked_request(asked.slot, asked.unmasked_round)
        claim = SurvivorSet.decode(wire.verified_body(asked.unmask))
        alive = claim.survivors(self.members)
        # As the rounds do it: once t have signed, the release is asked for before anything else.
        book = state.desk._book
        signed = book is not None and state.desk.can_release and not book.certified
        for i in alive:
            for request, name in ((asked.unmask, "on_unmask"), (asked.release, "on_release")):
                if not request or (signed and name == "on_unmask"):
                    continue
                reply = self.alliance.answer(i, masked, request)
                yield _given(name, i, reply), book is None or not _has(book, name, i), True
                if not self.hostile:
                    continue
                stranger = alive[alive.index(i) - 1]
                yield _given(name, i, self.alliance.answer(stranger, masked, request)), False, True
                for wrong in self._altered(i, reply, claim):
                    yield _given(name, i, wrong), False, True
        for i in set(self.members) - set(alive):
            body = claim.encode()
            late = wire.seal(wire.SURVIVORS, self.alliance.terms, i, body, identity(i))
            yield _given("on_unmask", i, late), False, True

    def _altered(self, i: int, reply: bytes, claim: SurvivorSet) -> Iterator[bytes]:
        """A flipped bit; and, signed by the member itself, another set or a wrong share."""
        terms, kind = self.alliance.terms, wire.peek(reply).kind
        yield reply[:-1] + bytes([reply[-1] ^ 1])
        other = SurvivorSet(claim.t2, bytes([claim.bitmap[0] ^ 1]))
        if kind == wire.SURVIVORS:
            yield wire.seal(kind, terms, i, other.encode(), identity(i))
            return
        reveal = Reveal.decode(wire.verified_body(reply))
        (share, leaf), *rest = reveal.shares
        for wrong in (
            replace(reveal, survivor_set=other),
            replace(reveal, shares=((bytes([share[0] ^ 1]) + share[1:], leaf), *rest)),
        ):
            yield wire.seal(kind, terms, i, wrong.encode(), identity(i))


def _masked(index: int, header: bytes, vector: NDArray[np.uint64]) -> Act:
    return lambda desk: desk.on_masked(index, header, vector)


def _has(book: RoundBook, name: str, index: int) -> bool:
    """Tell whether a reply would be a repetition."""
    signs = name == "on_unmask" and bool(book.lost)
    return index in (book.signatures if signs else book.reveals)


def _given(name: str, index: int, reply: bytes) -> Act:
    return lambda desk: getattr(desk, name)(index, reply)
