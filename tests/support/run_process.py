"""The coordinator and a node as processes that kill themselves at a named point, once.

``python -m tests.support.run_process serve|up --dir D [--die POINT]``: production code but for the
learner, which moves every weight by ``--step``. A file in the folder remembers that it died.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from coordinator import serving
from coordinator.rounds.journal import Journal
from coordinator.rounds.round import RoundExchange
from coordinator.rounds.run import RunDriver
from coordinator.rounds.supervisor import Supervisor
from participant.app import make_app
from participant.node import daemon
from participant.node.runs import MemberRun
from participant.node.runtime import NodeRuntime
from shared.console import run_app, say
from shared.secagg import Coordinator
from tests.support.reveals import noting
from tests.support.runs import KnownLearner

app = typer.Typer()
DIR = typer.Option(..., "--dir")
DIE = typer.Option("", "--die")
STEP = typer.Option(0.0, "--step")
GATE = typer.Option(None, "--gate")
ROUND = 2
"""The round in which processes die."""

UPLOADS = "uploads.txt"


def die(folder: Path) -> None:
    """Kill this process as ``kill -9`` would, unless it died here before."""
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def leave(folder: Path) -> None:
    """End this process for good, unless it left before: nobody starts it again."""
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os._exit(0)


def before(owner: Any, name: str, hook: Callable[..., None]) -> None:
    """Call ``hook`` before a method."""
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        hook(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, hook: Callable[..., None]) -> None:
    """Call ``hook`` after a method."""
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        hook(self, *args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def uploads(folder: Path) -> list[tuple[str, str]]:
    """Return slot and digest of every masked vector that left a member, oldest first."""
    path = folder / UPLOADS
    lines = path.read_text().splitlines() if path.exists() else []
    return [(slot, digest) for slot, digest in (line.split() for line in lines)]


def note_uploads(folder: Path) -> None:
    """Write down every masked vector that is about to leave."""
    masked = MemberRun.masked

    def noted(self: MemberRun, *args: Any) -> Any:
        upload = masked(self, *args)
        member = self._open_member()
        slot = f"{member.terms.ordinal}.{member._slot().slot}"
        with (folder / UPLOADS).open("a") as file:
            file.write(f"{slot} {hashlib.sha256(upload.vector.tobytes()).hexdigest()}\n")
        return upload

    MemberRun.masked = noted  # type: ignore[method-assign]


def pass_gate(gate: Path) -> None:
    """Wait until the test has made ``gate``."""
    while not gate.exists():
        time.sleep(0.05)


def in_round(journal: Journal) -> bool:
    return journal.checkpoint().round == ROUND - 1


@app.command()
def serve(folder: Path = DIR, point: str = DIE) -> None:
    saved: list[int] = []

    def on_save(journal: Journal, _state: bytes) -> None:
        if not in_round(journal) or journal.round() is None:
            return
        saved.append(1)
        wanted = {"slot": 1, "bitmap": 2, "first-share": 3}
        if len(saved) == wanted.get(point):
            die(folder)

    uploaded: list[int] = []

    def on_upload(exchange: RoundExchange, *_: Any) -> None:
        if in_round(exchange._journal):
            uploaded.append(1)
            if len(uploaded) == 2:
                die(folder)

    after(Journal, "save_round", on_save)
    if point == "uploads":
        after(RoundExchange, "_take_masked", on_upload)
    if point == "certificate":
        before(Coordinator, "on_release", lambda *_: die(folder))
    if point == "completed":
        before(RunDriver, "_tell_end", lambda *_: die(folder))
    if point == "before-checkpoint":
        before(Journal, "finish_round", lambda j, *_: in_round(j) and die(folder))
    if point == "after-checkpoint":
        after(Journal, "finish_round", lambda _j, number, *_: number == ROUND and die(folder))
    asyncio.run(serving.serve(folder, Supervisor, ready=say))


@app.command()
def up(folder: Path = DIR, point: str = DIE, step: float = STEP, gate: Path | None = GATE) -> None:
    def now(run: MemberRun) -> bool:
        return bool(run._guard.last_released_round == ROUND - 1)

    if gate is not None:
        # The round after the death lasts until the test has seen what it waits for.
        before(
            MemberRun,
            "_vector",
            lambda run, *_: run._guard.last_released_round == ROUND and pass_gate(gate),
        )
    if point == "charged":
        after(MemberRun, "_charge", lambda run, *_: now(run) and die(folder))
    if point == "noised":
        after(MemberRun, "_vector", lambda run, *_: now(run) and die(folder))
    if point == "mask-not-kept":
        before(MemberRun, "_save", lambda run, upload=b"": upload and now(run) and die(folder))
    note_uploads(folder)
    MemberRun.handle = noting(MemberRun.handle)  # type: ignore[method-assign]
    if point == "leaves":
        before(MemberRun, "_vector", lambda run, *_: now(run) and leave(folder))
    if point == "training":
        before(MemberRun, "_vector", lambda run, *_: now(run) and die(folder))
    if point == "masked":
        after(MemberRun, "masked", lambda run, *_: now(run) and die(folder))
    if point == "before-release":
        before(
            MemberRun,
            "handle",
            lambda run, *_: now(run) and run._member.answered_round() is None and die(folder),
        )
    if point == "released":
        after(
            MemberRun,
            "handle",
            lambda run, *_: run._guard.last_released_round == ROUND and die(folder),
        )
    runtimes: dict[Path, NodeRuntime] = {}

    def runtime(state_dir: Path) -> NodeRuntime:
        if state_dir not in runtimes:
            runtimes[state_dir] = NodeRuntime(
                state_dir, make_learner=lambda _store, _kind, spec: KnownLearner(step, spec)
            )
        return runtimes[state_dir]

    daemon.up(folder, lambda: make_app(runtime), tell=say)


if __name__ == "__main__":
    sys.exit(run_app(app, "run_process"))
