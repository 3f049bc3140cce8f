"""What both demonstrations have in common: an alliance, one run with a killed member, a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.rounds.plan import RunSettings
from shared.model.layout import ModelSpec
from simulations.demo.alliance import Alliance, Member
from simulations.demo.exposure import Exposure, examine
from simulations.demo.models import holdouts
from simulations.demo.processes import Processes
from simulations.demo.run import Follower, Killing, Story, wait_deployed
from simulations.demo.stage import Stage

HASH_BITS = 16
"""2^16 rows serve an alliance as small as this one."""

TIMEOUTS = ("--away-s", "30", "--setup-s", "20")
"""A round of this size is over in a second, the start of a node takes several. A round that loses a
member waits so long for it, else the run would be over before the member is back."""

KILL_IN_ROUND = 4


@dataclass(frozen=True)
class Scenario:
    """An alliance to found and a run to make.

    Attributes:
        name: of the alliance.
        members: who joins, with their files.
        policy: every member's policy file.
        kind: ``listing`` or ``shop``.
        rounds: of the run; at least two more than :data:`KILL_IN_ROUND`.
        options: further options of `run start`.
        victim: which of ``members`` is killed; None lets everybody live.
        kill_in_round: in which round.
    """

    name: str
    members: list[Member]
    policy: str
    kind: str
    rounds: int
    options: Sequence[str] = ()
    victim: int | None = 1
    kill_in_round: int = KILL_IN_ROUND


@dataclass(frozen=True)
class Played:
    """What came of a scenario.

    Attributes:
        alliance: still up.
        story: the run.
        exposure: what the coordinator holds now.
        evaluation_tells: whether hold-outs are large enough for the secure evaluation.
        spec: of the model.
    """

    alliance: Alliance
    story: Story
    exposure: Exposure
    spec: ModelSpec
    evaluation_tells: bool

    @property
    def release_id(self) -> str:
        """The release, hex."""
        return self.story.run.release_id or ""

    @property
    def bytes_up(self) -> float:
        """Mean bytes that one member sent in a round."""
        summed = self.story.summed
        return sum(r.bytes_up / len(r.participants) for r in summed) / len(summed)


def play(stage: Stage, processes: Processes, folder: Path, scenario: Scenario) -> Played:
    """Assemble the alliance, train, release, and wait until every node has judged the release.

    Raises:
        TouchstoneError: a step failed, or a promise was not kept.
    """
    alliance = Alliance(
        processes,
        stage,
        folder,
        name=scenario.name,
        members=scenario.members,
        policy=scenario.policy,
    )
    alliance.assemble()
    killing = None
    if scenario.victim is not None:
        killing = Killing(scenario.members[scenario.victim], scenario.kill_in_round)
    options = ("--kind", scenario.kind, "--hash-bits", str(HASH_BITS), *TIMEOUTS)
    story = Follower(alliance, killing).run(scenario.rounds, (*options, *scenario.options))
    wait_deployed(alliance)
    settings = RunSettings(hash_bits=HASH_BITS)
    spec = settings.model_spec()
    with stage.phase("search the coordinator"):
        exposure = examine(alliance.coordinator_dir, scenario.members, spec, known=scenario.name)
        tells = max(holdouts(scenario.members, scenario.kind, spec)) >= settings.min_holdout
    return Played(alliance, story, exposure, spec, tells)
