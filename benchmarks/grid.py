"""One exchange over the alliance grid: model out, vector of the same size back, no computation.

Everything is real except the distance: gRPC, mutual TLS, chunks, digests, grants; five nodes and
the coordinator share this process and loopback. Flower's SuperLink, as deployed, took 6.3-9.3 s for
one exchange with three nodes on a machine of two cores (3 s polls on both sides, a process spawned
for each message).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from pathlib import Path

import structlog

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos")]

from tests.support.fleet import Fleet, instruct  # noqa: E402

SUPERLINK_S = (6.3, 9.3)


def exchange(fleet: Fleet, members: int, values: int) -> float:
    """Return seconds from handing over the instructions to holding every reply."""
    messages = [instruct(fleet, index, values) for index in range(1, members + 1)]
    start = time.perf_counter()
    replies = 0
    for reply in fleet.grid.iter_replies(fleet.grid.push_messages(messages), timeout=60):
        replies += not reply.has_error()
    assert replies == members, f"{replies} of {members} replied"
    return time.perf_counter() - start


def measure(members: int, values: int, repeats: int) -> list[float]:
    """Return the seconds of ``repeats`` exchanges after one to warm up."""
    fleet = Fleet(members)
    try:
        for index in range(1, members + 1):
            fleet.node(index)
        fleet.wait_connected(*range(1, members + 1))
        return [exchange(fleet, members, values) for _ in range(repeats + 1)][1:]
    finally:
        fleet.close()


def main() -> None:
    """Measure, and print a line and the ratio (or one JSON object)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--values", type=int, default=1_000_000, help="float32 values")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    seconds = measure(args.members, args.values, args.repeats)
    median = statistics.median(seconds)
    megabytes = 2 * args.members * args.values * 4 / 1e6
    result = {
        "members": args.members,
        "megabytes_each_way": args.values * 4 / 1e6,
        "median_s": round(median, 4),
        "worst_s": round(max(seconds), 4),
        "megabytes_per_s": round(megabytes / median, 1),
        "superlink_over_grid": [round(s / median, 1) for s in SUPERLINK_S],
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.members} members, {result['megabytes_each_way']:.1f} MB each way")
    print(f"median {median:.3f} s, worst {max(seconds):.3f} s, {megabytes / median:.0f} MB/s")
    low, high = result["superlink_over_grid"]
    print(f"Flower's SuperLink (3 nodes): {low:.0f} to {high:.0f} times as long")


if __name__ == "__main__":
    main()
