"""What a coordinator can open with what it was told, and every state that an alliance can reach.

A masked vector is opened when every stream in it is known: its own (t shares of b) and each pair's
(t shares of rho of either end, or an end that colludes). A pair that masked under one T2 cancels
in the sum of both. So what opens is a whole component of the graph of closed pairs, or nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.support.secagg_model import THRESHOLD, Fact, Graph

Opened = tuple[int, int, int, frozenset[int]]
"""(round, session, slot, members whose vectors are opened together)."""

Vector = tuple[int, bytes, tuple[int, ...]]
"""(round, T2, U) that a member masked under."""

OPENING = ("raw", "share", "masked")
"""Kinds of facts that say what can be opened."""

MAX_STATES = 200_000_000
"""A scenario beyond this is too large to be explored here; the check fails instead of sampling."""


@dataclass(frozen=True)
class Promise:
    """What must never happen, for a set of members that side with the coordinator."""

    colluders: frozenset[int]
    threshold: int = THRESHOLD
    n_min: int = THRESHOLD

    def opened(self, told: frozenset[Fact]) -> set[Opened]:
        """Return every smallest set of honest members whose sum the coordinator can compute."""
        holders: dict[tuple[object, ...], set[object]] = defaultdict(lambda: set(self.colluders))
        masked: dict[tuple[int, int], dict[int, tuple[int, bytes, tuple[int, ...]]]] = defaultdict(
            dict
        )
        for fact in told:
            if fact[0] == "share":
                holders[fact[1:5]].add(fact[5])
            elif fact[0] == "masked":
                _, session, slot, member, round_no, t2, chosen, _digest = fact
                masked[session, slot][member] = (round_no, t2, chosen)
        found: set[Opened] = set()
        for (session, slot), vectors in masked.items():

            def known(kind: str, member: int, place: tuple[int, int] = (session, slot)) -> bool:
                return (
                    member in self.colluders or len(holders[kind, *place, member]) >= self.threshold
                )

            for group in _components(vectors, known):
                found.add((vectors[min(group)][0], session, slot, group))
        return found

    def broken(self, told: frozenset[Fact]) -> str:
        """Return what is wrong with knowing ``told``, or nothing."""
        if any(fact[0] == "raw" for fact in told):
            return "a member sent one of its own secrets"
        masked = [fact[1:4] for fact in told if fact[0] == "masked"]
        if len(masked) != len(set(masked)):
            return "a member masked twice in one slot"
        given: dict[tuple[object, ...], set[object]] = defaultdict(set)
        rounds = {fact[1:4]: fact[4] for fact in told if fact[0] == "masked"}
        for fact in told:
            if fact[0] == "share":
                _, _kind, session, slot, _dealer, holder = fact
                given[holder, rounds.get((session, slot, holder))].add((session, slot))
        if any(len(places) > 1 for places in given.values()):
            return "a member released one round twice"
        opened = self.opened(told)
        for _round, _session, _slot, group in opened:
            if len(group) + len(self.colluders) < self.n_min:
                return f"only members {sorted(group)} are opened together"
        if len({item[0] for item in opened}) < len(opened):
            return "a round is opened over two sets"
        return ""


def _components(
    vectors: dict[int, Vector], known: Callable[[str, int], bool]
) -> list[frozenset[int]]:
    """Return the components of closed pairs in which no member keeps an unknown stream."""
    left, groups = set(vectors), []
    while left:
        group, stack, blocked = set(), [min(left)], False
        while stack:
            u = stack.pop()
            if u in group:
                continue
            group.add(u)
            blocked |= not known("b", u)
            for v in vectors[u][2]:
                if v == u or known("rho", u) or known("rho", v):
                    continue
                if v in vectors and vectors[v] == vectors[u]:
                    stack.append(v)
                else:
                    blocked = True
        left -= group
        if not blocked:
            groups.append(frozenset(group))
    return groups


@dataclass
class Outcome:
    """What an exploration saw."""

    states: int = 0
    steps: int = 0
    knowledge: int = 0
    opened: int = 0
    requests: int = 0
    local: int = 0
    violation: str = ""
    broken: set[str] = field(default_factory=set)
    """Rules that some member broke by itself; see :mod:`tests.support.secagg_rules`."""


def pruned(graph: Graph) -> Graph:
    """Drop steps to states from which the coordinator can only learn less than by another step.

    ``B`` covers ``A`` if it has told at least as much and has, for each step of A, one that needs
    no more signatures and leads to a state that covers A's next. Knowing more never undoes a
    violation, so a step to A beside one to B adds nothing.
    """
    count = len(graph.told)
    covers = [[graph.told[a] <= graph.told[b] for b in range(count)] for a in range(count)]
    changed = True
    while changed:
        changed = False
        for a in range(count):
            for b in range(count):
                if covers[a][b] and a != b and not _follows(graph, covers, a, b):
                    covers[a][b] = False
                    changed = True
    small = replace(graph, edges=[set() for _ in graph.told])
    for node, edges in enumerate(graph.edges):
        kept = sorted(edges, key=lambda edge: edge.target)
        for edge in list(kept):
            rivals = [other for other in kept if other != edge]
            idle = covers[edge.target][node]
            if idle or any(o.needs <= edge.needs and covers[edge.target][o.target] for o in rivals):
                kept.remove(edge)
        small.edges[node] = set(kept)
    return small


def _follows(graph: Graph, covers: list[list[bool]], a: int, b: int) -> bool:
    """Tell whether every step of ``a`` is matched by one of ``b``, or by staying at ``b``."""
    return all(
        covers[step.target][b]
        or any(
            other.needs <= step.needs and covers[step.target][other.target]
            for other in graph.edges[b]
        )
        for step in graph.edges[a]
    )


def _numbered(keys: list[object]) -> list[int]:
    """Number equal keys alike, in order of appearance: the first state stays number 0."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def explore(graphs: list[Graph], promise: Promise) -> Outcome:
    """Visit every combination of members' states that certificates allow; stop at a violation."""
    facts: dict[Fact, int] = {}
    tables = [_compiled(graph, facts) for graph in graphs]
    names = list(facts)
    # Signatures let members go on, but open nothing: states that differ in them alone are judged
    # once.
    weighty = sum(1 << i for i, fact in enumerate(names) if fact[0] in OPENING)
    verdicts: dict[int, str] = {}
    outcome, opened = Outcome(), set()
    # A state is one number, mixed radix: tens of millions of them must fit, as one byte each.
    sizes = [len(graph.told) for graph in graphs]
    strides = [math.prod(sizes[:place]) for place in range(len(sizes))]
    places = list(zip(tables, sizes, strides, strict=True))
    seen, stack, count = bytearray(math.prod(sizes)), [0], 1
    seen[0] = True
    while stack:
        state = stack.pop()
        nodes = [state // stride % size for _, size, stride in places]
        told = 0
        for ((masks, _), _, _), node in zip(places, nodes, strict=True):
            told |= masks[node]
        weighed = told & weighty
        if weighed not in verdicts:
            known = frozenset(names[i] for i in range(weighed.bit_length()) if weighed >> i & 1)
            verdicts[weighed] = promise.broken(known)
            opened |= promise.opened(known)
        if verdicts[weighed]:
            outcome.violation = verdicts[weighed]
            break
        for ((_, edges), _, stride), node in zip(places, nodes, strict=True):
            for needs, target in edges[node]:
                if needs & ~told:
                    continue
                outcome.steps += 1
                after = state + (target - node) * stride
                if not seen[after]:
                    seen[after] = True
                    count += 1
                    stack.append(after)
        if count > MAX_STATES:
            raise AssertionError(f"more than {MAX_STATES} states")
    outcome.states, outcome.knowledge, outcome.opened = count, len(verdicts), len(opened)
    return outcome


def _compiled(
    graph: Graph, facts: dict[Fact, int]
) -> tuple[list[int], list[list[tuple[int, int]]]]:
    """Return a graph's facts and needs as bit masks."""

    def mask(items: frozenset[Fact]) -> int:
        return sum(1 << facts.setdefault(item, len(facts)) for item in items)

    masks = [mask(told) for told in graph.told]
    edges = [[(mask(edge.needs), edge.target) for edge in found] for found in graph.edges]
    return masks, edges
