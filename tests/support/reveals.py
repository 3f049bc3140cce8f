"""Every share that leaves a member, written down as it leaves: by whom, for what, and its bytes.

A member's own witnesses keep one entry a round, so they cannot tell of two. This can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from participant.node.runs import MemberRun
from shared.secagg import peek
from shared.secagg.wire import RELEASE, UNMASK

FILE = "reveals.txt"
REVEALS = (f"{UNMASK}-reply", f"{RELEASE}-reply")
"""Answers with shares in them; a signature over survivors is none."""


@dataclass(frozen=True)
class Reveal:
    """Shares that a member gave: for which round, slot and survivors, and in which bytes."""

    run: str
    kind: str
    round: int
    ordinal: int
    slot: int
    t2: str
    bitmap: str
    answer: str


def noting(handle: Callable[[MemberRun, bytes], bytes]) -> Callable[[MemberRun, bytes], bytes]:
    """Return ``MemberRun.handle`` that writes down what it reveals, in the member's folder."""

    def noted(run: MemberRun, request: bytes) -> bytes:
        answer = handle(run, request)
        if peek(request).kind not in (UNMASK, RELEASE):
            return answer
        head = peek(answer)
        if head.kind in REVEALS:
            told = run._member.answered_round()  # type: ignore[union-attr]
            assert told is not None
            given = Reveal(
                head.run_id.hex(), head.kind, told.round, head.ordinal, told.slot,
                told.t2.hex(), told.bitmap.hex(), hashlib.sha256(answer).hexdigest(),
            )  # fmt: skip
            with (run._own.witnesses.parent / FILE).open("a") as file:
                file.write(" ".join(map(str, vars(given).values())) + "\n")
        return answer

    return noted


def reveals(member_dir: Path, run_id: str) -> list[Reveal]:
    """Return what a member gave in a run, oldest first, repetitions included."""
    path = member_dir / FILE
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split() for line in lines]
    found = [Reveal(a, b, int(c), int(d), int(e), f, g, h) for a, b, c, d, e, f, g, h in rows]
    return [item for item in found if item.run == run_id]


def revealed_once(member_dir: Path, run_id: str) -> dict[int, Reveal]:
    """Return what a member gave in each round of a run; fail if that is more than one thing."""
    given: dict[int, Reveal] = {}
    for item in reveals(member_dir, run_id):
        assert given.setdefault(item.round, item) == item, "a round was released twice"
    return given
