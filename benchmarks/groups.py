"""A round of a thousand members in groups, in process: seconds, memory, and where they go.

Usage: python benchmarks/groups.py [--members 1000] [--params 100000] [--lost 5] [--groups K]
           [--slots 8] [--workers 2] [--median] [--repeat 5]

Every member is a real ``Member``, every group has a real ``Coordinator``: X25519 and ML-KEM boxes,
signatures, Shamir sharing, masks and unmasking. Included: drawing the groups, every group's
set-up of ``--slots`` slots, one round (quantising, masking, hashing, unmasking with ``--lost``
per cent gone after set-up), the check of every sum, their combination. Not included: training,
disks, network, and the comparison with the exact mean at the end. ``--workers`` processes share
the groups; a group never needs another one. The last line is the median of ``--repeat`` rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import secrets
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.secagg import (
    Coordinator,
    Layout,
    Member,
    MemberLimits,
    OpenedSum,
    Quantiser,
    RoundSum,
    RunGuard,
    SessionTerms,
    build_vector,
    check_sum,
    default_colluders,
    default_n_min,
    default_threshold,
    default_value_bits,
)
from shared.secagg.groups import MEAN, MEDIAN, combine, group_count
from shared.trust.grouping import Drawing

ROSTER = hashlib.sha256(b"roster").digest()
RUN = bytes(16)
MODEL = b"model"


@dataclass
class GroupResult:
    """One group's checked sum, and what it cost."""

    opened: OpenedSum
    alive: tuple[int, ...]
    spent: dict[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0


class Clock:
    """CPU seconds of this process by part."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.spent[name] += time.process_time() - start


def identity(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"identity %d" % index).digest())


def update(index: int, params: int) -> NDArray[np.float32]:
    """Return a member's reproducible update: one of a few base vectors, scaled."""
    generator = np.random.default_rng(index % 16)
    scale = np.float32(0.02 + 0.0001 * (index % 100))
    return generator.standard_normal(params, dtype=np.float32) * scale


def terms_for(listed: tuple[int, ...], slots: int, largest: int) -> SessionTerms:
    colluders = default_colluders(largest)
    threshold = default_threshold(largest, colluders)
    public = {i: identity(i).public_key().public_bytes_raw() for i in (0, *listed)}
    return SessionTerms(
        manifest_hash=bytes(32),
        run_id=RUN,
        session_id=secrets.token_bytes(16),
        ordinal=1,
        listed=tuple((i, public[i]) for i in listed),
        coordinator_key=public[0],
        threshold=threshold,
        n_min=default_n_min(threshold, colluders),
        max_colluders=colluders,
        quantiser=Quantiser(default_value_bits(len(listed)), clip_coord=1.0),
        slots=slots,
    )


def set_up(terms: SessionTerms, clock: Clock) -> tuple[Coordinator, dict[int, Member]]:
    limits = MemberLimits(terms.n_min, terms.max_colluders, frozenset(terms.indices))
    desk = Coordinator.begin(terms=terms, signing_key=identity(0))
    nodes = {
        i: Member.begin(
            index=i, signing_key=identity(i), terms=terms, limits=limits, guard=RunGuard(RUN)
        )
        for i in terms.indices
    }
    for step, request_of, take in (
        ("advertise", lambda _i: desk.advertise_request(), desk.on_advertise),
        ("share", lambda _i: desk.share_request(), desk.on_share),
        ("confirm", desk.confirm_request, desk.on_confirm),
    ):
        for i, node in nodes.items():
            with clock("set-up, coordinator"):
                request = request_of(i)
            with clock(f"set-up, members: {step}"):
                reply = node.handle(request)
            with clock("set-up, coordinator"):
                take(i, reply)
    with clock("set-up, coordinator"):
        desk.finish_setup()
    return desk, nodes


def one_round(
    desk: Coordinator, nodes: dict[int, Member], alive: list[int], params: int, clock: Clock
) -> RoundSum:
    layout = Layout(params, evaluates=False)
    digest = hashlib.sha256(MODEL).digest()
    with clock("round, coordinator"):
        request = desk.open_round(1, sorted(nodes), digest, b"", layout.words)
    for i in alive:
        delta = update(i, params)
        with clock("round, members"):
            nodes[i].open_round(request, MODEL)
            upload = nodes[i].mask(build_vector(delta, 1.0, desk.terms.quantiser))
        with clock("round, coordinator"):
            desk.on_masked(i, upload.header, upload.vector)
    with clock("round, coordinator"):
        desk.close_masked()
    steps = [(desk.unmask_request, desk.on_unmask)]
    if desk.needs_release:
        steps.append((desk.release_request, desk.on_release))
    for ask, take in steps:
        with clock("round, coordinator"):
            request = ask()
        for i in alive:
            with clock("round, members"):
                reply = nodes[i].handle(request)
            with clock("round, coordinator"):
                take(i, reply)
    with clock("round, coordinator"):
        return desk.finish_round()


def run_group(
    group: tuple[int, ...], *, params: int, slots: int, lost: set[int], largest: int
) -> GroupResult:
    clock = Clock()
    terms = terms_for(group, slots, largest)
    desk, nodes = set_up(terms, clock)
    alive = [i for i in group if i not in lost]
    result = one_round(desk, nodes, alive, params, clock)
    with clock("round, coordinator"):
        layout = Layout(params, evaluates=False)
        opened = check_sum(result.vector, layout, len(result.survivors), terms.quantiser)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return GroupResult(opened, result.survivors, dict(clock.spent), peak)


def check(opened: OpenedSum, alive: list[int], params: int, scale: float) -> None:
    """Compare with the exact mean; the dither's error of a mean stays below one quantum."""
    exact = np.zeros(params)
    for i in alive:
        exact += update(i, params)
    worst = float(np.abs(opened.mean - exact / len(alive)).max())
    if worst > 1.0 / scale:
        raise SystemExit(f"the mean is off by {worst}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--params", type=int, default=100_000)
    parser.add_argument("--lost", type=float, default=5.0, help="per cent, after set-up")
    parser.add_argument("--groups", type=int, help="this many groups instead of the fewest")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--median", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    walls, peaks = zip(*(measure(options) for _ in range(options.repeat)), strict=True)
    print(
        f"median of {options.repeat}: {statistics.median(walls):.1f} s "
        f"({min(walls):.1f} to {max(walls):.1f}), peak memory {max(peaks):.0f} MiB at most"
    )


def measure(options: argparse.Namespace) -> tuple[float, float]:
    """Run one round, print what it cost, and return its seconds and its peak memory in MiB."""
    started, load = time.perf_counter(), os.getloadavg()[0]
    members = range(1, options.members + 1)
    nonces = tuple(secrets.token_bytes(32) for _ in members)
    count = group_count(options.members, options.groups)
    groups = Drawing(1, count, nonces).groups(ROSTER, members)
    lost = set(secrets.SystemRandom().sample(members, int(options.members * options.lost / 100)))
    work = partial(
        run_group,
        params=options.params,
        slots=options.slots,
        lost=lost,
        largest=max(map(len, groups)),
    )
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers) as pool:
            results = list(pool.map(work, groups))
    else:
        results = [work(group) for group in groups]
    total = combine((item.opened for item in results), MEDIAN if options.median else MEAN)
    wall = time.perf_counter() - started
    alive = [i for item in results for i in item.alive]
    if not options.median:
        check(total, alive, options.params, Quantiser(15, 1.0).scale)
    return wall, report(options, groups, results, wall, load)


def report(
    options: argparse.Namespace,
    groups: tuple[tuple[int, ...], ...],
    results: list[GroupResult],
    wall: float,
    load: float,
) -> float:
    """Print one round's figures and return its peak memory in MiB over all processes."""
    sizes = sorted(map(len, groups))
    survivors = sum(len(item.alive) for item in results)
    print(
        f"{options.members} members, {options.params:,} parameters, {len(groups)} groups of "
        f"{sizes[0]} to {sizes[-1]}, {survivors} summed; {options.slots} slots a session, "
        f"{options.workers} processes, load average {load:.1f} before"
    )
    names = sorted({name for item in results for name in item.spent})
    for name in names:
        spent = sum(item.spent[name] for item in results)
        print(f"  {name:28}{spent:8.1f} s CPU{spent / options.members * 1e3:9.2f} ms a member")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peaks = sum(sorted((item.peak_mib for item in results), reverse=True)[: options.workers])
    peak = own + peaks if options.workers > 1 else own
    print(f"  {'all CPU':28}{sum(sum(i.spent.values()) for i in results):8.1f} s")
    print(f"{wall:.1f} s on the wall, peak memory {peak:.0f} MiB over all processes")
    return peak


if __name__ == "__main__":
    main()
