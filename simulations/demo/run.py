"""One training run, followed from its start to its release, with a member killed on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from coordinator.db import Database
from coordinator.db.records import Refusal, Round, Run, RunState
from participant.deployment.state import read_state
from shared.clock import SystemClock
from simulations.demo.alliance import Alliance, Member, until
from simulations.demo.processes import StepFailed
from simulations.demo.stage import Bar

POLL_S = 0.1
AWAY_S = 3.0
"""How long the killed member stays down before its node is started again."""

DEPLOY_S = 240.0


@dataclass(frozen=True)
class Killing:
    """A member to kill with SIGKILL while round ``in_round`` is open."""

    member: Member
    in_round: int


@dataclass
class Story:
    """What happened in one run.

    Attributes:
        run: its row at the end.
        rounds: every attempt at every round, in order.
        refusals: members whose policy said no.
        killed: name of the member that was killed, its index, and when.
        back_at: when its node was started again.
    """

    run: Run
    rounds: list[Round] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    killed: str = ""
    killed_index: int = 0
    killed_in_round: int = 0
    killed_at: datetime | None = None
    back_at: datetime | None = None

    @property
    def summed(self) -> list[Round]:
        """The attempts that went into the model."""
        return [item for item in self.rounds if item.state == "summed"]

    @property
    def missed(self) -> list[int]:
        """Rounds that were summed without the killed member, from the kill on."""
        return [
            item.round for item in self._after_kill() if self.killed_index not in item.survivors
        ]

    @property
    def rejoined(self) -> list[int]:
        """Rounds the killed member took part in after it was back."""
        return [
            item.round
            for item in self._after_kill()
            if self.killed_index in item.survivors
            and item.ended_at is not None
            and self.back_at is not None
            and item.ended_at > self.back_at
        ]

    def _after_kill(self) -> list[Round]:
        return [item for item in self.summed if item.round >= self.killed_in_round]

    @property
    def evaluated(self) -> list[Round]:
        """Rounds in which the incoming model was evaluated under the secure sum."""
        return [item for item in self.summed if item.metrics]

    def check(self) -> None:
        """Hold the run to what the demonstration promises.

        Raises:
            StepFailed: it did not complete, or the killed member never took part again.
        """
        if self.run.state is not RunState.COMPLETED or not self.run.release_id:
            reason = f"{self.run.reason_code} {self.run.reason}".strip()
            raise StepFailed(f"the run ended as {self.run.state.value}: {reason}")
        if self.killed and not self.rejoined:
            raise StepFailed(f"{self.killed} came back but took part in no later round")


class Follower:
    """Starts one run and reads its course from the coordinator's database.

    Args:
        alliance: up and connected.
        killing: whom to kill, and when; None lets everybody live.
    """

    def __init__(self, alliance: Alliance, killing: Killing | None) -> None:
        self._alliance, self._killing = alliance, killing

    def run(self, rounds: int, settings: Sequence[str]) -> Story:
        """Run ``rounds`` rounds with the given options of `run start`; return what happened."""
        alliance = self._alliance
        started = alliance.processes.run(
            "coordinator", "run", "start", "--dir", alliance.coordinator_dir,
            "--rounds", str(rounds), *settings,
        )  # fmt: skip
        db = Database.open(alliance.coordinator_dir)
        try:
            with alliance.stage.phase("train under the secure sum", rounds) as bar:
                story = self._follow(db, started["run_id"], bar)
        finally:
            db.close()
        story.check()
        return story

    def _follow(self, db: Database, run_id: str, bar: Bar) -> Story:
        story, up_again = Story(_run(db, run_id)), 0.0
        victim = self._killing.member if self._killing else None
        while not story.run.state.terminal:
            time.sleep(POLL_S)
            story.run = _run(db, run_id)
            story.rounds = db.read("rounds", lambda unit: unit.rounds.of_run(run_id))
            if self._killing and story.killed_at is None and self._due(self._killing, story):
                self._kill(self._killing.member, story)
                up_again = time.monotonic() + AWAY_S
            elif victim and story.killed_at and not story.back_at and time.monotonic() >= up_again:
                self._alliance.bring_up(victim)
                story.back_at = SystemClock().now()
            down = story.killed_at is not None and story.back_at is None
            self._alliance.check_alive(away=victim if down else None)
            bar.show(len(story.summed), _note(story, down=down))
        story.refusals = db.read("refusals", lambda unit: unit.rounds.refusals(run_id))
        return story

    @staticmethod
    def _due(killing: Killing, story: Story) -> bool:
        return bool(story.rounds) and story.rounds[-1].round >= killing.in_round

    @staticmethod
    def _kill(victim: Member, story: Story) -> None:
        assert victim.node is not None  # noqa: S101 - the alliance was assembled
        victim.node.kill()
        story.killed, story.killed_index = victim.name, victim.index
        story.killed_in_round = story.rounds[-1].round
        story.killed_at = SystemClock().now()


def _run(db: Database, run_id: str) -> Run:
    return db.read("run", lambda unit: unit.runs.get(run_id))


def _note(story: Story, *, down: bool) -> str:
    if not story.rounds:
        return "waiting for consent and keys"
    newest = story.rounds[-1]
    parts = [f"round {newest.round}: {len(newest.participants)} members, {newest.state}"]
    if down:
        parts.append(f"{story.killed} is down (kill -9)")
    elif story.back_at is not None:
        parts.append(f"{story.killed} is up again")
    return " · ".join(parts)


def wait_deployed(alliance: Alliance) -> None:
    """Wait until every node has judged the release and something runs there.

    Raises:
        TimedOut: a node did not decide in time.
        StepFailed: a node ended.
    """
    with alliance.stage.phase("judge and deploy the release", len(alliance.members)) as bar:
        for member in alliance.members:

            def decided(models: Path = member.folder / "models") -> bool:
                alliance.check_alive()
                return read_state(models).active is not None

            until(decided, f"{member.name} to judge the release", DEPLOY_S)
            bar.step(member.name)
