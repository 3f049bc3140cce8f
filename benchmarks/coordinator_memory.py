"""The coordinator's peak memory in a secure run, as members and model grow.

Usage: python benchmarks/coordinator_memory.py [--case 6x19 --case 24x19 ...] [--repeat 1]
           [--json FILE]

A case is members x hash bits. Each starts a real coordinator process on loopback with mutual TLS
and gRPC, and one process with all its members: real connections and real masks, an update that is
ready. Idle memory is taken with every member connected and no run; the peak (``VmHWM``) covers the
set-up and every round. Their difference is given in masked vectors, 8/3 bytes a parameter. With
``--repeat`` each figure is the median of that many runs, and the growths are listed. The last
case's embeddings are one wider, which makes it a model of 10.5 million parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loopback import forget_peak, memory, wait

from coordinator import serving
from coordinator.db import Database
from coordinator.rounds.launch import start_run
from coordinator.rounds.plan import RunSettings
from coordinator.rounds.supervisor import Supervisor
from shared.limits import MAX_UPLOADS
from shared.model.layout import ModelSpec
from shared.secagg import Layout

CASES = ("6x19", "24x19", "48x19", "20x20")
ROUNDS = 2


def spec_of(hash_bits: int) -> ModelSpec:
    """Return the model measured: 4.7 M parameters at 19 bits, 10.5 M at 20."""
    return ModelSpec(hash_bits=hash_bits, embed_dim=9 if hash_bits == 20 else 8)


@dataclass
class Figures:
    """One case, in bytes of the coordinator's resident memory."""

    members: int
    params: int
    vector: int
    idle: int
    peak: int
    seconds: float

    def line(self) -> str:
        """Return the figures for a person."""
        grown = self.peak - self.idle
        return (
            f"{self.members:>7}{self.params:>12,}{self.vector / 2**20:>11.1f}"
            f"{self.idle / 2**20:>9.0f}{self.peak / 2**20:>9.0f}{grown / 2**20:>9.0f}"
            f"{grown / self.vector:>10.1f}{self.seconds:>9.1f}"
        )


def median(found: list[Figures]) -> Figures:
    """Return the median of each figure of one case."""
    names = ("idle", "peak", "seconds")
    middle = {name: statistics.median(getattr(one, name) for one in found) for name in names}
    return replace(found[0], **middle)


HEAD = (
    f"{'members':>7}{'params':>12}{'vector MiB':>11}{'idle':>9}{'peak':>9}{'growth':>9}"
    f"{'vectors':>10}{'run s':>9}"
)


def measure(root: Path, count: int, hash_bits: int) -> Figures:
    """Run one case."""
    from light_members import alliance  # not in the coordinator's process, which is measured

    coordinator = alliance(root, count)
    members = Path(__file__).with_name("light_members.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    children: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, *arguments]
        with (root / "log.txt").open("ab") as log:
            children.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return children[-1]

    database = Database.open(coordinator)
    try:
        server = start(__file__, "--serve", coordinator, "--hash-bits", str(hash_bits))
        start(members, root)
        seen = lambda: database.read("members", lambda unit: unit.members.all())  # noqa: E731
        wait(lambda: all(member.last_seen_at is not None for member in seen()), 120)
        idle = memory(server.pid, "VmRSS")
        forget_peak(server.pid)
        began = time.monotonic()
        run_id = start_run(coordinator, database, settings(hash_bits))
        get = lambda: database.read("run", lambda unit: unit.runs.get(run_id))  # noqa: E731
        wait(lambda: get().state.terminal, 600)
        seconds, peak = time.monotonic() - began, memory(server.pid, "VmHWM")
    finally:
        for child in children:
            child.kill()
            child.wait()
    if get().state.value != "completed":
        raise SystemExit(f"the run ended {get().state.value}: {get().reason}")
    database.close()
    params = spec_of(hash_bits).n_params
    vector = 8 * Layout(params, evaluates=False).words
    return Figures(count, params, vector, idle, peak, seconds)


def settings(hash_bits: int) -> RunSettings:
    """Return the run measured, for a model of the benchmark's own size."""
    RunSettings.model_spec = lambda _self: spec_of(hash_bits)
    return RunSettings(rounds=ROUNDS, hash_bits=hash_bits, evaluate_every=1000, setup_s=120)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="members x hash bits, for example 24x19")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each case")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--hash-bits", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        settings(arguments.hash_bits)
        asyncio.run(serving.serve(arguments.serve, Supervisor))
        return
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load average {load:.1f}; {MAX_UPLOADS} uploads at once; MiB")
    print(HEAD)
    figures = []
    for case in arguments.case or CASES:
        count, bits = (int(part) for part in case.split("x"))
        found = []
        for _ in range(arguments.repeat):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measure(Path(folder), count, bits))
        figures.append(median(found))
        grown = ", ".join(f"{(one.peak - one.idle) / 2**20:.0f}" for one in found)
        print(figures[-1].line() + (f"  ({grown})" if len(found) > 1 else ""), flush=True)
    if arguments.json:
        told = {"load": load, "max_uploads": MAX_UPLOADS, "cases": [asdict(f) for f in figures]}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
