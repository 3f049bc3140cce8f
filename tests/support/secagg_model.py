"""What the model check explores: a real member under everything a lying coordinator may send.

Members meet only through the coordinator, which knows all they have said. So the reachable states
of one member, with the *real* state machine driven from its disk, are a finite graph of its own:
every request of the menu in every state, every crash between two of its writes. The states of the
whole alliance are the products of these graphs in which each certificate uses signatures that were
given before.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from unittest import mock

import numpy as np

from shared.errors import TouchstoneError
from shared.secagg import Coordinator, Member, RunGuard, SessionTerms, wire
from shared.secagg.errors import SlotClosed
from shared.secagg.member_state import CELL, MemberState
from shared.secagg.round_messages import MaskedRequest, ReleaseRequest, Reveal, SurvivorSet
from tests.support.secagg import CONFIG, World, identity, limits_for, make_terms

MEMBERS = (1, 2, 3, 4)
THRESHOLD = 3
SLOTS = 2
WORDS = 5
MODELS = {name: f"model {name}".encode() for name in "AB"}

Fact = tuple[object, ...]
"""What the coordinator learns from an answer: ("signed", T2, bitmap, member), ("raw", name),
("revealed", T2, bitmap, member), ("share", kind, session, slot, dealer, holder),
("masked", session, slot, member, round, T2, U, digest of the vector), or ("stale", session, member)
beside anything a member says in a session after it has joined a newer one."""


@dataclass(frozen=True)
class View:
    """One 'masked' request that the coordinator may make."""

    session: int
    slot: int
    round: int
    participants: tuple[int, ...] = MEMBERS
    model: str = "A"


@dataclass(frozen=True)
class Disk:
    """All that outlives a member's process."""

    guard: bytes
    state: bytes
    upload: bytes = b""


@dataclass(frozen=True)
class Edge:
    """A step of one member: the signatures of others that it needs, and where it leads."""

    needs: frozenset[Fact]
    target: int


@dataclass(frozen=True)
class Ask:
    """An unmask or release request: which round it names, and which signatures it quotes.

    ``usual`` ones are asked in every state; the rest only of a member whose open round they name,
    since any other refuses them for the name alone.
    """

    request: bytes
    t2: bytes
    usual: bool
    needs: frozenset[Fact] = frozenset()


@dataclass
class Graph:
    """Everything one member can do: its disks with what it has told, and the steps between.

    ``uncertified`` says where it gave a share of a lost member's rho for too few signatures. It is
    a property of a step, not of a state: a signature that is given later does not heal it.
    """

    index: int
    told: list[frozenset[Fact]] = field(default_factory=list)
    edges: list[set[Edge]] = field(default_factory=list)
    uncertified: set[str] = field(default_factory=set)
    requests: int = 0
    refusals: int = 0


@dataclass(frozen=True)
class Session:
    """A finished set-up: its binding, and every member's disk."""

    terms: SessionTerms
    t1c: bytes
    disks: dict[int, Disk]
    advertise: bytes


@functools.cache
def session(ordinal: int, threshold: int = THRESHOLD, n_min: int = THRESHOLD) -> Session:
    """Run a whole set-up of the four members once; its disks are where every exploration begins."""
    terms = make_terms(
        len(MEMBERS), colluders=1, threshold=threshold, n_min=n_min, slots=SLOTS, ordinal=ordinal
    )
    world = World(terms)
    assert world.setup().usable
    disks = {i: Disk(node.guard.dump(), node.member.dump(), b"") for i, node in world.nodes.items()}
    t1c = MemberState.decode(disks[1].state).t1c
    fresh = Coordinator.begin(terms=terms, signing_key=identity(0))
    return Session(terms, t1c, disks, fresh.advertise_request())


def secrets_of(index: int, found: Session) -> dict[bytes, Fact]:
    """Return every secret that member ``index`` holds in a session, by its bytes."""
    state, ordinal = MemberState.decode(found.disks[index].state), found.terms.ordinal
    table: dict[bytes, Fact] = {}
    for slot in range(SLOTS):
        at = 2 * slot * CELL
        for dealer, row in state.shares.items():
            for kind, start in (("b", at), ("rho", at + CELL)):
                fact = ("share", kind, ordinal, slot, dealer, index)
                table[bytes(row[start : start + CELL])] = fact
        table[bytes(state.own[at : at + CELL])] = ("raw", "b")
        table[bytes(state.own[at + CELL : at + 2 * CELL])] = ("raw", "rho")
        for seeds in state.seeds.values():
            table[bytes(seeds[slot * CELL : (slot + 1) * CELL])] = ("raw", "kappa")
    return table


class Menu:
    """All that the coordinator may send to one member in a scenario."""

    def __init__(
        self,
        views: tuple[View, ...],
        colluders: tuple[int, ...],
        threshold: int = THRESHOLD,
        bitmaps: Sequence[int] = range(1 << (len(MEMBERS) + 1)),
        n_min: int = THRESHOLD,
    ) -> None:
        self.bitmaps = bitmaps
        self.views, self.colluders, self.threshold = views, frozenset(colluders), threshold
        ordinals = sorted({1} | {view.session for view in views})
        self.sessions = {ordinal: session(ordinal, threshold, n_min) for ordinal in ordinals}
        self.masked = {view: self._masked(view) for view in views}
        self.shares = list(dict.fromkeys([*self._unmask(), *self._release()]))

    def t2(self, view: View) -> bytes:
        """Return the binding of a view."""
        return self._request(view).t2(self.sessions[view.session].t1c)

    def _request(self, view: View) -> MaskedRequest:
        quantiser = self.sessions[view.session].terms.quantiser.encode()
        model = hashlib.sha256(MODELS[view.model]).digest()
        return MaskedRequest(
            view.round, view.slot, view.participants, model, CONFIG, WORDS, quantiser
        )

    def _seal(self, kind: str, ordinal: int, body: bytes) -> bytes:
        return wire.seal(kind, self.sessions[ordinal].terms, 0, body, identity(0))

    def _masked(self, view: View) -> bytes:
        return self._seal(wire.MASKED, view.session, self._request(view).encode())

    def _claims(self) -> Iterator[tuple[int, SurvivorSet]]:
        """Every bitmap over four members, and one bit too many, under every T2, in any session."""
        for view in self.views:
            for bits in self.bitmaps:
                yield view.session, SurvivorSet(self.t2(view), bytes([bits]))

    def _unmask(self) -> Iterator[Ask]:
        for ordinal, claim in self._claims():
            body = self._seal(wire.UNMASK, ordinal, claim.encode())
            yield Ask(body, claim.t2, claim.bitmap[0].bit_count() >= THRESHOLD)

    def _release(self) -> Iterator[Ask]:
        """Certificates of any signers over the claim, and of all its members over another one.

        Over a claim of at least three, t - 1 signers and more; over a smaller one, t and more;
        over another claim only where both are of at least three.
        """
        claims = list(self._claims())
        for ordinal, claim in claims:
            small = claim.bitmap[0].bit_count() < THRESHOLD
            for size in range(self.threshold - (not small), len(MEMBERS) + 1):
                for signers in combinations(MEMBERS, size):
                    yield self._certificate(ordinal, claim, claim, signers)
        large = [(o, c) for o, c in claims if c.bitmap[0].bit_count() >= THRESHOLD]
        for ordinal, claim in large:
            signers = tuple(i for i in MEMBERS if claim.bitmap[0] >> (i - 1) & 1)
            for other_ordinal, other in large:
                if other != claim and other_ordinal == ordinal and _near(claim, other):
                    yield self._certificate(ordinal, claim, other, signers)

    def _certificate(
        self, ordinal: int, claim: SurvivorSet, signed: SurvivorSet, signers: Iterable[int]
    ) -> Ask:
        terms, body = self.sessions[ordinal].terms, signed.encode()
        signatures = tuple(
            (i, wire.signature_of(wire.seal(wire.SURVIVORS, terms, i, body, identity(i))))
            for i in signers
        )
        request = self._seal(wire.RELEASE, ordinal, ReleaseRequest(claim, signatures).encode())
        honest = set(signers) - self.colluders
        needs = frozenset(("signed", signed.t2, signed.bitmap, i) for i in honest)
        large = claim.bitmap[0].bit_count() >= THRESHOLD
        usual = large and claim == signed and len(signatures) == self.threshold
        return Ask(request, claim.t2, usual, needs)


def _near(claim: SurvivorSet, signed: SurvivorSet) -> bool:
    """The claim itself, the same set of another round, or another set of this round."""
    return claim.t2 == signed.t2 or claim.bitmap == signed.bitmap


class LocalExplorer:
    """Builds one member's graph; ``guard_first=False`` is a member that writes its guard last."""

    def __init__(self, menu: Menu, index: int, *, guard_first: bool = True) -> None:
        self.menu, self.index, self.guard_first = menu, index, guard_first
        self.graph = Graph(index)
        self._limits = limits_for(menu.sessions[1].terms)
        self._secrets: dict[bytes, Fact] = {}
        for found in menu.sessions.values():
            self._secrets |= secrets_of(index, found)
        self._ids: dict[tuple[Disk, frozenset[Fact]], int] = {}
        self._queue: list[tuple[Disk, frozenset[Fact]]] = []

    def run(self) -> Graph:
        """Explore until nothing new is found; what is a function of bytes is computed once."""
        with (
            mock.patch.object(wire, "verify", functools.cache(wire.verify)),
            mock.patch.object(wire, "_read", functools.cache(wire._read)),
        ):
            return self._explore()

    def _explore(self) -> Graph:
        self._node(self.menu.sessions[1].disks[self.index], frozenset())
        at = 0
        while at < len(self._queue):
            disk, told = self._queue[at]
            for after, facts, needs in self._steps(disk, told):
                self._check_certified(facts, needs)
                target = self._node(after, told | facts)
                if target != at:
                    self.graph.edges[at].add(Edge(needs, target))
            at += 1
        return self.graph

    def _check_certified(self, facts: frozenset[Fact], needs: frozenset[Fact]) -> None:
        """Note a share of rho that was given for fewer honest signatures than must be there."""
        if not any(fact[:2] == ("share", "rho") for fact in facts):
            return
        over = {fact[1:3] for fact in facts if fact[0] == "revealed"}
        signed = [fact for fact in needs if fact[1:3] in over]
        if len(signed) < self.menu.threshold - len(self.menu.colluders):
            self.graph.uncertified.add("a share of rho was given without a certificate")

    def _node(self, disk: Disk, told: frozenset[Fact]) -> int:
        key = (disk, told)
        if key not in self._ids:
            self._ids[key] = len(self._queue)
            self._queue.append(key)
            self.graph.told.append(told)
            self.graph.edges.append(set())
        return self._ids[key]

    def load(self, disk: Disk) -> Member:
        """Start the member's process from its disk."""
        guard = RunGuard.load(disk.guard)
        return Member.load(
            disk.state, signing_key=identity(self.index), limits=self._limits, guard=guard
        )

    def _steps(
        self, disk: Disk, told: frozenset[Fact]
    ) -> Iterator[tuple[Disk, frozenset[Fact], frozenset[Fact]]]:
        joined = RunGuard.load(disk.guard).session_ordinal
        for view, request in self.menu.masked.items():
            for after, facts in self._mask(disk, told, view, request):
                stale = bool(facts) and view.session < joined
                yield after, facts | self._stale(view.session, stale=stale), frozenset()
        member, before = self.load(disk), self.load(disk)
        opened = before._me.state.slot
        for ask in self.menu.shares:
            if not (ask.usual or (opened and opened.t2 == ask.t2)):
                continue
            reply = self._refusable(member, before, lambda m, a=ask: m.handle(a.request))
            if reply is None:
                continue
            ordinal = wire.peek(reply).ordinal
            facts = self._facts(reply) | self._stale(ordinal, stale=ordinal < joined)
            yield from self._written(disk, member, facts, ask.needs)
            member = self.load(disk)
        for ordinal, found in self.menu.sessions.items():
            if ordinal > 1:
                yield from self._join(disk, found)

    def _stale(self, session: int, *, stale: bool) -> frozenset[Fact]:
        return frozenset({("stale", session, self.index)} if stale else ())

    def _refusable(self, member, before, act):  # type: ignore[no-untyped-def]
        """Return the answer, or None for a refusal, which must not have changed anything."""
        self.graph.requests += 1
        try:
            return act(member)
        except TouchstoneError:
            self.graph.refusals += 1
            assert _same(member, before), "a refusal changed the state"
            return None

    def _written(
        self, disk: Disk, member: Member, facts: frozenset[Fact], needs: frozenset[Fact]
    ) -> Iterator[tuple[Disk, frozenset[Fact], frozenset[Fact]]]:
        """Guard, then state, then the answer; the process may die before each write.

        An answer that is written and then lost is the same disk with less told: whatever can be
        reached from there is reached, and more is known, where the answer arrived.
        """
        guard, state = member.guard.dump(), member.dump()
        if self.guard_first:
            yield Disk(guard, disk.state, disk.upload), frozenset(), needs
        else:
            yield Disk(disk.guard, state, disk.upload), facts, needs
        yield Disk(guard, state, disk.upload), facts, needs

    def _mask(
        self, disk: Disk, told: frozenset[Fact], view: View, request: bytes
    ) -> Iterator[tuple[Disk, frozenset[Fact]]]:
        """Open, train, mask; written both as the node writes (once, after it has masked) and with
        the opened slot on disk before training, which is what a node might also do."""
        member, before, model = self.load(disk), self.load(disk), MODELS[view.model]
        opened = self._refusable(member, before, lambda m: m.open_round(request, model))
        if opened is None:
            return
        if opened.already_answered:
            stored = np.frombuffer(disk.upload, "<u8").astype(np.uint64)
            try:
                upload = member.restore_upload(stored)
            except SlotClosed:  # the process died between a later slot's vector and its state
                return
            yield disk, self._masked_facts(view, upload.header, disk.upload)
            return
        guard, state = member.guard.dump(), member.dump()
        yield Disk(guard, disk.state, disk.upload), frozenset()
        yield Disk(guard, state, disk.upload), frozenset()
        # Training is not repeatable: what is masked again in a slot is another vector (one more
        # is enough to be found; were every one new, a member that masks for ever never ended).
        place = ("masked", view.session, view.slot, self.index)
        again = any(fact[:4] == place for fact in told)
        vector = np.array([1, self.index, 7 + again, 8, 1], dtype=np.uint64)
        try:
            upload = member.mask(vector)
        except TouchstoneError:
            return
        data = upload.vector.tobytes()
        yield Disk(guard, state, data), frozenset()
        yield Disk(guard, disk.state, data), frozenset()
        facts = self._masked_facts(view, upload.header, data)
        yield Disk(guard, member.dump(), data), facts

    def _join(
        self, disk: Disk, found: Session
    ) -> Iterator[tuple[Disk, frozenset[Fact], frozenset[Fact]]]:
        """Answer a newer session's first request; its set-up then ends as recorded."""
        guard = RunGuard.load(disk.guard)
        self.graph.requests += 1
        try:
            member = Member.begin(
                index=self.index,
                signing_key=identity(self.index),
                terms=found.terms,
                limits=self._limits,
                guard=guard,
            )
            member.handle(found.advertise)
        except TouchstoneError:
            self.graph.refusals += 1
            return
        joined = guard.dump()
        yield Disk(joined, disk.state, disk.upload), frozenset(), frozenset()
        yield Disk(joined, found.disks[self.index].state), frozenset(), frozenset()

    def _masked_facts(self, view: View, header: bytes, vector: bytes) -> frozenset[Fact]:
        digest = hashlib.sha256(vector).digest()
        t2 = self.menu.t2(view)
        place = ("masked", view.session, view.slot, self.index)
        fact = (*place, view.round, t2, view.participants, digest)
        return self._facts(header + vector) | {fact}

    def _facts(self, reply: bytes) -> frozenset[Fact]:
        """Return what an answer gives away: any held secret's bytes in it, and what it is for."""
        facts = {fact for secret, fact in self._secrets.items() if secret in reply}
        kind = _kind(reply)
        if kind == wire.SURVIVORS:
            claim = SurvivorSet.decode(wire.verified_body(reply))
            facts.add(("signed", claim.t2, claim.bitmap, self.index))
        elif kind in (wire.UNMASK + "-reply", wire.RELEASE + "-reply"):
            claim = Reveal.decode(wire.verified_body(reply)).survivor_set
            facts.add(("revealed", claim.t2, claim.bitmap, self.index))
        return frozenset(facts)


def _same(member: Member, before: Member) -> bool:
    """Compare two members by value; encoding both would cost more than all the rest."""
    return member.guard == before.guard and member._me.state == before._me.state


def _kind(reply: bytes) -> str:
    try:
        return wire.peek(reply).kind
    except TouchstoneError:
        return ""
