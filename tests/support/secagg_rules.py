"""The rules that each honest member keeps by itself, whatever the rest of the alliance does.

In a small alliance the rules overlap: what one forbids, the others would have made harmless. So a
check of what can be opened cannot tell that a rule is gone; these can. They hold for everything one
member has told, in every state that any certificates could bring it to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.support.secagg_model import Fact, Graph

ANSWERS = ("signed", "revealed")


def broken_rules(graph: Graph, n_min: int) -> set[str]:
    """Return every rule that the member of ``graph`` breaks in some state."""
    found = set(graph.uncertified)
    for told in set(graph.told):
        found.update(_rules(told, graph.index, n_min))
    return found


def _rules(told: frozenset[Fact], index: int, n_min: int) -> Iterable[str]:
    if any(fact[0] == "stale" for fact in told):
        yield "a member spoke in a session after it had joined a newer one"
    views: dict[object, tuple[int, ...]] = {}
    for fact in told:
        if fact[0] == "masked":
            _, _session, _slot, _member, _round, t2, chosen, _digest = fact
            views[t2] = chosen
    bitmaps: dict[object, set[object]] = defaultdict(set)
    for fact in told:
        if fact[0] in ANSWERS:
            bitmaps[fact[1]].add(fact[2])
            yield from _answer(fact[1], fact[2], views, index, n_min)
    if any(len(found) > 1 for found in bitmaps.values()):
        yield "a member stood by two survivor sets of one view"
    yield from _shares(told, index, n_min)


def _answer(
    t2: object, bitmap: bytes, views: dict[object, tuple[int, ...]], index: int, n_min: int
) -> Iterable[str]:
    """What a member signs or reveals shares under: its own view, itself in it, and enough."""
    if t2 not in views:
        yield "a member answered under a view that it had not masked in"
        return
    bits = int.from_bytes(bitmap, "little")
    alive = [u for place, u in enumerate(views[t2]) if bits >> place & 1]
    if index not in alive:
        yield "a member stood by a survivor set without itself"
    if len(alive) < n_min:
        yield "a member stood by a survivor set that is too small"


def _shares(told: frozenset[Fact], index: int, n_min: int) -> Iterable[str]:
    """Shares of b and of rho are of different members, of enough, and never of the own rho."""
    dealers: dict[object, dict[str, set[int]]] = defaultdict(lambda: {"b": set(), "rho": set()})
    for fact in told:
        if fact[0] == "share":
            _, kind, session, slot, dealer, _holder = fact
            dealers[session, slot][kind].add(dealer)
    for given in dealers.values():
        if given["b"] & given["rho"]:
            yield "a member gave shares of both secrets of one member"
        if len(given["b"]) < n_min:
            yield "a member gave shares of b of too few members"
        if index in given["rho"]:
            yield "a member gave a share of its own rho"
