"""The secure sum beside Flower's own SecAgg+, in one run on one machine.

Usage: python benchmarks/secagg.py [--members N ...] [--params N ...] [--lost N ...] [--no-flower]
           [--no-memory] [--repeat 5] [--json FILE] [--plot FILE.svg]

Without ``--members`` and ``--params`` it measures the five cases that the project's targets name.

CPU seconds of the whole process (both threads of ours count), per member and for the coordinator.
A member's figure has everything in it: the request's check, SHA-256 of the model that came,
packing, masks, SHA-256 of its vector, signatures. The coordinator's has signatures, sums, masks and
checks; the share for checking and opening the sum is told beside it; SHA-256 of the uploads and of
the model, which run while these travel, is in a column of its own. Both figures include the share
of the set-up that falls to a round, with its signatures, X25519 and ML-KEM: its cost by its slots.
Flower's SecAgg+ sets up anew every round; its figures are the sum of its stages. As Flower's does,
our coordinator takes the uploads one after another when all are there: members compute elsewhere.
All members answer, and as in a real round it reads as many answers as open the sum. Training costs
nothing on either side. Ours is the mean of a session's first ``ROUNDS`` rounds; every figure is the
median of ``--repeat`` runs, ours and Flower's in turn; the load average is printed beside them. The
coordinator's peak memory is measured once for each case, in a process of its own:
``secagg_memory.py`` says how.
``--plot FILE.svg --from FILE`` draws stored figures again.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_table import FLOWER, HEAD, OURS, TARGETS, Row, cpu_flags, line, plot, ratios

from shared.secagg import (
    Coordinator,
    Layout,
    Member,
    MemberLimits,
    Quantiser,
    RunGuard,
    SessionTerms,
    build_vector,
    check_sum,
    default_colluders,
    default_threshold,
    default_value_bits,
)

SLOTS = 32
ROUNDS = 10
"""Rounds measured of a session's 32, as many as a run has by default: the first one allocates what
the others use again."""


class Stopwatch:
    """Adds up CPU time of named parts."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = collections.defaultdict(float)

    def __call__(self, name: str, function, *args, **kwargs):
        """Call ``function`` and charge its CPU time to ``name``."""
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.spent[name] += time.process_time() - start


def terms_for(members: int, keys: dict[int, Ed25519PrivateKey]) -> SessionTerms:
    colluders = default_colluders(members)
    threshold = default_threshold(members, colluders)
    public = {i: key.public_key().public_bytes_raw() for i, key in keys.items()}
    return SessionTerms(
        manifest_hash=secrets.token_bytes(32),
        run_id=secrets.token_bytes(16),
        session_id=secrets.token_bytes(16),
        ordinal=1,
        listed=tuple((i, public[i]) for i in range(1, members + 1)),
        coordinator_key=public[0],
        threshold=threshold,
        n_min=threshold,
        max_colluders=colluders,
        quantiser=Quantiser(default_value_bits(members), clip_coord=1.0),
        slots=SLOTS,
    )


def run_ours(members: int, params: int, lost: int) -> Row:
    keys = {i: Ed25519PrivateKey.generate() for i in range(members + 1)}
    terms = terms_for(members, keys)
    limits = MemberLimits(terms.n_min, terms.max_colluders, frozenset(terms.indices))
    nodes = {
        i: Member.begin(
            index=i, signing_key=keys[i], terms=terms, limits=limits, guard=RunGuard(terms.run_id)
        )
        for i in terms.indices
    }
    desk = Coordinator.begin(terms=terms, signing_key=keys[0])
    setup = Stopwatch()
    for i, node in nodes.items():
        setup("desk", desk.on_advertise, i, setup("node", node.handle, desk.advertise_request()))
    request = setup("desk", desk.share_request)
    for i, node in nodes.items():
        setup("desk", desk.on_share, i, setup("node", node.handle, request))
    for i, node in nodes.items():
        request = setup("desk", desk.confirm_request, i)
        setup("desk", desk.on_confirm, i, setup("node", node.handle, request))
    desk.finish_setup()

    watch, row = Stopwatch(), Row(OURS, members, params, lost)
    delta = (np.random.default_rng(0).standard_normal(params, dtype=np.float32)) * np.float32(0.05)
    wire = {i: np.empty(Layout(params, evaluates=False).words, dtype=np.uint64) for i in nodes}
    mean = None
    for number in range(1, ROUNDS + 1):
        mean = one_round(desk, nodes, number, delta, watch, row, wire, mean)
    row.setup_member = setup.spent["node"] / members / SLOTS
    row.setup_coordinator = setup.spent["desk"] / SLOTS
    row.member = watch.spent["node"] / (members - lost) / ROUNDS + row.setup_member
    row.hashing = watch.spent["hash"] / ROUNDS
    row.opening = watch.spent["open"] / ROUNDS
    row.coordinator = watch.spent["desk"] / ROUNDS + row.setup_coordinator
    row.coordinator += row.opening - watch.spent["uploads"] / ROUNDS
    return row


def one_round(
    desk: Coordinator,
    nodes: dict[int, Member],
    number: int,
    delta: np.ndarray,
    watch: Stopwatch,
    row: Row,
    wire: dict[int, np.ndarray],
    mean: np.ndarray | None,
) -> np.ndarray:
    """Bring one round to its sum, charging ``watch``, and return the mean.

    ``wire`` is where each vector arrives: a member keeps nothing of what it has sent, so that its
    allocator finds the same memory again every round. ``mean`` is an earlier round's, whose memory
    is used again, as the real coordinator does.
    """
    layout, terms = Layout(row.params, evaluates=False), desk.terms
    model = np.full(row.params, number, dtype="<f4").data.cast("B")
    digest = watch("hash", sha256, model)
    request = watch("desk", desk.open_round, number, terms.indices, digest, b"", layout.words)
    alive = terms.indices[: row.members - row.lost]
    uploads = {}
    for i in alive:
        watch("node", nodes[i].open_round, request, model)
        vector = watch("node", build_vector, delta, 1.0, terms.quantiser)
        uploads[i] = watch("node", nodes[i].mask, vector).header
        np.copyto(wire[i], vector)
        row.upload_bytes = len(uploads[i]) + vector.nbytes
        del vector
    before = watch.spent["hash"]
    for i in uploads:
        watch("hash", sha256, wire[i].data)
    watch.spent["uploads"] += watch.spent["hash"] - before
    for i, header in uploads.items():
        watch("desk", desk.on_masked, i, header, wire[i])
    watch("desk", desk.close_masked)
    steps = [(desk.unmask_request, desk.on_unmask, lambda: desk.can_release or desk.can_finish)]
    if desk.needs_release:
        steps.append((desk.release_request, desk.on_release, lambda: desk.can_finish))
    for ask, take, enough in steps:
        request = watch("desk", ask)
        answers = {i: watch("node", nodes[i].handle, request) for i in alive}
        for i, answer in answers.items():
            if not enough():  # as the real coordinator does: later answers are not looked at
                watch("desk", take, i, answer)
    result = watch("desk", desk.finish_round)
    survivors = len(result.survivors)
    opened = watch("open", check_sum, result.vector, layout, survivors, terms.quantiser, out=mean)
    watch("desk", desk.take_back, result)
    worst = float(np.abs(opened.mean - delta).max())
    if worst > 1.01 / terms.quantiser.scale:
        raise SystemExit(f"the mean is off by {worst}")
    return opened.mean


def sha256(data: memoryview) -> bytes:
    """Return the digest of ``data``."""
    return hashlib.sha256(data).digest()


def run_flower(members: int, params: int, lost: int) -> Row:
    """Drive Flower's unmodified SecAggPlusWorkflow and secaggplus_mod in this process."""
    from flower_secaggplus import Members, drive

    row, nodes, spent = Row(FLOWER, members, params, lost), Members(members, params), Stopwatch()
    row.coordinator, row.upload_bytes, done = drive(
        members, params, lost, lambda node, message: spent("node", nodes.answer, node, message)
    )
    row.member = (spent.spent["node"] - nodes.training) / (members - lost)
    row.error = "" if done else "no result"
    return row


def peak_memory(row: Row) -> int:
    """Return how far the coordinator's process grows in one round of this case, in bytes."""
    side = "touchstone" if row.name == OURS else "flower"
    script = Path(__file__).with_name("secagg_memory.py")
    case = [str(number) for number in (row.members, row.params, row.lost)]
    command = [sys.executable, str(script), side, *case]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


MEASURED = (
    "member", "coordinator", "opening", "hashing", "setup_member", "setup_coordinator",
    "upload_bytes",
)  # fmt: skip


def median(rows: list[Row]) -> Row:
    """Return one row with the median of each figure."""
    middle = {name: statistics.median(getattr(row, name) for row in rows) for name in MEASURED}
    return replace(rows[0], **middle)


def measure(options: argparse.Namespace) -> list[Row]:
    """Run every configuration, ours and Flower's in turn, and return the medians."""
    runners = (run_ours,) if options.no_flower else (run_ours, run_flower)
    rows: list[Row] = []
    for case in cases(options):
        runs = [[run(*case) for run in runners] for _ in range(options.repeat)]
        for found in zip(*runs, strict=True):
            rows.append(median(list(found)))
            if not options.no_memory:
                rows[-1].peak_bytes = peak_memory(rows[-1])
            print(line(rows[-1]), flush=True)
    return rows


def cases(options: argparse.Namespace) -> list[tuple[int, int, int]]:
    """Return (members, params, lost) of every case: those asked for, else those with a target."""
    if options.members is options.params is options.lost is None:
        return list(TARGETS)
    return list(
        itertools.product(
            options.members or [20], options.params or [1_000_000], options.lost or [0, 2]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+")
    parser.add_argument("--params", type=int, nargs="+")
    parser.add_argument("--lost", type=int, nargs="+")
    parser.add_argument("--no-flower", action="store_true")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw them here, SVG")
    parser.add_argument("--from", dest="stored", type=Path, nargs="+", help="draw stored figures")
    options = parser.parse_args()
    if options.stored and options.plot:
        files = [json.loads(path.read_text(encoding="utf-8")) for path in options.stored]
        plot([Row(**row) for found in files for row in found["rows"]], options.plot)
        return
    system = f"{platform.machine()}, {cpu_flags()}; Python {platform.python_version()}"
    load = os.getloadavg()[0]
    print(f"{system}; load average {load:.1f}; medians of {options.repeat}")
    print(HEAD)
    rows = measure(options)
    ratios(rows)
    if options.json:
        found = {"system": system, "load": load, "repeat": options.repeat}
        found["rows"] = [asdict(row) for row in rows]
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
