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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
TARGETS = {
    (20, 1_000_000, 0): (7, 50),
    (20, 1_000_000, 2): (7, 30),
    (20, 10_000_000, 0): (10, 15),
    (20, 10_000_000, 2): (10, 12),
    (64, 100_000, 0): (None, 300),
}
"""How many times less CPU than Flower's a member and the coordinator are to need."""

ROUNDS = 10
"""Rounds measured of a session's 32, as many as a run has by default: the first one allocates what
the others use again."""

OURS, FLOWER = "touchstone", "flwr SecAgg+"


@dataclass
class Row:
    """One configuration of one implementation, in CPU seconds."""

    name: str
    members: int
    params: int
    lost: int
    member: float = 0.0
    coordinator: float = 0.0
    opening: float = 0.0
    hashing: float = 0.0
    setup_member: float = 0.0
    setup_coordinator: float = 0.0
    upload_bytes: float = 0.0
    peak_bytes: float = 0.0
    error: str = ""


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


def plot(rows: list[Row], target: Path) -> None:
    """Draw coordinator and member CPU, ours beside Flower's, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "touchstone"
    from matplotlib import pyplot

    cases = list(dict.fromkeys((row.members, row.params, row.lost) for row in rows))
    labels = [f"n={n}, {params:,}\n{lost} lost" for n, params, lost in cases]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.7 * len(cases) + 1.6), sharey=True)
    colours = {OURS: "#1b6e53", FLOWER: "#b0b0b0"}
    for axis, name in zip(axes, ("coordinator", "member"), strict=True):
        for shift, (peer, colour) in zip((-0.2, 0.2), colours.items(), strict=True):
            found = {(r.members, r.params, r.lost): r for r in rows if r.name == peer}
            places = [i for i, case in enumerate(cases) if case in found]
            values = [getattr(found[cases[i]], name) * 1e3 for i in places]
            bars = axis.barh([i + shift for i in places], values, 0.38, color=colour, label=peer)
            axis.bar_label(bars, fmt="%.0f ms", padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.set_title(f"{name}: CPU a round" + ("" if name == "member" else ", SHA-256 apart"))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(cases)), labels)
    axes[0].invert_yaxis()
    axes[1].legend(frameon=False, loc="upper right")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def cpu_flags() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    wanted = ("aes", "vaes", "sha_ni", "avx2", "avx512f")
    return " ".join(flag if flag in flags else f"no-{flag}" for flag in wanted)


HEAD = (
    f"{'':13}{'n':>4}{'params':>10}{'lost':>5}{'member ms':>11}{'coord ms':>10}{'open':>6}"
    f"{'sha256 ms':>11}{'set-up m/c':>14}{'B/param':>9}{'coord MiB':>11}"
)


def line(row: Row) -> str:
    setup = f"{row.setup_member * 1e3:.1f}/{row.setup_coordinator * 1e3:.1f}"
    memory = f"{row.peak_bytes / 2**20:.0f}" if row.peak_bytes else "-"
    return (
        f"{row.name:13}{row.members:>4}{row.params:>10}{row.lost:>5}{row.member * 1e3:>11.1f}"
        f"{row.coordinator * 1e3:>10.1f}{row.opening * 1e3:>6.1f}{row.hashing * 1e3:>11.1f}"
        f"{setup:>14}{row.upload_bytes / row.params:>9.2f}{memory:>11}  {row.error}"
    )


def verdict(ratio: float, target: int | None) -> str:
    """Say whether a ratio reaches its target, where it has one."""
    if target is None:
        return ""
    return f" (target {target}x: {'met' if ratio >= target else 'missed'})"


def ratios(rows: list[Row]) -> None:
    for ours in rows:
        for peer in rows:
            same = (ours.members, ours.params, ours.lost) == (peer.members, peer.params, peer.lost)
            if ours.name == OURS and peer.name != ours.name and same:
                member, desk = peer.member / ours.member, peer.coordinator / ours.coordinator
                all_in = peer.coordinator / (ours.coordinator + ours.hashing)
                case = (ours.members, ours.params, ours.lost)
                wanted = TARGETS.get(case, (None, None))
                print(
                    f"ratio n={ours.members} params={ours.params} lost={ours.lost}: "
                    f"member {member:.1f}x{verdict(member, wanted[0])}, "
                    f"coordinator {desk:.1f}x{verdict(desk, wanted[1])} "
                    f"({all_in:.1f}x with hashing), "
                    f"bytes {peer.upload_bytes / ours.upload_bytes:.2f}x"
                    + (
                        f", memory {peer.peak_bytes / ours.peak_bytes:.1f}x"
                        if ours.peak_bytes
                        else ""
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
